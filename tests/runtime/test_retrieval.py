"""The rule of retrieval alone: a stand-in for the search finds fixed items and notes what it was called with."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.cold_items import ColdItems
from pocketrec.runtime.control import Control
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.retrieval import MANY_EXCLUDED, Query, Retrieval, SubCatalogues

ITEMS, BEAM = 200, 8
SCORES = -np.arange(1, ITEMS + 1, dtype=np.float32)  # the lower the leaf row, the better


def trie_of(items=ITEMS):
    sids = [[i // 16, i % 16] for i in range(items)]
    return ItemTrie.from_rows(sids, [f"{i:03}" for i in range(items)], codes_per_level=16)


class Search:
    """Finds what a beam would: the best leaves, the excluded ones among them when the beam was filled."""

    def __init__(self, scores=SCORES):
        self.scores, self.calls = scores, []

    def __call__(self, trie, exclude, beam, limit, bias, widen):
        self.calls.append((exclude.tolist(), beam, limit))
        self.widened = widen
        leaves = np.array([leaf for leaf in range(min(beam, len(trie))) if leaf not in exclude], np.int32)[:limit]
        return leaves, self.scores[trie.table_rows_of(leaves)]


def rows(*numbers):
    return np.array(numbers, np.int32)


@pytest.fixture
def rule():
    return Retrieval(SubCatalogues(trie_of()), BEAM)


@pytest.mark.parametrize(("beam", "widens"), [(None, True), (5, False), (1000, False)])
def test_a_beam_that_the_caller_chose_is_not_widened(rule, beam, widens):
    search = Search()
    rule.best(search, rows(), Query(k=3, beam=beam))
    assert search.widened == widens


def test_the_search_is_told_how_many_items_are_needed(rule):
    search = Search()
    found, scores = rule.best(search, rows(), Query(k=3))
    assert (found.tolist(), scores.tolist()) == ([0, 1, 2], [-1, -2, -3])
    assert search.calls == [([], BEAM, 3)]


def test_a_search_that_the_history_left_too_little_is_repeated_widely_enough(rule):
    search = Search()
    found, _ = rule.best(search, rows(*range(7)), Query(k=3))
    assert found.tolist() == [7, 8, 9]
    assert [beam for _, beam, _ in search.calls] == [BEAM, 10]
    assert rule.best(Search(), rows(*range(7)), Query(k=3, exclude_seen=False))[0].tolist() == [0, 1, 2]


def test_a_search_that_cannot_find_more_is_not_repeated(rule):
    search = Search()
    found, _ = rule.best(search, rows(*range(ITEMS - 2)), Query(k=10**20, beam=10**20))
    assert found.tolist() == [ITEMS - 2, ITEMS - 1]
    assert len(search.calls) == 1


def test_nothing_is_searched_where_nothing_is_left(rule):
    search = Search()
    found, scores = rule.best(search, rows(*range(ITEMS)), Query())
    assert (len(found), len(scores), search.calls) == (0, 0, [])


def test_a_long_history_is_excluded_once_each(rule):
    search = Search()
    rule.best(search, rows(*([5, 3] * MANY_EXCLUDED)), Query(k=1))
    assert search.calls[0][0] == [3, 5]


def test_a_sub_catalogue_is_searched_in_its_own_rows(rule):
    part = rule.catalogues.add("even", [f"{i:03}" for i in range(0, ITEMS, 2)])
    search = Search()
    found, _ = rule.best(search, rows(0, 1, 2), Query(k=2, within="even"))
    assert found.tolist() == [4, 6], "rows of the whole catalogue's table"
    assert search.calls[0][0] == [0, 1], "the odd item is not in it"
    assert rule.best(Search(), rows(0, 1, 2), Query(k=2, within=part))[0].tolist() == [4, 6]


def test_scores_below_the_least_or_beyond_reason_are_dropped(rule):
    control = Control(rule.catalogues.whole, min_score=-3.0)
    assert rule.best(Search(), rows(), Query(control=control))[0].tolist() == [0, 1, 2]
    wild = SCORES.copy()
    wild[1] = np.inf
    assert rule.best(Search(wild), rows(), Query(k=3))[0].tolist() == [0, 2]


def test_cold_items_are_merged_into_all_that_was_found():
    cold = ColdItems(rows(150), rows(0), np.array([0, 1]), rows(150), np.ones(1, np.float32))
    search = Search()
    rule = Retrieval(SubCatalogues(trie_of()), BEAM, cold)
    found, scores = rule.best(search, rows(), Query(k=4))
    assert found.tolist() == [0, 1, 150, 2]
    assert scores[2] == pytest.approx(np.log(0.25) - 1, abs=1e-5)
    assert search.calls[0][2] is None, "a limit would cut what cold items resemble"
    assert 150 not in rule.best(Search(), rows(150), Query(k=4))[0]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(k=0), "k is 0"),
        (Query(beam=True), "beam is True"),
        (Query(within="other"), "no catalogue 'other' \\(there are: none yet\\)"),
        (Query(within=trie_of(3)), "not a sub-catalogue"),
        (Query(control=Control(trie_of(3))), "another catalogue"),
        (Query(within=trie_of(3), control=Control(trie_of(3))), "both given"),
        (Query(control="all"), "another catalogue"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_before_a_search(rule, query, message):
    search = Search()
    with pytest.raises(ConfigError, match=message):
        rule.best(search, rows(), query)
    assert search.calls == []
