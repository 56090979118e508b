"""The yardsticks: their edges are those of plain loops, their lists are full, stable and free of repeats."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.distill.evaluation.baselines import CoOccurrence, Popularity, TransitionGraph, top_k
from pocketrec.distill.evaluation.metrics import paired_difference
from pocketrec.distill.evaluation.protocol import evaluate, hits
from pocketrec.distill.evaluation.ranking import EMPTY, RankingError
from pocketrec.runtime.errors import ConfigError, DataError

N_ITEMS = 9
BASELINES = [Popularity, CoOccurrence, TransitionGraph]
items = st.integers(0, N_ITEMS - 1)
logs = st.lists(st.lists(items, max_size=7), min_size=1, max_size=8)


def ranked(baseline, history, k=N_ITEMS, exclude_seen=False):
    return baseline.rank(Sequences.from_lists([history]), k, exclude_seen)[0].tolist()


def pair_weights(log, window, decay):
    """A[i, j]: d^-decay over every j that stands d places after an i."""
    out = np.zeros((N_ITEMS, N_ITEMS))
    for history in log:
        for at, first in enumerate(history):
            for distance, second in enumerate(history[at + 1 : at + 1 + window], 1):
                out[first, second] += (distance**-decay) * (first != second)
    return out


def inverse(values, power):
    return np.array([v**-power if v > 0 else 0.0 for v in values])


def popularity_order(log):
    counts = Counter(i for history in log for i in history)
    return sorted(range(N_ITEMS), key=lambda i: (-counts[i], i))


@settings(max_examples=200)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 4), st.integers(1, 9)),
        elements=st.sampled_from([-np.inf, 0, 1, 2]),
    ),
    st.integers(1, 11),
)
def test_top_k_is_a_stable_sort_cut_to_k(scores, k):
    got = top_k(scores, k)
    assert got.shape == (len(scores), k)
    assert got.dtype == np.int32
    for row, listed in zip(scores, got.tolist(), strict=True):
        best = sorted((i for i in range(len(row)) if row[i] > -np.inf), key=lambda i: (-row[i], i))
        assert listed == (best + [EMPTY] * k)[:k]


def test_top_k_refuses_nan():
    with pytest.raises(RankingError, match="NaN"):
        top_k(np.array([[0.0, np.nan, 1.0]]), 1)


@settings(max_examples=60)
@given(logs)
def test_popularity_lists_by_count_then_row(log):
    baseline = Popularity.fit(Sequences.from_lists(log), N_ITEMS)
    assert ranked(baseline, [3, 1]) == popularity_order(log)
    assert ranked(baseline, [3, 1], exclude_seen=True) == [
        *(i for i in popularity_order(log) if i not in (3, 1)),
        EMPTY,
        EMPTY,
    ]


@settings(max_examples=60)
@given(logs, st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0]))
def test_co_occurrence_edges_are_normalised_pair_counts(log, window, power):
    got = CoOccurrence.fit(Sequences.from_lists(log), N_ITEMS, window=window, power=power).edges.toarray()
    counts = pair_weights(log, window, 0)
    counts = counts + counts.T
    scale = inverse(counts.sum(1), power)
    np.testing.assert_allclose(got, scale[:, None] * counts * scale, rtol=1e-12)


@settings(max_examples=60)
@given(logs, st.integers(1, 4), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 0.5]))
def test_transition_graph_edges_are_walks_of_one_and_two_steps(log, window, distance, second_hop):
    got = TransitionGraph.fit(
        Sequences.from_lists(log), N_ITEMS, window=window, distance=distance, backward=0.25, trust=0.5,
        second_hop=second_hop, neighbours=N_ITEMS,
    ).edges.toarray()  # fmt: skip
    forward = pair_weights(log, window, distance)
    adjacent = forward + 0.25 * forward.T
    walk = inverse(adjacent.sum(1), 1)[:, None] * adjacent
    twice = walk @ walk
    np.fill_diagonal(twice, 0)
    np.testing.assert_allclose(
        got, np.sqrt(adjacent.sum(1))[:, None] * (walk + second_hop * twice), rtol=1e-9, atol=1e-15
    )


def test_walks_of_two_steps_take_the_strongest_edges_alone():
    log = [[0, 1], [0, 1], [0, 2], [1, 3], [2, 4]]
    fit = {"window": 1, "backward": 0.0, "trust": 0.0, "second_hop": 1.0}
    wide = TransitionGraph.fit(Sequences.from_lists(log), 5, neighbours=2, **fit).edges.toarray()
    narrow = TransitionGraph.fit(Sequences.from_lists(log), 5, neighbours=1, **fit).edges.toarray()
    np.testing.assert_allclose(wide[0], [0, 2 / 3, 1 / 3, 2 / 3, 1 / 3])
    np.testing.assert_allclose(narrow[0], [0, 2 / 3, 1 / 3, 2 / 3, 0])


@settings(max_examples=60)
@given(logs, st.lists(items, max_size=5))
def test_history_items_send_weight_that_decays_with_age_and_popularity_comes_after(log, history):
    baseline = TransitionGraph.fit(Sequences.from_lists(log), N_ITEMS, recency=0.5)
    edges = baseline.edges.toarray()
    scores = np.zeros(N_ITEMS)
    for age, item in enumerate(reversed(history)):
        scores += 0.5**age * edges[item]
    popular = popularity_order(log)
    # The baseline adds in another order and compares as float32: scores this close may stand either way.
    got = ranked(baseline, history)
    assert sorted(got) == list(range(N_ITEMS))
    reached = [i for i in got if scores[i] > 0]
    assert got[: len(reached)] == reached
    assert got[len(reached) :] == [i for i in popular if scores[i] == 0]
    assert np.all(np.diff(scores[reached]) <= 1e-6)


def test_co_occurrence_looks_both_ways_and_transitions_look_ahead():
    log = Sequences.from_lists([[0, 1, 2]] * 3 + [[3, 1]])
    assert ranked(CoOccurrence.fit(log, 5, window=1, power=0.0), [1], k=3) == [0, 2, 3]
    assert ranked(TransitionGraph.fit(log, 5, window=1), [1], k=3) == [2, 0, 3]
    assert ranked(TransitionGraph.fit(log, 5, window=1, backward=0.0, second_hop=0.0), [0], k=1) == [1]


@pytest.mark.parametrize("kind", BASELINES)
@settings(max_examples=40)
@given(log=logs, histories=st.lists(st.lists(items, max_size=6), min_size=1, max_size=5), seen=st.booleans())
def test_lists_are_full_for_cold_and_empty_histories_too(kind, log, histories, seen):
    got = kind.fit(Sequences.from_lists(log), N_ITEMS).rank(Sequences.from_lists(histories), N_ITEMS + 2, seen)
    for history, row in zip(histories, got.tolist(), strict=True):
        left = set(range(N_ITEMS)) - (set(history) if seen else set())
        assert set(row[: len(left)]) == left
        assert row[len(left) :] == [EMPTY] * (N_ITEMS + 2 - len(left))


@pytest.mark.parametrize("kind", BASELINES)
def test_many_histories_at_once_and_one_by_one_give_the_same_lists(kind):
    rng = np.random.default_rng(0)
    n_items = 40_000  # more scores than are held at once
    log = Sequences.from_lists([rng.integers(0, 200, rng.integers(1, 9)).tolist() for _ in range(300)])
    baseline = kind.fit(log, n_items)
    some = log.take(slice(0, 250))
    whole = baseline.rank(some, 12, True)
    single = [baseline.rank(some.take(slice(i, i + 1)), 12, True)[0] for i in range(250)]
    np.testing.assert_array_equal(whole, single)


@pytest.mark.parametrize("kind", BASELINES)
def test_events_outside_the_catalogue_are_refused(kind):
    for row in (-1, 3):
        with pytest.raises(DataError, match="3 items"):
            kind.fit(Sequences.from_lists([[0, row]]), 3)


def test_constants_out_of_range_are_refused():
    log = Sequences.from_lists([[0, 1]])
    with pytest.raises(ConfigError, match="window is 0"):
        CoOccurrence.fit(log, 2, window=0)
    with pytest.raises(ConfigError, match="recency is 0"):
        TransitionGraph.fit(log, 2, recency=0.0)
    with pytest.raises(ConfigError, match=r"recency is 1\.5"):
        CoOccurrence.fit(log, 2, recency=1.5)


@pytest.mark.beauty
def test_on_amazon_beauty_the_baselines_have_the_metrics_that_were_measured(beauty):
    from pocketrec.distill.data.load import load_dataset

    dataset = load_dataset(beauty / "interactions.csv.gz", None, DataConfig())
    split = leave_one_out(dataset.users)
    n_items = len(dataset.catalogue.item_ids)
    assert (len(split.test), n_items) == (22_363, 12_101)
    recall, ranks = {}, {}
    for kind in BASELINES:
        baseline = kind.fit(split.train, n_items)
        ranks[kind] = hits(baseline, split.test, n_items=n_items)
        excluded = evaluate(baseline, split.test, n_items=n_items, item_counts=None, exclude_seen=True)
        recall[kind] = (float(np.mean((ranks[kind] >= 0) & (ranks[kind] < 10))), excluded.recall[10])
    assert recall[Popularity] == pytest.approx((0.0114, 0.0115), abs=2e-4)
    assert recall[CoOccurrence] == pytest.approx((0.0715, 0.0765), abs=5e-4)
    assert recall[TransitionGraph] == pytest.approx((0.0828, 0.0863), abs=5e-4)
    assert paired_difference(ranks[TransitionGraph], ranks[CoOccurrence], "ndcg@10").low > 0
