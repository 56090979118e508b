"""The word index: the most telling words of each item."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.distill.experts.words import SHARPNESS, build_words
from pocketrec.runtime.errors import ConfigError


def test_words_of_one_item_alone_are_left_out():
    words = build_words(["red lamp", "red chair", "blue"])
    assert np.diff(words.first).tolist() == [1, 1, 0]
    assert len(words.idf) == 1


def test_the_most_telling_words_are_kept():
    texts = ["a b c", "a b c", "a b", "a", "a"]
    words = build_words(texts, terms=2)
    of_first = words.idf[words.terms[words.first[0] : words.first[1]]]
    assert sorted(of_first.tolist()) == sorted(words.idf.tolist())[-2:]  # c and b, not a
    assert np.diff(words.first).tolist() == [2, 2, 2, 1, 1]


def test_a_word_counts_once_however_often_it_stands_there():
    once, often = build_words(["a b", "a b", "b"]), build_words(["a a a b", "a b", "b"])
    np.testing.assert_array_equal(once.terms, often.terms)


def test_weights_are_powers_of_the_idf_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["a1 b1 c1", "a1 b1", "a1 c1", "b1 a1"]
    theirs = TfidfVectorizer(token_pattern=r"\w+").fit(texts)
    words = build_words(texts)
    assert sorted(words.idf.tolist()) == pytest.approx(sorted((theirs.idf_**SHARPNESS).tolist()), rel=1e-6)


def test_html_entities_are_read():
    words = build_words(["Shampoo &amp; Cr&egrave;me", "shampoo & creme", "amp"])
    assert np.diff(words.first).tolist() == [2, 2, 0]


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"experts\.terms is 300"):
        build_words(["a"], terms=300)
