"""The word index: cosines by brute force, capped postings, its file, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts import random_words
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.experts.words import FORMAT, MAX_POSTINGS, VERSION, Words
from pocketrec.runtime.files.safetensors import write_tensors


def vectors(words):
    """Unit vectors of all items, float64 [n, V]."""
    out = np.zeros((len(words), len(words.idf)))
    for i in range(len(words)):
        terms = words.terms[words.first[i] : words.first[i + 1]]
        out[i, terms] = words.idf[terms]
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


@given(st.integers(0, 1000), st.lists(st.integers(0, 19), max_size=4))
def test_scores_are_weighted_cosines_with_the_last_items(seed, history):
    words = random_words(20, seed)
    items, values = words.reached(np.array(history, np.int32), 0.5)
    of_item = vectors(words)
    query = sum((0.5**age * of_item[i] for age, i in enumerate(reversed(history))), np.zeros(len(words.idf)))
    expected = of_item @ query
    assert items.tolist() == np.flatnonzero(expected > 0).tolist()
    np.testing.assert_allclose(values, expected[items], rtol=1e-5)


def test_a_word_of_many_items_keeps_those_that_it_fills_most():
    n = 3 * MAX_POSTINGS
    counts = np.where(np.arange(n) % 3 == 0, 1, 2)  # every third item has the word alone
    terms = np.concatenate([[0] if count == 1 else [0, 1] for count in counts.tolist()])
    words = Words.build(counts, terms, np.array([1.0, 4.0], np.float32))
    items, _ = words.reached(np.array([0], np.int32), 0.5)
    assert items.tolist() == np.arange(0, n, 3).tolist()


@pytest.mark.parametrize("n", [0, 1, 20])
def test_a_file_gives_back_what_was_saved(tmp_path, n):
    words = random_words(n, 3)
    words.save(tmp_path / "words.safetensors")
    again = Words.load(tmp_path / "words.safetensors", n)
    for name in ("first", "terms", "idf", "norm", "post_first", "post_items"):
        np.testing.assert_array_equal(getattr(again, name), getattr(words, name))


GOOD = {
    "idf": np.array([1.0, 2.0], np.float32),
    "terms": np.array([0, 1, 1], np.uint16),
    "counts": np.array([2, 0, 1], np.uint8),
}
FAULTS = {
    "another catalogue": ({}, 2, "it has 3 items, the catalogue 2"),
    "a word outside": ({"terms": np.array([0, 1, 2], np.uint16)}, 3, "a word that it does not have"),
    "counts that do not fit": ({"counts": np.array([2, 2, 1], np.uint8)}, 3, "do not fit each other"),
    "words that do not rise": ({"terms": np.array([1, 1, 0], np.uint16)}, 3, "do not rise"),
    "an infinite weight": ({"idf": np.array([1.0, np.inf], np.float32)}, 3, "no positive number"),
    "a weight of nothing": ({"idf": np.array([0.0, 1.0], np.float32)}, 3, "no positive number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_file_is_refused_in_one_sentence(tmp_path, fault):
    change, n, message = FAULTS[fault]
    write_tensors(tmp_path / "words.safetensors", {"format": FORMAT, "version": VERSION}, {**GOOD, **change})
    with pytest.raises(BundleError, match=message):
        Words.load(tmp_path / "words.safetensors", n)


def test_the_good_file_of_these_cases_is_good(tmp_path):
    write_tensors(tmp_path / "words.safetensors", {"format": FORMAT, "version": VERSION}, GOOD)
    assert len(Words.load(tmp_path / "words.safetensors", 3)) == 3
