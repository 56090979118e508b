"""The evaluation protocol: its metrics are those of a loop over the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.config import EvaluationConfig
from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.distill.evaluation.metrics import metrics_from_ranks
from pocketrec.distill.evaluation.protocol import (
    evaluate,
    hits,
    item_counts,
    measure,
    measure_baselines,
    sample,
)
from pocketrec.distill.evaluation.ranking import EMPTY, INVALID
from pocketrec.runtime.errors import ConfigError, DataError
from simple_rankers import N_ITEMS, ByLastItem, SumOfHistory, cases, one_list

case_lists = st.lists(
    st.tuples(st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=8), st.integers(0, N_ITEMS - 1)),
    min_size=1,
    max_size=15,
)


@settings(max_examples=60)
@given(case_lists, st.integers(1, 6), st.booleans(), st.integers(1, 7))
def test_figures_equal_a_loop_over_the_definitions(pairs, max_history, exclude_seen, batch_size):
    got = evaluate(
        SumOfHistory(max_history), cases(*pairs), n_items=N_ITEMS, item_counts=None, exclude_seen=exclude_seen,
        batch_size=batch_size,
    )  # fmt: skip
    recall = ndcg = mrr = 0.0
    shown = set()
    for history, target in pairs:
        items = [(sum(history[-max_history:]) + step) % N_ITEMS for step in range(N_ITEMS)]
        items = [i for i in items if not (exclude_seen and i in history)][:20]
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
    some = cases(([1, 2], 4), ([3], 9), ([8, 8], 2))
    ranks = hits(SumOfHistory(), some, n_items=N_ITEMS)
    assert ranks.tolist() == [1, 6, 16]
    whole = evaluate(SumOfHistory(), some, n_items=N_ITEMS, item_counts=None)
    assert metrics_from_ranks(ranks).to_dict().items() <= whole.to_dict().items()


def test_a_seen_target_counts_as_a_miss_when_seen_items_are_excluded():
    some = cases(([5], 5))
    assert hits(SumOfHistory(), some, n_items=N_ITEMS, exclude_seen=False).tolist() == [0]
    assert hits(SumOfHistory(), some, n_items=N_ITEMS, exclude_seen=True).tolist() == [-1]


def test_an_item_that_the_model_no_longer_reads_is_not_recommended_again():
    some = cases(([4, 3], 5), ([4, 3], 4))
    assert hits(SumOfHistory(1), some, n_items=N_ITEMS, exclude_seen=False).tolist() == [2, 1]
    assert hits(SumOfHistory(1), some, n_items=N_ITEMS, exclude_seen=True).tolist() == [0, -1]


def test_popularity_is_the_mean_mid_rank_percentile_of_the_first_ten():
    counts = np.array([7, 7, 1, 0, 9] + [3] * (N_ITEMS - 5))
    ranker = one_list([4, 0, 3] + [EMPTY] * 17)
    got = evaluate(ranker, cases(([1], 0)), n_items=N_ITEMS, item_counts=counts)
    # Below item 4: 29 of 30; below item 0: 27, tied with one other; below item 3: none.
    assert got.popularity == pytest.approx(np.mean([29.5 / 30, 28 / 30, 0.5 / 30]))
    assert got.coverage == pytest.approx(3 / 30)


def test_recommending_the_whole_catalogue_evenly_has_popularity_one_half():
    lists = (np.arange(N_ITEMS)[:, None] + np.arange(20)) % N_ITEMS
    everything = cases(*[([i], 0) for i in range(N_ITEMS)])
    counts = np.random.default_rng(0).integers(0, 5, N_ITEMS)
    got = evaluate(ByLastItem(lists), everything, n_items=N_ITEMS, item_counts=counts)
    assert got.popularity == pytest.approx(0.5)
    assert got.coverage == 1.0


def test_invalid_slots_take_up_a_rank_and_are_counted_among_the_filled():
    ranker = one_list([INVALID, 3, INVALID, 5] + [EMPTY] * 16)
    got = evaluate(ranker, cases(([1], 3)), n_items=N_ITEMS, item_counts=None)
    assert got.invalid == 0.5
    assert got.mrr == 0.5
    assert got.coverage == pytest.approx(2 / N_ITEMS)


def test_a_ranker_with_nothing_to_say_scores_zero():
    got = evaluate(one_list([EMPTY] * 20), cases(([1], 3)), n_items=N_ITEMS, item_counts=np.ones(N_ITEMS, int))
    assert (got.recall[10], got.mrr, got.coverage, got.invalid, got.popularity) == (0, 0, 0, 0, None)


def test_cases_counts_and_settings_which_make_no_sense_are_refused():
    some = cases(([1], 2))
    with pytest.raises(DataError, match="no evaluation cases"):
        evaluate(SumOfHistory(), cases(), n_items=N_ITEMS, item_counts=None)
    with pytest.raises(DataError, match="3 entries for 30 items"):
        evaluate(SumOfHistory(), some, n_items=N_ITEMS, item_counts=np.ones(3, int))
    with pytest.raises(ConfigError, match="list_length is 9"):
        evaluate(SumOfHistory(), some, n_items=N_ITEMS, item_counts=None, list_length=9)
    with pytest.raises(ConfigError, match="batch_size is 0; it must be at least 1"):
        evaluate(SumOfHistory(), some, n_items=N_ITEMS, item_counts=None, batch_size=0)


def ring_split():
    """Users on a ring of items; the item after the last one is the test target."""
    return leave_one_out(Sequences.from_lists([[(s + step) % N_ITEMS for step in range(5)] for s in range(N_ITEMS)]))


def test_systems_are_measured_by_both_conventions_on_the_test_cases():
    split = ring_split()
    measured = measure({"sum": SumOfHistory()}, split, N_ITEMS, EvaluationConfig())
    for convention, exclude_seen in (("seen kept", False), ("seen excluded", True)):
        expected = evaluate(
            SumOfHistory(), split.test, n_items=N_ITEMS, item_counts=item_counts(split.train, N_ITEMS),
            exclude_seen=exclude_seen,
        )  # fmt: skip
        assert measured["sum"][convention] == expected.to_dict()


def test_a_sample_is_drawn_by_its_seed_and_keeps_its_order():
    every = ring_split().test
    assert sample(every, 0) is every
    assert sample(every, N_ITEMS) is every
    drawn = [sample(every, 6, seed).targets.tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    order = every.targets.tolist()
    assert [order.index(target) for target in drawn[0]] == sorted(order.index(target) for target in drawn[0])


def test_baselines_are_all_measured():
    measured = measure_baselines(ring_split(), N_ITEMS, None, EvaluationConfig(users=5))
    assert list(measured) == ["popularity", "co-occurrence", "transition graph"]
    assert measured["transition graph"]["seen kept"]["recall@5"] == 1.0
    assert measured["transition graph"]["seen excluded"]["users"] == 5


def test_graph_and_words_are_measured_where_items_have_texts():
    def names(texts):
        return list(measure_baselines(ring_split(), N_ITEMS, None, EvaluationConfig(users=5), texts=texts))

    assert names([""] * N_ITEMS) == ["popularity", "co-occurrence", "transition graph"]
    assert names(["red shoe", *["blue shoe"] * (N_ITEMS - 1)])[3:] == ["graph and words"]


def test_training_events_are_counted_per_item():
    train = Sequences.from_lists([[0, 2, 2], [], [2, 1]])
    assert item_counts(train, 4).tolist() == [1, 1, 3, 0]
