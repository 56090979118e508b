"""The committee: cross-fitted graphs, weights that validation chooses, one distribution out of several."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.committee.committee import Committee, CommitteeWeights
from pocketrec.distill.committee.fitting import fit_likelihood
from pocketrec.distill.committee.members import cross_fitted_graph, histories_of
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.models.item_model import ItemRanker, history_batch
from pocketrec.runtime.errors import ConfigError

N_ITEMS = 10


def ring(users=40, length=6, seed=0):
    generator = np.random.default_rng(seed)
    return Sequences.from_lists(
        [(np.arange(s, s + length) % N_ITEMS).tolist() for s in generator.integers(0, 10, users)]
    )


class Fixed:
    """The same logits for everybody."""

    def __init__(self, logits):
        self.logits = torch.tensor(logits, dtype=torch.float32)

    def item_logits(self, batch):
        return self.logits.expand(len(batch.loss_at), -1)


class Next:
    """Certain that the next item of the ring comes."""

    def item_logits(self, batch):
        newest = batch.inputs.flatten()[batch.loss_at]
        return 8.0 * torch.nn.functional.one_hot((newest + 1) % N_ITEMS, N_ITEMS).float()


def cases(train):
    return EvalSet(train.last(3), np.array([(h[-1] + 1) % N_ITEMS for h in train], np.int32))


def test_what_a_position_has_seen_is_its_own_history():
    train = ring(users=5)
    for micro_batches in WindowBatches(train, 20, 2, seed=0).epoch(0):
        for batch in micro_batches:
            owner, items, age = histories_of(batch)
            for number, event in enumerate(batch.events.tolist()):
                begin = train.starts[train.starts <= event].max()
                mine = owner == number
                assert items[mine][np.argsort(-age[mine])].tolist() == train.items[begin:event].tolist()


def test_a_user_is_labelled_by_a_graph_that_was_counted_without_them():
    lists = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]] * 2 + [[0, 9]]
    train = Sequences.from_lists(lists)
    once = cross_fitted_graph(train, N_ITEMS, folds=len(lists))
    everybody = cross_fitted_graph(train, N_ITEMS, folds=1)
    (micro_batches,) = WindowBatches(train, 20, 100, seed=0).epoch(0)
    batch = micro_batches[0]
    at = batch.events.tolist().index(train.ends[-1] - 1)  # the only transition from 0 to 9
    assert everybody.item_logits(batch)[at, 9].exp() > 0.2
    assert once.item_logits(batch)[at, 9].exp() < 0.05
    assert once.item_logits(batch)[at, 1].exp() > 0.8


def test_graph_logits_are_a_distribution_with_and_without_history():
    member = cross_fitted_graph(ring(), N_ITEMS, folds=5)
    logits = member.item_logits(history_batch(Sequences.from_lists([[1, 2, 3], []]), 20))
    assert torch.allclose(logits.exp().sum(1), torch.ones(2), atol=1e-5)
    assert int(logits[0].argmax()) == 4


def test_validation_cases_are_scored_by_the_whole_graph():
    train = ring(users=7)
    folds, whole = cross_fitted_graph(train, N_ITEMS, folds=7), cross_fitted_graph(train, N_ITEMS, folds=1)
    batch = history_batch(train.last(3), 20)
    assert torch.equal(folds.item_logits(batch), whole.item_logits(batch))


@pytest.mark.parametrize("combine", ["geometric", "arithmetic"])
def test_weights_go_to_the_member_that_knows(combine):
    members = {"knows": Next(), "noise": Fixed(np.random.default_rng(0).normal(size=N_ITEMS))}
    weights, quality = fit_likelihood(members, cases(ring()), N_ITEMS, 20, combine)
    assert quality["committee"] < min(quality["knows"], quality["noise"]) + 1e-4
    if combine == "geometric":
        assert weights.exponents["knows"] > 10 * abs(weights.exponents["noise"]) / 8
    else:
        assert weights.shares["knows"] > 0.9


def test_the_geometric_mean_is_the_product_of_the_members():
    a, b = np.random.default_rng(1).normal(size=(2, N_ITEMS))
    weights = CommitteeWeights("geometric", {"a": 0.7, "b": 0.2}, {"a": 0.5, "b": 0.5}, 0.0)
    batch = history_batch(Sequences.from_lists([[]]), 20)
    found = Committee({"a": Fixed(a), "b": Fixed(b)}, weights).item_logits(batch).softmax(1)[0].numpy()
    product = np.exp(a) ** 0.7 * np.exp(b) ** 0.2
    assert np.allclose(found, product / product.sum(), atol=1e-6)


def test_the_arithmetic_mean_is_the_sum_of_the_members():
    a, b = np.random.default_rng(1).normal(size=(2, N_ITEMS))
    weights = CommitteeWeights("arithmetic", {"a": 1.0, "b": 2.0}, {"a": 0.3, "b": 0.7}, 0.0)
    batch = history_batch(Sequences.from_lists([[]]), 20)
    found = Committee({"a": Fixed(a), "b": Fixed(b)}, weights).item_logits(batch).softmax(1)[0].numpy()
    expected = 0.3 * np.exp(a) / np.exp(a).sum() + 0.7 * np.exp(2 * b) / np.exp(2 * b).sum()
    assert np.allclose(found, expected, atol=1e-6)


def test_people_who_never_come_back_teach_the_committee_not_to_repeat():
    train = ring()
    repeats = Fixed(np.zeros(N_ITEMS))
    weights, _ = fit_likelihood({"flat": repeats}, cases(train), N_ITEMS, 20)
    assert weights.seen < -3
    ranked = ItemRanker(Committee({"flat": repeats}, weights), 20).rank(train.last(3), 7, exclude_seen=False)
    for row, history in zip(ranked, train.last(3), strict=True):
        assert not set(row.tolist()) & set(history.tolist())


def test_the_ranker_leaves_out_what_was_seen_and_pads():
    ranker = ItemRanker(Fixed(np.arange(N_ITEMS)), 20)
    histories = Sequences.from_lists([[9, 8], []])
    assert ranker.rank(histories, 3, exclude_seen=True).tolist() == [[7, 6, 5], [9, 8, 7]]
    assert ranker.rank(histories, 12, exclude_seen=True)[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0, -1, -1, -1, -1]


def test_weights_of_other_members_are_refused():
    with pytest.raises(ConfigError, match="fit the weights again"):
        Committee({"a": Fixed([0.0])}, CommitteeWeights("geometric", {"b": 1.0}, {"b": 1.0}, 0.0))
