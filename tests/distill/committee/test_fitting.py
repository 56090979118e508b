"""The committee's weights: never worse on validation than the best member, whatever the likelihood says."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from pocketrec.distill.committee.committee import Committee
from pocketrec.distill.committee.fitting import fit_committee, fit_likelihood
from pocketrec.distill.committee.labelling import write_labels
from pocketrec.distill.config import RunConfig
from pocketrec.distill.data.splits import EvalSet, Sequences, Split
from pocketrec.distill.evaluation.metrics import gains, ranks_of
from pocketrec.distill.models.item_model import ItemRanker

N = 60


class ByNewest:
    """Logits by the newest item: a table [N, N]."""

    def __init__(self, table):
        self.table = torch.tensor(table, dtype=torch.float32)

    def item_logits(self, batch):
        return self.table[batch.inputs.flatten()[batch.loss_at]]


def cases(users=400, seed=0):
    """A history of one item, and the next item of the ring."""
    newest = np.random.default_rng(seed).integers(0, N, users)
    return EvalSet(Sequences.from_lists([[int(i)] for i in newest]), ((newest + 1) % N).astype(np.int32))


def sure_and_often_right():
    """Right four times of five, and then certain; else certain of all other items: unlikely, but it ranks well."""
    table = np.zeros((N, N))
    right = np.arange(N) % 5 > 0
    table[np.arange(N), (np.arange(N) + 1) % N] = np.where(right, 12.0, -80.0)
    return ByNewest(table)


def likely_but_in_no_order():
    """The target is always among fifteen items that are likely alike: a good likelihood, and a rank by chance."""
    chance = np.random.default_rng(1)
    table = np.full((N, N), -8.0)
    for item in range(N):
        near = (item + 1 + np.arange(15)) % N
        table[item, near] = chance.normal(0, 1.5, 15)
        table[item, (item + 1) % N] = -0.5
    return ByNewest(table)


def misleading():
    """The target is always last."""
    table = np.zeros((N, N))
    table[np.arange(N), (np.arange(N) + 1) % N] = -2.0
    return ByNewest(table)


def noise():
    return ByNewest(np.random.default_rng(0).normal(0, 3, (N, N)))


def ndcg(model, asked, exclude_seen=True):
    found = ItemRanker(model, 20).rank(asked.histories, 20, exclude_seen)
    return gains(ranks_of(found, asked.targets), "ndcg@10").mean()


def test_a_committee_is_never_worse_than_its_best_member_though_the_likelihood_is():
    members, asked = {"sure": sure_and_often_right(), "likely": likely_but_in_no_order()}, cases()
    by_likelihood, nll = fit_likelihood(members, asked, N, 20)
    assert nll["likely"] < nll["sure"]
    assert ndcg(Committee(members, by_likelihood), asked) < ndcg(members["sure"], asked)  # what this is about
    assert fit_committee(members, asked, N, 20).rule == "ranking"


@pytest.mark.parametrize("combine", ["geometric", "arithmetic"])
@pytest.mark.parametrize("other", ["likely", "misleading", "noise"])
def test_no_member_alone_ranks_validation_better(combine, other):
    second = {"likely": likely_but_in_no_order(), "misleading": misleading(), "noise": noise()}[other]
    members, asked = {"sure": sure_and_often_right(), other: second}, cases()
    fitted = fit_committee(members, asked, N, 20, combine)
    found = ndcg(Committee(members, fitted.weights), asked)
    assert found >= max(ndcg(member, asked) for member in members.values())
    assert found == pytest.approx(fitted.ndcg["committee"], abs=1e-6)
    assert fitted.ndcg["sure"] == pytest.approx(ndcg(members["sure"], asked), abs=1e-6)


def test_a_member_that_does_not_help_gets_0_and_the_record_says_why():
    members, asked = {"sure": sure_and_often_right(), "misleading": misleading()}, cases()
    fitted = fit_committee(members, asked, N, 20)
    assert fitted.weights.used == ["sure"]
    assert set(fitted.to_dict()["left_out"]) == {"misleading"}


def test_likely_weights_stay_where_they_rank_as_well():
    """Targets are drawn from the product of both members, so no other weights are better."""
    chance = np.random.default_rng(4)
    tables = [chance.normal(0, 2, (N, N)) for _ in range(2)]
    likely = torch.tensor(0.7 * tables[0] + 0.7 * tables[1]).softmax(1).numpy()
    newest = chance.integers(0, N, 600)
    targets = np.array([chance.choice(N, p=likely[item]) for item in newest], np.int32)
    again = targets == newest
    asked = EvalSet(Sequences.from_lists([[int(i)] for i in newest[~again]]), targets[~again])
    members = {name: ByNewest(table) for name, table in zip("ab", tables, strict=True)}
    fitted = fit_committee(members, asked, N, 20)
    assert fitted.rule == "likelihood"
    assert fitted.weights == fit_likelihood(members, asked, N, 20)[0]
    assert fitted.left_out == {}
    assert min(fitted.weights.exponents.values()) > 0.5


def test_seen_items_have_a_weight_of_their_own_where_people_return():
    generator = np.random.default_rng(0)
    histories = [generator.choice(N, 4, replace=False).tolist() for _ in range(300)]
    asked = EvalSet(Sequences.from_lists(histories), np.array([h[0] for h in histories], np.int32))
    members = {"a": ByNewest(generator.normal(size=(N, N))), "b": ByNewest(generator.normal(size=(N, N)))}
    fitted = fit_committee(members, asked, N, 20)
    assert not fitted.exclude_seen
    assert fitted.weights.seen > 2
    assert ndcg(Committee(members, fitted.weights), asked, exclude_seen=False) > 0.5


def test_fitted_weights_are_probabilities_that_validation_finds_likely():
    members, asked = {"sure": sure_and_often_right(), "likely": likely_but_in_no_order()}, cases()
    fitted = fit_committee(members, asked, N, 20)
    exponents = fitted.weights.exponents
    assert 0.001 < sum(exponents.values()) < 2  # not the proportions of the search


def test_labels_are_written_with_the_record_and_the_user_is_told_what_is_left_out(tmp_path, caplog):
    asked = cases()
    split = Split(Sequences.from_lists([[1, 2, 3], [4, 5]]), asked, asked.take(slice(0, 50)), "rule")
    members = {"sasrec": sure_and_often_right(), "graph": misleading()}
    with caplog.at_level(logging.WARNING):
        record = write_labels(members, split, N, RunConfig(), tmp_path)
    assert "the committee leaves out graph: validation cases rank better without it" in caplog.text
    assert record["weights"]["exponents"]["graph"] == 0
    assert set(record["left_out"]) == {"graph"}
    assert record["test"]["committee"]["seen excluded"]["users"] == 50
