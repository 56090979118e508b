"""The beam search keeps its rule exactly; the judge is an enumeration in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.runtime.catalogue.beam import beam_search
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import ConfigError

CODES = 4
Weights = list[np.ndarray]


class PrefixScorer:
    """A model that is a table: log-probabilities depend on the user, the level and the whole prefix."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights  # per level: float32 [B, CODES ** level, CODES]

    def __call__(self, level: int, hidden: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        assert prefixes.dtype == np.int64
        assert prefixes.shape[2] == level
        assert ((prefixes >= 0) & (prefixes < CODES)).all(), "dead slots must look like real codes"
        place = np.zeros(prefixes.shape[:2], np.int64)
        for step in range(level):
            place = place * CODES + prefixes[:, :, step]
        return self.weights[level][np.arange(len(hidden))[:, None], place]

    def code(self, user: int, prefix: tuple[int, ...], code: int) -> np.float32:
        place = 0
        for step in prefix:
            place = place * CODES + step
        return self.weights[len(prefix)][user, place, code]


def slow_search(scorer, user, rows, beam, excluded):
    """The rule of `beam_search` in plain Python: [(leaf row, score)]."""
    rows = [tuple(row) for row in rows.tolist()]
    level_count = len(rows[0]) if rows else 1
    live = [((), np.float32(0))]
    for level in range(level_count):
        candidates = []
        for prefix, score in live:
            for code in sorted({row[level] for row in rows if row[:level] == prefix}):
                value = score + scorer.code(user, prefix, code)
                longer = (*prefix, code)
                if level == level_count - 1 and rows.index(longer) in excluded:
                    value = -np.inf
                candidates.append((longer, np.float32(value)))
        candidates.sort(key=lambda c: -c[1])  # stable: of equals, the first stays first
        live = [c for c in candidates[:beam] if c[1] > -np.inf]
    return [(rows.index(prefix), score) for prefix, score in live]


def pairs(result, user):
    kept = result.rows[user] >= 0
    assert (np.isfinite(result.scores[user]) == kept).all()
    assert not kept[np.count_nonzero(kept) :].any(), "padding comes last"
    return list(zip(result.rows[user][kept].tolist(), result.scores[user][kept].tolist(), strict=True))


@st.composite
def problems(draw):
    """A random trie, a random model (with ties, and -inf here and there), users and their exclusions."""
    levels = draw(st.integers(1, 3))
    rows = draw(st.lists(st.tuples(*[st.integers(0, CODES - 1)] * levels), unique=True, min_size=1, max_size=30))
    trie = ItemTrie.from_rows(rows, [str(row) for row in rows], codes_per_level=CODES)
    users = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.sampled_from([1, 2, 1000]))  # 1: every score ties
    weights = [
        -rng.integers(1, steps + 1, (users, CODES**level, CODES)).astype(np.float32) / 8 for level in range(levels)
    ]
    holes = draw(st.sampled_from([0.0, 0.3]))
    for table in weights:
        table[rng.random(table.shape) < holes] = -np.inf
    exclude = rng.integers(-1, len(rows), (users, draw(st.integers(0, 6)))).astype(np.int32)
    return trie, PrefixScorer(weights), exclude


@given(problems(), st.integers(1, 40))
def test_the_search_keeps_the_rule_to_the_bit(problem, beam):
    trie, scorer, exclude = problem
    result = beam_search(np.zeros((len(exclude), 2), np.float32), scorer, trie, beam, exclude)
    assert result.rows.shape == result.scores.shape == (len(exclude), beam)
    assert (result.rows.dtype, result.scores.dtype) == (np.int32, np.float32)
    for user, excluded in enumerate(exclude.tolist()):
        slow = slow_search(scorer, user, trie.rows, beam, set(excluded))
        assert pairs(result, user) == slow


@given(problems())
def test_a_beam_as_wide_as_the_catalogue_ranks_every_leaf(problem):
    trie, scorer, exclude = problem
    result = beam_search(np.zeros((len(exclude), 2), np.float32), scorer, trie, len(trie) + 3, exclude)
    for user in range(len(exclude)):
        scores = {}
        for leaf, row in enumerate(trie.rows.tolist()):
            total = np.float32(0)
            for level, code in enumerate(row):
                total += scorer.code(user, tuple(row[:level]), code)
            if np.isfinite(total) and leaf not in exclude[user]:
                scores[leaf] = float(total)
        found = dict(pairs(result, user))
        assert found == scores
        assert list(found.values()) == sorted(scores.values(), reverse=True)


def flat(levels: int, users: int = 1) -> PrefixScorer:
    return PrefixScorer([np.full((users, CODES**level, CODES), -1, np.float32) for level in range(levels)])


def full_trie() -> ItemTrie:
    rows = [[a, b] for a in range(CODES) for b in range(CODES)]
    return ItemTrie.from_rows(rows, [str(row) for row in rows], codes_per_level=CODES)


def test_of_equal_scores_the_lower_parent_then_the_lower_code_wins():
    result = beam_search(np.zeros((1, 1), np.float32), flat(2), full_trie(), 3)
    assert result.rows.tolist() == [[0, 1, 2]]
    scorer = flat(2)
    scorer.weights[0][0, 0] = [-2, -1, -1, -2]  # parents 1 and 2 first, then 0
    result = beam_search(np.zeros((1, 1), np.float32), scorer, full_trie(), 10)
    assert result.rows.tolist() == [[4, 5, 6, 7, 8, 9, 10, 11, 0, 1]]


def test_a_seen_item_makes_room_for_the_next_one():
    exclude = np.array([[0, 2, -1]], np.int32)
    result = beam_search(np.zeros((1, 1), np.float32), flat(2), full_trie(), 3, exclude)
    assert result.rows.tolist() == [[1, 3, 4]]


def test_excluding_everything_finds_nothing_for_that_user_alone():
    exclude = np.full((2, 16), -1, np.int32)
    exclude[0] = np.arange(16)
    result = beam_search(np.zeros((2, 1), np.float32), flat(2, users=2), full_trie(), 4, exclude)
    assert result.rows.tolist() == [[-1] * 4, [0, 1, 2, 3]]
    assert result.scores[0].tolist() == [-np.inf] * 4


def test_rows_beyond_the_trie_are_no_exclusions_of_another_user():
    exclude = np.array([[16, 99], [-1, -5]], np.int32)  # 16 is one past the last leaf
    result = beam_search(np.zeros((2, 1), np.float32), flat(2, users=2), full_trie(), 2, exclude)
    assert result.rows.tolist() == [[0, 1], [0, 1]]


def test_an_empty_trie_and_an_empty_batch_give_empty_answers():
    none = full_trie().filter(np.zeros(16, bool))
    result = beam_search(np.zeros((2, 1), np.float32), flat(2, users=2), none, 5)
    assert result.rows.tolist() == [[-1] * 5] * 2
    assert (result.scores == -np.inf).all()
    assert beam_search(np.zeros((0, 1), np.float32), flat(2, users=0), full_trie(), 5).rows.shape == (0, 5)


def test_a_model_that_says_nan_recommends_nothing_by_it():
    scorer = flat(2)
    scorer.weights[0][0, 0, :3] = np.nan
    wide = beam_search(np.zeros((1, 1), np.float32), scorer, full_trie(), 6)
    assert wide.rows.tolist() == [[12, 13, 14, 15, -1, -1]]
    narrow = beam_search(np.zeros((1, 1), np.float32), scorer, full_trie(), 1)
    assert narrow.rows.tolist() == [[12]]


def test_users_of_a_batch_do_not_touch_each_other():
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=(5, CODES**level, CODES)).astype(np.float32) for level in range(2)]
    together = beam_search(np.zeros((5, 1), np.float32), PrefixScorer(weights), full_trie(), 4)
    for user in range(5):
        alone = PrefixScorer([table[user : user + 1] for table in weights])
        result = beam_search(np.zeros((1, 1), np.float32), alone, full_trie(), 4)
        assert result.rows[0].tolist() == together.rows[user].tolist()
        assert result.scores[0].tolist() == together.scores[user].tolist()


def test_a_beam_below_one_is_refused():
    with pytest.raises(ConfigError, match="beam is 0"):
        beam_search(np.zeros((1, 1), np.float32), flat(2), full_trie(), 0)


@given(problems(), st.integers(1, 12), st.integers(1, 8))
def test_a_list_whose_last_score_is_at_least_the_cut_is_exact(problem, beam, k):
    trie, scorer, exclude = problem
    hidden = np.zeros((len(exclude), 2), np.float32)
    narrow, everything = (beam_search(hidden, scorer, trie, width, exclude) for width in (beam, len(trie)))
    assert (everything.cut == -np.inf).all()
    for user in range(len(exclude)):
        scores, best = narrow.scores[user][:k], everything.scores[user][:k]
        if len(scores) == k and scores[-1] > -np.inf and scores[-1] >= narrow.cut[user]:
            np.testing.assert_array_equal(scores, best)
        elif len(scores) == k:  # a prefix that was cut might have led to something better
            assert narrow.cut[user] > scores[-1] or scores[-1] == -np.inf
