"""The crowd's graph: strongest edges of the transition graph, popularity, and pairs of few people."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.baselines import TransitionGraph
from pocketrec.distill.experts.crowd import build_crowd
from pocketrec.runtime.errors import ConfigError


def sequences(*histories):
    ends = np.cumsum([len(history) for history in histories]).astype(np.int64)
    items = np.array([item for history in histories for item in history], np.int32)
    return Sequences(items, np.concatenate(([0], ends[:-1])), ends)


@pytest.fixture
def log():
    chance = np.random.default_rng(0)
    return sequences(*(chance.integers(0, 12, 8).tolist() for _ in range(30)))


def test_the_strongest_edges_of_the_transition_graph_are_kept(log):
    crowd = build_crowd(log, 12, neighbours=3)
    whole = TransitionGraph.fit(log, 12).edges.toarray()
    for item in range(12):
        kept = slice(crowd.first[item], crowd.first[item + 1])
        strongest = np.argsort(-whole[item], kind="stable")[:3]
        assert sorted(crowd.neighbours[kept].tolist()) == sorted(strongest.tolist())
        np.testing.assert_allclose(crowd.weights[kept], whole[item, crowd.neighbours[kept]], rtol=1e-6)


def test_popularity_is_a_probability_and_nobody_has_none(log):
    crowd = build_crowd(log, 13, neighbours=3)  # item 12 is in no history
    assert np.exp(crowd.log_popularity).sum() == pytest.approx(1, rel=1e-5)
    assert crowd.log_popularity.argmin() == 12


def test_pairs_that_few_people_made_leave_no_edge():
    log = sequences([0, 1], [0, 1], [2, 3], [4, 5, 4, 5])  # one person went from 4 to 5 twice

    def edges(min_users):
        crowd = build_crowd(log, 6, neighbours=5, min_users=min_users)
        item = np.repeat(np.arange(6), np.diff(crowd.first))
        return {(int(a), int(b)) for a, b in zip(item, crowd.neighbours, strict=True)}

    assert {(0, 1), (2, 3), (4, 5)} <= edges(1)
    assert {(0, 1)} <= edges(2)
    assert not edges(2) & {(2, 3), (4, 5), (5, 4)}
    assert edges(3) == set()


def test_numbers_out_of_range_are_refused(log):
    with pytest.raises(ConfigError, match=r"experts\.neighbours is 0"):
        build_crowd(log, 12, neighbours=0)
