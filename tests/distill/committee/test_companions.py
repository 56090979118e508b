"""Labels without what the companions add: student times companions is the committee."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.committee.companions import Companions
from pocketrec.distill.committee.soft_labels import SoftLabels, write_soft_labels
from pocketrec.distill.config import SoftLabelConfig
from pocketrec.distill.data.splits import EvalSet, Sequences

N = 12
TRAIN = Sequences.from_lists([[0, 1, 2, 3], [4, 5], [6, 7, 8, 9, 10, 11]])


class ByNewest:
    """Logits by the newest item: a table [N, N]."""

    def __init__(self, seed, scale=1.0):
        self.table = scale * torch.randn(N, N, generator=torch.Generator().manual_seed(seed))

    def item_logits(self, batch):
        return self.table[batch.inputs.flatten()[batch.loss_at]]


def labels_of(folder, committee, companions, top):
    write_soft_labels(
        folder, committee.item_logits, TRAIN, N, 20, SoftLabelConfig(top=top), companions=companions
    )  # fmt: skip
    return SoftLabels(folder, TRAIN).at(TRAIN.event_positions())


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_student_and_companions_together_are_the_committee(tmp_path, strength):
    committee, crowd, words = ByNewest(0, 2.0), ByNewest(1), ByNewest(2)
    companions = Companions({"crowd": crowd, "words": words}, {"crowd": 0.6, "words": 1.5}, strength)
    whole, wanted = labels_of(tmp_path / "a", committee, None, N)
    items, target = labels_of(tmp_path / "b", committee, companions, N)
    assert np.allclose(target.sum(1), 1, atol=2e-3)
    assert (np.diff(target, axis=1) <= 0).all()
    newest = np.concatenate([[0, *h[:-1]] for h in TRAIN])  # before the first item, the batch holds row 0
    for row in range(len(items)):
        joined = np.zeros(N)
        joined[items[row]] = target[row]
        added = 0.6 * crowd.table[newest[row]].numpy() + 1.5 * words.table[newest[row]].numpy()
        joined *= np.exp(strength * added)
        expected = np.zeros(N)
        expected[whole[row]] = wanted[row]
        assert np.allclose(joined / joined.sum(), expected, atol=5e-3)  # labels are of 16 bits


def test_the_items_are_the_committees_best_whatever_the_companions_push(tmp_path):
    committee, crowd = ByNewest(0), ByNewest(1, 20.0)
    plain, _ = labels_of(tmp_path / "a", committee, None, 4)
    items, target = labels_of(tmp_path / "b", committee, Companions({"crowd": crowd}, {"crowd": 1.0}), 4)
    assert np.array_equal(np.sort(items, 1), np.sort(plain, 1))
    assert np.allclose(target.sum(1), 1, atol=2e-3)


def test_what_the_companions_know_already_leaves_nothing_to_learn(tmp_path):
    """A committee that is its companions: every item is as likely."""
    crowd = ByNewest(3)
    _, target = labels_of(tmp_path, crowd, Companions({"crowd": crowd}, {"crowd": 1.0}), N)
    assert np.allclose(target, 1 / N, atol=1e-3)


def test_weights_are_fitted_beside_the_trained_members_alone():
    newest = np.random.default_rng(0).integers(0, N, 2000)
    trained, graph, crowd = ByNewest(5, 2.0), ByNewest(6, 2.0), ByNewest(6, 2.0)
    likely = (trained.table + 0.5 * graph.table).softmax(1).numpy()
    targets = np.array([np.random.default_rng(i).choice(N, p=likely[row]) for i, row in enumerate(newest)], np.int32)
    cases = EvalSet(Sequences.from_lists([[int(i)] for i in newest]), targets)
    members = {"sasrec": trained, "graph": graph}
    found = Companions.fit({"crowd": crowd}, members, cases, N, 20, 1.0)
    assert found.weights["crowd"] == pytest.approx(0.5, abs=0.15)
