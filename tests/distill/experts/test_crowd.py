"""The crowd's graph: strongest edges of the transition graph, popularity, and pairs of few people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.baselines import TransitionGraph
from pocketrec.distill.experts import transitions
from pocketrec.distill.experts.crowd import build_crowd
from pocketrec.runtime.errors import ConfigError, DataError


def sequences(*histories, weights=None):
    log = Sequences.from_lists([list(history) for history in histories])
    return log if weights is None else replace(log, weights=np.array(weights, np.float32))


def edges_of(crowd):
    """Weights by pair of items."""
    item = np.repeat(np.arange(len(crowd)), np.diff(crowd.first))
    return {(int(a), int(b)): float(w) for a, b, w in zip(item, crowd.neighbours, crowd.weights, strict=True)}


@pytest.fixture
def log():
    chance = np.random.default_rng(0)
    return sequences(*(chance.integers(0, 12, 8).tolist() for _ in range(30)))


def test_the_strongest_edges_of_the_transition_graph_are_kept(log):
    crowd = build_crowd(log, 12, neighbours=3, min_users=1)
    whole = TransitionGraph.fit(log, 12).edges.toarray()
    for item in range(12):
        kept = slice(crowd.first[item], crowd.first[item + 1])
        strongest = np.argsort(-whole[item], kind="stable")[: kept.stop - kept.start]
        assert sorted(crowd.neighbours[kept].tolist()) == sorted(strongest.tolist())
        np.testing.assert_allclose(crowd.weights[kept], whole[item, crowd.neighbours[kept]], rtol=1e-6)


def test_items_with_heavy_edges_keep_more_of_them_at_the_cost_of_others(log):
    """The heaviest edges of the whole graph, as many as `neighbours` an item that has any."""
    heavy = sequences(*(list(history) for history in log), *([0, item] for item in range(1, 12) for _ in range(50)))
    crowd = build_crowd(heavy, 15, neighbours=2, min_users=1)  # items 12 to 14 are in no history
    sizes = np.diff(crowd.first)
    assert sizes.tolist()[12:] == [0, 0, 0]
    assert sizes.sum() == 2 * 12
    assert sizes[0] == 4 * 2
    assert min(sizes[:12]) == 1


@pytest.mark.parametrize("min_users", [1, 2, 4])
def test_the_blocks_of_items_do_not_change_the_graph(log, monkeypatch, min_users):
    whole = build_crowd(log, 15, neighbours=4, min_users=min_users)
    monkeypatch.setattr(transitions, "BLOCK_EVENTS", 30)
    monkeypatch.setattr(transitions, "BLOCK_ITEMS", 2)
    in_blocks = build_crowd(log, 15, neighbours=4, min_users=min_users)
    for name in ("first", "neighbours", "weights", "log_popularity"):
        np.testing.assert_array_equal(getattr(in_blocks, name), getattr(whole, name))
    assert len(whole.neighbours)


@pytest.mark.parametrize("min_users", [1, 2, 3, 5])
def test_edges_are_those_of_the_baseline_whatever_the_number_of_people(log, min_users):
    whole = TransitionGraph.fit(log, 12, min_users=min_users).edges.toarray()
    edges = edges_of(build_crowd(log, 12, neighbours=60, min_users=min_users))
    assert set(edges) == set(zip(*(axis.tolist() for axis in whole.nonzero()), strict=True))
    for (item, other), weight in edges.items():
        assert weight == pytest.approx(whole[item, other], rel=1e-6)


def test_events_count_by_their_weights():
    histories = [0, 1], [0, 2]
    alike = edges_of(build_crowd(sequences(*histories), 3, min_users=1))
    assert alike[0, 1] == alike[0, 2]
    crowd = build_crowd(sequences(*histories, weights=[1, 1, 3, 3]), 3, min_users=1)
    weighted = edges_of(crowd)
    assert weighted[0, 2] == pytest.approx(3 * weighted[0, 1])
    assert np.exp(crowd.log_popularity[2] - crowd.log_popularity[1]) == pytest.approx((1.5 + 1) / (0.5 + 1))


def test_the_scale_of_weights_does_not_matter(log):
    weights = np.random.default_rng(1).random(len(log.items)).astype(np.float32)
    one, thousand = (build_crowd(replace(log, weights=weights * by), 12, neighbours=3) for by in (1, 1024))
    np.testing.assert_array_equal(one.neighbours, thousand.neighbours)
    np.testing.assert_allclose(one.log_popularity, thousand.log_popularity, rtol=1e-6)


def test_an_event_without_weight_makes_no_pair_and_counts_for_nobody():
    log = sequences([0, 1], [0, 1], [0, 1], weights=[1, 1, 1, 0, 0, 1])
    assert set(edges_of(build_crowd(log, 2, min_users=1))) == {(0, 1), (1, 0)}
    assert not edges_of(build_crowd(log, 2, min_users=2))


def test_events_of_another_catalogue_are_refused(log):
    with pytest.raises(DataError, match="catalogue rows 0 to 11, but the catalogue has 5"):
        build_crowd(log, 5)


def test_popularity_is_a_probability_and_nobody_has_none(log):
    crowd = build_crowd(log, 13, neighbours=3)  # item 12 is in no history
    assert np.exp(crowd.log_popularity).sum() == pytest.approx(1, rel=1e-5)
    assert crowd.log_popularity.argmin() == 12


def test_pairs_that_few_people_made_leave_no_edge():
    log = sequences([0, 1], [0, 1], [2, 3], [4, 5, 4, 5])  # one person went from 4 to 5 twice

    def edges(min_users):
        return set(edges_of(build_crowd(log, 6, neighbours=5, min_users=min_users)))

    assert {(0, 1), (2, 3), (4, 5)} <= edges(1)
    assert {(0, 1)} <= edges(2)
    assert not edges(2) & {(2, 3), (4, 5), (5, 4)}
    assert edges(3) == set()


def test_numbers_out_of_range_are_refused(log):
    with pytest.raises(ConfigError, match=r"experts\.neighbours is 0"):
        build_crowd(log, 12, neighbours=0)
