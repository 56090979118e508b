"""What a graph reveals of single people, counted and said."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.experts import transitions
from pocketrec.distill.experts.crowd import build_crowd
from pocketrec.distill.experts.privacy import Revealed, revealed

# 0 and 1 are near each other in two histories, 2 and 3 in one (twice), 3 and 4 in one, 4 and 2 in one.
LOG = Sequences.from_lists([[0, 1], [1, 0, 1], [2, 3, 2, 3], [3, 4], [4, 2]])


@pytest.mark.parametrize("items", [1 << 14, 2])
def test_edges_that_one_person_made_are_counted(monkeypatch, items):
    monkeypatch.setattr(transitions, "BLOCK_ITEMS", items)
    found = revealed(LOG, build_crowd(LOG, 6, neighbours=20, min_users=1), 1)
    assert found == Revealed(min_users=1, edges=8, by_one=6, linked=1.0)
    assert found.sentence.startswith("75% of the transitions in the crowd's graph were made by one person alone")


def test_a_graph_of_pairs_of_many_people_says_how_many():
    crowd = build_crowd(LOG, 6, neighbours=20, min_users=2)
    found = revealed(LOG, crowd, 2)
    assert found == Revealed(min_users=2, edges=2, by_one=0, linked=0.4)
    assert "at least 2 people made" in found.sentence
    assert "Only" not in found.sentence


def test_a_graph_that_links_few_items_says_so():
    log = Sequences.from_lists([[0, 1], [0, 1], [2, 3, 4], [5, 6, 7]])
    found = revealed(log, build_crowd(log, 9, min_users=2), 2)
    assert found.linked == 0.25  # of the eight items with events
    assert "Only 25% of the items with events have an edge then" in found.sentence


def test_no_transition_of_one_person_reaches_the_graph():
    """Whatever the log: each edge is a pair that enough people made, or a walk of two such pairs."""
    chance = np.random.default_rng(3)
    histories = [np.unique(chance.integers(0, 15, 5)).tolist() for _ in range(25)]
    crowd = build_crowd(Sequences.from_lists(histories), 15, neighbours=60, min_users=3)
    item = np.repeat(np.arange(15), np.diff(crowd.first))
    people = np.array([[sum(i in h and j in h for h in histories) for j in range(15)] for i in range(15)])
    near = (people >= 3) & ~np.eye(15, dtype=bool)
    reachable = near | (near.astype(int) @ near.astype(int) > 0)
    assert len(item)
    assert reachable[item, crowd.neighbours].all()
