"""The evaluator: its figures are those of a loop over definitions, and malformed lists do not get past it."""

from __future__ import annotations

import math
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.evaluation.metrics import (
    EMPTY,
    INVALID,
    RankingError,
    evaluate,
    gains,
    hits,
    metrics_from_ranks,
    paired_difference,
)
from pocketrec.distill.progress import Progress
from pocketrec.runtime.errors import ConfigError, DataError

N_ITEMS = 30


class ByLastItem:
    """Recommends a list which hangs on the newest item alone."""

    def __init__(self, lists):
        self.lists = np.asarray(lists, np.int32)

    def rank(self, histories, k, exclude_seen):
        return self.lists[[history[-1] for history in histories], :k]


class SumOfHistory:
    """Recommends from (sum of what it was shown) upwards, without the items it was shown if so asked."""

    def rank(self, histories, k, exclude_seen):
        out = np.full((len(histories), k), EMPTY, np.int32)
        for row, history in enumerate(histories):
            items = [(int(history.sum()) + step) % N_ITEMS for step in range(N_ITEMS)]
            items = [i for i in items if not (exclude_seen and i in history)][:k]
            out[row, : len(items)] = items
        return out


def questions(*pairs):
    return EvalSet(Sequences.from_lists([h for h, _ in pairs]), np.array([t for _, t in pairs], np.int32))


def one_list(items):
    """A ranker which gives the same list to everybody, and the question that asks for it."""
    return ByLastItem(np.tile(items, (N_ITEMS, 1)))


asked = st.lists(
    st.tuples(st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=8), st.integers(0, N_ITEMS - 1)),
    min_size=1,
    max_size=15,
)


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


@settings(max_examples=60)
@given(asked, st.integers(1, 6), st.booleans(), st.integers(1, 7))
def test_figures_equal_a_loop_over_the_definitions(pairs, max_history, exclude_seen, batch_size):
    got = evaluate(
        SumOfHistory(), questions(*pairs), n_items=N_ITEMS, item_counts=None,
        max_history=max_history, exclude_seen=exclude_seen, batch_size=batch_size,
    )  # fmt: skip
    recall = ndcg = mrr = 0.0
    shown = set()
    for history, target in pairs:
        seen = history[-max_history:]
        items = [(sum(seen) + step) % N_ITEMS for step in range(N_ITEMS)]
        items = [i for i in items if not (exclude_seen and i in seen)][:20]
        shown.update(items[:10])
        if target in items:
            place = items.index(target) + 1
            recall += place <= 10
            ndcg += 1 / math.log2(1 + place) if place <= 10 else 0
            mrr += 1 / place
    n = len(pairs)
    assert got.recall[10] == pytest.approx(recall / n)
    assert got.ndcg[10] == pytest.approx(ndcg / n)
    assert got.mrr == pytest.approx(mrr / n)
    assert got.coverage == pytest.approx(len(shown) / N_ITEMS)
    assert got.users == n


def test_ranks_give_the_same_metrics_as_the_evaluator():
    asked = questions(([1, 2], 4), ([3], 9), ([8, 8], 2))
    ranks = hits(SumOfHistory(), asked, n_items=N_ITEMS)
    assert ranks.tolist() == [1, 6, 16]
    whole = evaluate(SumOfHistory(), asked, n_items=N_ITEMS, item_counts=None)
    assert metrics_from_ranks(ranks).to_dict().items() <= whole.to_dict().items()


def test_a_seen_target_counts_as_a_miss_when_seen_items_are_excluded():
    asked = questions(([5], 5))
    assert hits(SumOfHistory(), asked, n_items=N_ITEMS, exclude_seen=False).tolist() == [0]
    assert hits(SumOfHistory(), asked, n_items=N_ITEMS, exclude_seen=True).tolist() == [-1]


def test_items_beyond_the_cut_history_may_be_recommended_again():
    asked = questions(([4, 3], 4))
    assert hits(SumOfHistory(), asked, n_items=N_ITEMS, exclude_seen=True, max_history=1).tolist() == [0]


def test_popularity_is_the_mean_mid_rank_percentile_of_the_first_ten():
    counts = np.array([7, 7, 1, 0, 9] + [3] * (N_ITEMS - 5))
    ranker = one_list([4, 0, 3] + [EMPTY] * 17)
    got = evaluate(ranker, questions(([1], 0)), n_items=N_ITEMS, item_counts=counts)
    # Below item 4: 29 of 30; below item 0: 27, tied with one other; below item 3: none.
    assert got.popularity == pytest.approx(np.mean([29.5 / 30, 28 / 30, 0.5 / 30]))
    assert got.coverage == pytest.approx(3 / 30)


def test_recommending_the_whole_catalogue_evenly_has_popularity_one_half():
    lists = (np.arange(N_ITEMS)[:, None] + np.arange(20)) % N_ITEMS
    everything = questions(*[([i], 0) for i in range(N_ITEMS)])
    counts = np.random.default_rng(0).integers(0, 5, N_ITEMS)
    got = evaluate(ByLastItem(lists), everything, n_items=N_ITEMS, item_counts=counts)
    assert got.popularity == pytest.approx(0.5)
    assert got.coverage == 1.0


def test_invalid_slots_take_up_a_rank_and_are_counted_among_the_filled():
    ranker = one_list([INVALID, 3, INVALID, 5] + [EMPTY] * 16)
    got = evaluate(ranker, questions(([1], 3)), n_items=N_ITEMS, item_counts=None)
    assert got.invalid == 0.5
    assert got.mrr == 0.5
    assert got.coverage == pytest.approx(2 / N_ITEMS)


def test_a_ranker_with_nothing_to_say_scores_zero():
    got = evaluate(one_list([EMPTY] * 20), questions(([1], 3)), n_items=N_ITEMS, item_counts=np.ones(N_ITEMS, int))
    assert (got.recall[10], got.mrr, got.coverage, got.invalid, got.popularity) == (0, 0, 0, 0, None)


def test_published_names_and_nothing_unmeasured():
    names = ["recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr"]
    assert list(metrics_from_ranks(np.array([0], np.int32)).to_dict()) == [*names, "users"]
    full = metrics_from_ranks(np.array([0], np.int32), coverage=0.1, popularity=0.2, invalid=0.0)
    assert list(full.to_dict()) == [*names, "coverage@10", "popularity@10", "invalid", "users"]


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ([2, 3, 2, *range(4, 21)], "item 2 twice"),
        ([2, 3, *range(4, 21), N_ITEMS], f"put {N_ITEMS} at place 19 of list 0"),
        ([-3, *range(4, 23)], "put -3 at place 0"),
        ([2, EMPTY, *range(4, 22)], "gap"),
        (list(range(2, 21)), r"int32 \[1, 19\], not int32 \[1, 20\]"),
    ],
)
def test_malformed_lists_are_refused(items, complaint):
    with pytest.raises(RankingError, match=complaint):
        evaluate(one_list(items), questions(([1], 3)), n_items=N_ITEMS, item_counts=None)


def test_lists_of_anything_but_integers_are_refused():
    class Floats:
        def rank(self, histories, k, exclude_seen):
            return np.zeros((len(histories), k))

    with pytest.raises(RankingError, match="float64"):
        evaluate(Floats(), questions(([1], 3)), n_items=N_ITEMS, item_counts=None)


def test_a_seen_item_in_a_list_is_refused_when_seen_items_are_excluded():
    ranker = one_list(list(range(20)))
    apart = questions(([25], 3), ([28, 26], 3))
    assert hits(ranker, apart, n_items=N_ITEMS, exclude_seen=True).tolist() == [3, 3]
    with pytest.raises(RankingError, match="item 7 of the history"):
        hits(ranker, questions(([25], 3), ([7, 26], 3)), n_items=N_ITEMS, exclude_seen=True)


@pytest.mark.parametrize("target", [-1, N_ITEMS])
def test_targets_outside_the_catalogue_are_refused(target):
    with pytest.raises(DataError, match="catalogue"):
        evaluate(SumOfHistory(), questions(([1], target)), n_items=N_ITEMS, item_counts=None)


def test_questions_counts_and_settings_which_make_no_sense_are_refused():
    asked = questions(([1], 2))
    with pytest.raises(DataError, match="no questions"):
        evaluate(SumOfHistory(), questions(), n_items=N_ITEMS, item_counts=None)
    with pytest.raises(DataError, match="3 entries for 30 items"):
        evaluate(SumOfHistory(), asked, n_items=N_ITEMS, item_counts=np.ones(3, int))
    with pytest.raises(ConfigError, match="list_length is 9"):
        evaluate(SumOfHistory(), asked, n_items=N_ITEMS, item_counts=None, list_length=9)
    with pytest.raises(ConfigError, match="at least 1"):
        evaluate(SumOfHistory(), asked, n_items=N_ITEMS, item_counts=None, max_history=0)


def test_every_question_is_reported_to_the_progress_bar():
    class Counting(Progress):
        @contextmanager
        def track(self, label, total):
            self.total, self.done = total, 0

            def advance(n=1, note=""):
                self.done += n

            yield advance

    bar = Counting()
    five = questions(*[([i], i) for i in range(5)])
    evaluate(SumOfHistory(), five, n_items=N_ITEMS, item_counts=None, batch_size=2, progress=bar)
    assert (bar.total, bar.done) == (5, 5)


def test_a_system_does_not_differ_from_itself():
    ranks = np.array([0, 3, -1, 12], np.int32)
    same = paired_difference(ranks, ranks, "ndcg@10", seed=1)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_the_interval_is_that_of_resampling_question_by_question():
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
    assert ahead.mean == pytest.approx(1 / 3)
    assert 0 < ahead.low < ahead.mean < ahead.high
    assert behind.high < 0


def test_ranks_of_different_questions_cannot_be_paired():
    with pytest.raises(DataError, match="3 and 2 ranks"):
        paired_difference(np.zeros(3, np.int32), np.zeros(2, np.int32), "mrr")
    with pytest.raises(DataError, match="0 and 0 ranks"):
        paired_difference(np.zeros(0, np.int32), np.zeros(0, np.int32), "mrr")
