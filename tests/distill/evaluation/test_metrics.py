"""Metrics from ranks, and the comparison of two systems."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pocketrec.distill.evaluation.metrics import gains, metrics_from_ranks, paired_difference
from pocketrec.runtime.errors import ConfigError, DataError


def test_gains_are_the_textbook_values():
    ranks = np.array([0, 1, 4, 5, 9, 10, -1], np.int32)
    assert gains(ranks, "recall@5").tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert gains(ranks, "recall@10").tolist() == [1, 1, 1, 1, 1, 0, 0]
    ndcg = [1.0, 1 / math.log2(3), 1 / math.log2(6), 1 / math.log2(7), 1 / math.log2(11), 0, 0]
    assert gains(ranks, "ndcg@10").tolist() == pytest.approx(ndcg)
    assert gains(ranks, "mrr").tolist() == pytest.approx([1, 1 / 2, 1 / 5, 1 / 6, 1 / 10, 1 / 11, 0])


@pytest.mark.parametrize("name", ["precision@10", "recall", "recall@", "ndcg@-1", "mrr@10", ""])
def test_an_unknown_metric_is_refused(name):
    with pytest.raises(ConfigError, match="no metric"):
        gains(np.zeros(1, np.int32), name)


def test_published_names_and_nothing_unmeasured():
    names = ["recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr"]
    assert list(metrics_from_ranks(np.array([0], np.int32)).to_dict()) == [*names, "users"]
    full = metrics_from_ranks(np.array([0], np.int32), coverage=0.1, popularity=0.2, invalid=0.0)
    assert list(full.to_dict()) == [*names, "coverage@10", "popularity@10", "invalid", "users"]


def test_a_system_does_not_differ_from_itself():
    ranks = np.array([0, 3, -1, 12], np.int32)
    same = paired_difference(ranks, ranks, "ndcg@10", seed=1)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_the_interval_is_that_of_resampling_case_by_case():
    rng = np.random.default_rng(0)
    a, b = rng.integers(-1, 15, (2, 400)).astype(np.int32)
    got = paired_difference(a, b, "ndcg@10", seed=0)
    each = gains(a, "ndcg@10") - gains(b, "ndcg@10")
    means = each[rng.integers(0, 400, (10_000, 400))].mean(axis=1)
    assert got.mean == pytest.approx(each.mean())
    assert (got.low, got.high) == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.002)


def test_a_clear_gain_leaves_zero_out_and_turns_round_with_its_sides():
    a, b = np.zeros(300, np.int32), np.where(np.arange(300) % 3 == 0, -1, 0).astype(np.int32)
    ahead, behind = paired_difference(a, b, "recall@10"), paired_difference(b, a, "recall@10")
    assert ahead.p == behind.p
    assert ahead.mean == pytest.approx(1 / 3)
    assert 0 < ahead.low < ahead.mean < ahead.high
    assert behind.high < 0


def test_ranks_of_different_cases_cannot_be_paired():
    with pytest.raises(DataError, match="3 and 2 ranks"):
        paired_difference(np.zeros(3, np.int32), np.zeros(2, np.int32), "mrr")
    with pytest.raises(DataError, match="0 and 0 ranks"):
        paired_difference(np.zeros(0, np.int32), np.zeros(0, np.int32), "mrr")


def test_the_p_value_follows_the_sign_test_and_is_never_zero():
    """20 cases that A alone finds and 5 that B alone finds: a two-sided sign test gives .0041."""
    a = np.array([0] * 20 + [-1] * 5 + [0] * 75, np.int32)
    b = np.array([-1] * 20 + [0] * 5 + [0] * 75, np.int32)
    assert 0.0005 < paired_difference(a, b, "recall@10").p < 0.008
    assert paired_difference(a, a, "recall@10").p == 1
    everywhere = paired_difference(np.zeros(50, np.int32), np.full(50, -1, np.int32), "recall@10", samples=999)
    assert everywhere.p == 2 / 1000
