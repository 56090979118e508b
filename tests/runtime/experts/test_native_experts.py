"""Crowd and words in C: the numbers of the numpy reference, memory that is put back, arguments that do not fit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_engines import NEEDS_NATIVE
from experts import random_crowd, random_words
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.compiled import native
from pocketrec.runtime.control import Control, node_bias
from pocketrec.runtime.experts import words as words_module
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.experts.words import Words, measured, postings
from tiny import CODES, random_rows

N = 300
TRIE = ItemTrie.from_rows(random_rows(N), [str(i) for i in range(N)], codes_per_level=CODES)
PART = TRIE.filter(np.arange(N) % 3 != 0)
OWN_BIAS = node_bias(PART, np.random.default_rng(5).normal(0, 2, len(PART)).astype(np.float32))
CONTROLS = {"whole": Control(TRIE), "part": Control(PART), "biased part": Control(PART, OWN_BIAS)}
SETTINGS = [
    FusionWeights(crowd=0.7, words=3.0, seen=-2.0),
    FusionWeights(crowd=0.7, words=3.0, seen=4.0, words_items=1, crowd_recency=0.9, words_recency=1.0),
    FusionWeights(crowd=1.5, crowd_recency=1e-30),
    FusionWeights(words=12.0, words_items=255, words_recency=0.8),
    FusionWeights(seen=1.5),
    FusionWeights(),
]
RELATIVE = 1e-6  # C's logarithm may differ from numpy's in the last digit
pytestmark = NEEDS_NATIVE


@cache
def experts_of(seed, weights):
    return Experts(random_crowd(N, seed, 9), random_words(N, seed, 40, 6), weights, N)


def both(experts, control, history, excluded):
    """The gains of C and those of numpy."""
    history = np.array(history, np.int32)
    floor = experts._floor_of(control.catalogue if control.bias is None else control)
    return experts.bias(control, history, excluded), experts.node_bias(control.catalogue, floor, history, excluded)


@given(
    st.integers(0, 3),
    st.sampled_from(SETTINGS),
    st.sampled_from(list(CONTROLS)),
    st.lists(st.lists(st.integers(0, N - 1), max_size=40), min_size=1, max_size=4),
    st.booleans(),
)
def test_c_gives_the_gains_of_numpy_call_after_call(seed, weights, name, histories, excluded):
    """The same memory serves all the calls of an example, so whatever one leaves behind is in the next."""
    experts = experts_of(seed, weights)
    for history in histories:
        found, expected = both(experts, CONTROLS[name], history, excluded)
        np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=1e-6)
        assert found[0] == 0
        del found


@pytest.mark.parametrize("n", [40, N])
def test_a_few_raised_paths_are_lowered_one_by_one(n, monkeypatch):
    """Without any word, a history reaches fewer nodes than it would pay to copy them all for."""
    rows = np.array([[a, b, c] for a in range(CODES) for b in range(CODES) for c in range(CODES)])[:n]
    trie = ItemTrie.from_rows(rows, [str(i) for i in range(n)], codes_per_level=CODES)
    experts = Experts(random_crowd(n, 1, 2), None, FusionWeights(crowd=1.0, seen=3.0), n)
    floor, control = experts.floor(trie), Control(trie)
    for start in range(0, n, 7):
        history = np.array([start], np.int32)
        found = experts.bias(control, history)
        np.testing.assert_allclose(found, experts.node_bias(trie, floor, history), rtol=RELATIVE, atol=1e-6)
        del found
    np.testing.assert_array_equal(experts.bias(control, np.empty(0, np.int32)), floor.nodes)


def test_gains_that_are_still_held_are_not_touched_by_other_calls():
    experts, chance = experts_of(3, SETTINGS[0]), np.random.default_rng(0)
    histories = [chance.integers(0, N, 5).astype(np.int32) for _ in range(20)]
    held = [experts.bias(CONTROLS["whole"], history) for history in histories]
    copies = [gains.copy() for gains in held]
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(lambda h: experts.bias(CONTROLS["whole"], h).copy(), histories * 5))
    for gains, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(gains, copy)
    for n, other in enumerate(others):
        np.testing.assert_array_equal(other, copies[n % 20])
    with pytest.raises(ValueError, match="read-only"):
        held[0][0] = 1.0


@pytest.mark.parametrize("limit", [1, 3, 8, 1000])
def test_postings_and_lengths_of_c_are_those_of_numpy(monkeypatch, limit):
    monkeypatch.setattr(words_module, "MAX_POSTINGS", limit)
    for seed in range(5):
        words = random_words(N, seed, 20, 7)
        norm, size = measured(words.first, words.terms, words.idf)
        np.testing.assert_array_equal(words.norm, norm)
        np.testing.assert_array_equal(words.post_items, postings(words.first, words.terms, norm, size))
        np.testing.assert_array_equal(np.diff(words.post_first), np.minimum(size, limit))


def arrays():
    """Arguments of `_native.Experts` and `_native.Floor`, by name."""
    experts = experts_of(1, SETTINGS[0])
    weights, crowd, words = experts._arrays()
    floor = experts.floor(TRIE)
    crowd_names = ("first", "neighbours", "weights", "popular")
    words_names = ("first", "terms", "idf", "norm", "post_first", "post_items", "inverse")
    return {
        "weights": weights,
        "crowd": dict(zip(crowd_names, crowd, strict=True)),
        "words": dict(zip(words_names, words, strict=True)),
        "floor": {"leaves": floor.leaves, "nodes": floor.nodes, "parents": floor.parents},
    }


def make(a, leaf_of=None, items=N):
    experts = native.Experts(items, a["weights"], tuple(a["crowd"].values()), tuple(a["words"].values()))
    return native.Floor(experts, *a["floor"].values(), leaf_of)


@pytest.mark.parametrize("part", ["crowd", "words", "floor"])
def test_arrays_that_do_not_fit_each_other_are_refused(part):
    make(arrays())
    for name in arrays()[part]:
        free = {"neighbours", "weights", "terms", "post_items"}  # their length is compared with another's, or read
        for wrong, error in (
            (lambda x: x[:-1], ValueError),
            (lambda x: np.append(x, x[:1]), ValueError),
            (lambda x: x.astype(np.int16), TypeError),
            (lambda x: np.repeat(x, 2)[::2], ValueError),
            (lambda x: "text", TypeError),
        ):
            a = arrays()
            a[part][name] = wrong(a[part][name])
            if error is ValueError and name in free - {"weights"} and a[part][name].flags.c_contiguous:
                continue
            with pytest.raises((error, BufferError)):
                make(a)
    with pytest.raises(ValueError, match="items"):
        make(arrays(), items=-1)
    with pytest.raises(ValueError, match="leaf_of"):
        make(arrays(), leaf_of=np.zeros(N - 1, np.int32))
    with pytest.raises(TypeError):
        native.Floor(None, *arrays()["floor"].values(), None)


@pytest.mark.parametrize("value", [-1, 1, N - 1, N, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize(
    ("part", "name"),
    [("crowd", "first"), ("crowd", "neighbours"), ("words", "first"), ("words", "terms"), ("words", "post_first"),
     ("words", "post_items"), ("floor", "parents")],
)  # fmt: skip
def test_indices_out_of_range_are_never_followed(part, name, value):
    """What they give is of no use, but nothing outside the arrays is read or written (see `.ci/sanitize`)."""
    for place in (slice(None), slice(0, None, 3)):
        a = arrays()
        a[part][name] = a[part][name].copy()
        a[part][name][place] = value
        floor = make(a)
        for excluded in (False, True):
            gains = np.asarray(native.NodeGains(floor, np.arange(0, N, 9, dtype=np.int32), excluded))
            assert len(gains) == TRIE.n_nodes


def test_leaves_out_of_range_are_never_followed():
    part = {"leaves": np.zeros(9, np.float32), "nodes": np.zeros(20, np.float32), "parents": np.arange(20) // 2}
    a = {**arrays(), "floor": {**part, "parents": part["parents"].astype(np.int32)}}
    floor = make(a, leaf_of=np.arange(-5, N - 5, dtype=np.int32))
    assert len(np.asarray(native.NodeGains(floor, np.arange(N, dtype=np.int32), False))) == 20


@pytest.mark.parametrize(
    ("history", "error"),
    [(np.array([-1], np.int32), ValueError), (np.array([N], np.int32), ValueError), (np.zeros(2, np.int64), TypeError),
     ("text", TypeError), (None, TypeError)],
)  # fmt: skip
def test_a_history_that_is_none_is_refused(history, error):
    with pytest.raises(error):
        native.NodeGains(make(arrays()), history, True)
    with pytest.raises(TypeError):
        native.NodeGains(None, np.zeros(1, np.int32), True)


GOOD_WORDS = {"first": [0, 2, 3], "terms": [0, 1, 2], "order": [0, 1], "post_first": [0, 1, 2, 3]}
KINDS = {"first": np.int64, "post_first": np.int64, "idf": np.float32}


def words_call(**change):
    return [np.array(x, KINDS.get(name, np.int32)) for name, x in {**GOOD_WORDS, **change}.items()]


@pytest.mark.parametrize(
    "change",
    [
        {"first": [0, 9]}, {"first": []}, {"first": [0, 2, 9]}, {"first": [-1, 2, 3]}, {"order": [0]},
        {"order": [0, 2]}, {"first": [0, 2, 9], "order": [0, 0], "post_first": [0, 1, 2, 2]},
        {"terms": [0, 1, 7], "order": [0, 0], "post_first": [0, 1, 2, 2]},
        {"order": [0, 0]}, {"order": [-1, 1]}, {"post_first": [0, 2, 1, 3]}, {"post_first": [0, 1, 2, 9]},
        {"post_first": []}, {"post_first": [0, 1, 3, 3]}, {"terms": [0, 1, 7]}, {"terms": [-1, 1, 2]},
    ],
)  # fmt: skip
def test_words_that_do_not_fit_their_postings_are_refused(change):
    post = np.zeros(3, np.int32)
    native.word_postings(*words_call(), post)
    assert post.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match=r"fit|rise|empty"):
        native.word_postings(*words_call(**change), post)


@pytest.mark.parametrize(
    "change", [{"first": [0, 2, 4]}, {"first": [0, -3, 3]}, {"terms": [0, 1, 3]}, {"terms": [0, -1, 2]}]
)
def test_words_that_do_not_fit_their_items_are_refused(change):
    first, terms = words_call(**change)[:2]
    idf, norm, size = np.ones(3, np.float32), np.zeros(2, np.float32), np.zeros(3, np.int64)
    native.word_norms(*words_call()[:2], idf, norm, size)
    assert size.tolist() == [1, 1, 1]
    if change != {"first": [0, -3, 3]}:  # a first that falls back within the terms counts some words twice, no more
        with pytest.raises(ValueError, match="do not fit"):
            native.word_norms(first, terms, idf, norm, size)
    for wrong in ((idf[:2], norm, size), (idf, norm[:1], size), (idf, norm, size[:2])):
        with pytest.raises(ValueError, match="do not fit"):
            native.word_norms(*words_call()[:2], *wrong)


def test_the_words_of_an_empty_catalogue_have_no_postings():
    words = Words.build(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert len(words.post_items) == 0
