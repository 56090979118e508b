"""Crowds and words so small that every right answer can be found by trying everything."""

from __future__ import annotations

import numpy as np

from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.words import Words


def crowd_of(edges, n_items, popularity=None):
    """A crowd from {item: {next item: weight}}; everybody equally popular if nothing is said."""
    sizes = [len(edges.get(i, {})) for i in range(n_items)]
    pairs = [pair for i in range(n_items) for pair in sorted(edges.get(i, {}).items())]
    counts = np.ones(n_items) if popularity is None else np.asarray(popularity, np.float64)
    return Crowd(
        np.concatenate(([0], np.cumsum(sizes))).astype(np.int64) if n_items else np.zeros(1, np.int64),
        np.array([to for to, _ in pairs], np.int32),
        np.array([weight for _, weight in pairs], np.float32),
        np.log(counts / max(counts.sum(), 1)).astype(np.float32),
    )


def random_crowd(n_items, seed=0, most=5):
    """Up to `most` edges an item, anywhere."""
    chance = np.random.default_rng(seed)
    edges = {
        i: {int(j): float(chance.uniform(0.05, 3)) for j in chance.integers(0, n_items, chance.integers(0, most + 1))}
        for i in range(n_items)
    }
    return crowd_of(edges, n_items, chance.integers(1, 100, n_items))


def random_words(n_items, seed=0, vocabulary=12, most=4):
    """Up to `most` words an item."""
    chance = np.random.default_rng(seed)
    of_item = [np.unique(chance.integers(0, vocabulary, chance.integers(0, most + 1))) for _ in range(n_items)]
    counts = np.array([len(words) for words in of_item], np.int64)
    terms = np.concatenate(of_item) if of_item else np.empty(0, np.int64)
    return Words.build(counts, terms, chance.uniform(1, 5, vocabulary).astype(np.float32))
