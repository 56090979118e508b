"""What new items resemble: the nearest texts, and shares that are a softmax over everything but the item itself."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.distill.semantic_ids import resemblance
from pocketrec.distill.semantic_ids.resemblance import MIN_SHARE, NEAREST, SHARPNESS, resemblances


def unit(rng, n, d=8):
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "block"), [(2, 1024), (5, 2), (60, 7), (200, 1024)])
def test_shares_are_the_softmax_of_all_pairs(monkeypatch, n, block):
    monkeypatch.setattr(resemblance, "BLOCK", block)
    rng = np.random.default_rng(n)
    vectors = unit(rng, n)
    new = np.sort(rng.choice(n, max(1, n // 5), replace=False))
    counts, neighbours, weights = resemblances(vectors, new)
    alike = np.exp(SHARPNESS * (vectors.astype(np.float64) @ vectors.T - 1))
    np.fill_diagonal(alike, 0)
    share = alike / alike.sum(1, keepdims=True)
    assert (counts.dtype, neighbours.dtype, weights.dtype) == (np.uint8, np.int32, np.float16)
    end = np.cumsum(counts)
    for place, item in enumerate(new):
        part = slice(end[place] - counts[place], end[place])
        nearest = np.argsort(-alike[item])[: min(NEAREST, n - 1)]
        wanted = {int(j): share[j, item] for j in nearest if share[j, item] >= MIN_SHARE * 1.01}
        got = dict(zip(neighbours[part].tolist(), weights[part].tolist(), strict=True))
        assert set(wanted) <= set(got) <= {int(j) for j in nearest if share[j, item] >= MIN_SHARE * 0.99}
        assert [got[j] for j in wanted] == pytest.approx(list(wanted.values()), rel=2e-3)


def test_an_item_alone_resembles_nothing():
    counts, neighbours, weights = resemblances(np.ones((1, 4), np.float32) / 2, np.array([0]))
    assert (counts.tolist(), len(neighbours), len(weights)) == ([0], 0, 0)


def test_nothing_new_gives_nothing():
    counts, neighbours, _ = resemblances(unit(np.random.default_rng(0), 5), np.empty(0, np.int64))
    assert (len(counts), len(neighbours)) == (0, 0)


def test_copies_share_what_they_get():
    vectors = np.concatenate((unit(np.random.default_rng(1), 20), np.ones((5, 8)) / np.sqrt(8))).astype(np.float32)
    counts, neighbours, weights = resemblances(vectors, np.array([21, 22, 23, 24]))
    given = {}
    for j, w in zip(neighbours.tolist(), weights.tolist(), strict=True):
        given[j] = given.get(j, 0.0) + w
    assert counts.min() > 0
    assert given[20] == pytest.approx(1.0, abs=0.1)  # four copies, a quarter each
