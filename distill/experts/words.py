"""The word index for the device: which words an item's texts have, and how telling each is.

`pocketrec.runtime.experts.tokens` says what a word is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import unescape
from itertools import chain

import numpy as np
from scipy.sparse import csr_array

from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.experts.tokens import words_of
from pocketrec.runtime.experts.words import MAX_TERMS, Words

TERMS = 6  # words kept an item, the most telling ones
SHARPNESS = 1.5  # exponent of idf: above 1, rare words count more than in plain tf-idf


def build_words(texts: Sequence[str], terms: int = TERMS) -> Words:
    """Index texts by their words.

    A word weighs idf^SHARPNESS, where idf = ln((1 + n) / (1 + df)) + 1 as in scikit-learn's TfidfVectorizer; words of
    one item alone are left out. HTML entities are read as the characters that they stand for.

    :param texts: one for each item, in the order of the catalogue; "" where an item has none.
    :param terms: words kept an item, 1 to 255.
    :raises ConfigError: if `terms` is out of its range.
    """
    if not 1 <= terms <= MAX_TERMS:
        raise ConfigError(f"experts.terms is {terms}; give a number from 1 to {MAX_TERMS}")
    number: dict[str, int] = {}  # of a word, by first appearance
    of_item = [[number.setdefault(w, len(number)) for w in dict.fromkeys(words_of(unescape(text)))] for text in texts]
    place = np.fromiter(chain.from_iterable(of_item), np.int64)
    df = np.bincount(place, minlength=len(number))
    idf = (np.log((1 + len(texts)) / (1 + df)) + 1) ** SHARPNESS
    item = np.repeat(np.arange(len(texts)), [len(w) for w in of_item])
    shared = df[place] > 1
    item, place = item[shared], place[shared]
    order = np.lexsort((place, -idf[place], item))  # most telling first
    sizes = np.bincount(item, minlength=len(texts))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    item, place = item[order[rank < terms]], place[order[rank < terms]]
    used, place = np.unique(place, return_inverse=True)
    order = np.lexsort((place, item))
    return Words.build(np.bincount(item, minlength=len(texts)), place[order], idf[used].astype(np.float32))


def word_matrices(words: Words) -> tuple[csr_array, csr_array]:
    """Return an index as matrices whose product is the cosines of all items with all others, as the device scores them.

    :returns: the unit vector of each item's words, CSR [n, V], and the postings of each word, CSR [V, n].
    """
    n, size = len(words), len(words.idf)
    owner = np.repeat(np.arange(n), np.diff(words.first))
    queries = csr_array((words.idf[words.terms] / words.norm[owner], words.terms, words.first), (n, size))
    word = np.repeat(np.arange(size), np.diff(words.post_first))
    values = words.idf[word] / words.norm[words.post_items]
    return queries, csr_array((values, words.post_items, words.post_first), (size, n))


def joined(columns: Iterable[Sequence[str | None]]) -> list[str]:
    """Join the text columns of each item into one text."""
    return [" ".join(part for part in row if part) for row in zip(*columns, strict=True)]
