"""Neighbours of new items: the nearest items by text, and the share of each neighbour's probability that they get.

A new item's share of a neighbour's probability is a softmax over text similarity: exp(30 (cosine - 1)), divided by the
sum of the same over all items except the neighbour. An item with hundreds of near copies gives each a small share.
The constants were chosen on validation (docs/decisions/0015-cold-items.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NEAREST: Final = 16  # neighbours per new item, at most
MIN_SHARE: Final = 0.02  # neighbours with a smaller share are left out
SHARPNESS: Final = 30.0
BLOCK: Final = 1024


def resemblances(
    vectors: NDArray[np.float32], new: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.float16]]:
    """Find the neighbours of new items.

    :param vectors: float32 [n, d], L2-normalised text vectors of the whole catalogue.
    :param new: int64 [m], rows of the new items.
    :returns: neighbours per new item, uint8 [m]; the neighbours of all, int32 [sum], rows of `vectors`; their shares,
        float16 [sum].
    """
    nearest = np.empty((len(new), min(NEAREST, max(len(vectors) - 1, 0))), np.int64)
    if nearest.size == 0:
        return np.zeros(len(new), np.uint8), np.empty(0, np.int32), np.empty(0, np.float16)
    for begin in range(0, len(new), BLOCK):
        rows = new[begin : begin + BLOCK]
        alike = _alike(vectors, rows)
        nearest[begin : begin + BLOCK] = np.argpartition(alike, -nearest.shape[1], axis=1)[:, -nearest.shape[1] :]
    known, which = np.unique(nearest, return_inverse=True)
    total = np.empty(len(known))
    for begin in range(0, len(known), BLOCK):
        alike = _alike(vectors, known[begin : begin + BLOCK])
        total[begin : begin + BLOCK] = np.exp(SHARPNESS * (alike - 1.0)).sum(1, dtype=np.float64)
    cosines = np.einsum("md,mkd->mk", vectors[new], vectors[nearest])
    shares = np.exp(SHARPNESS * (cosines - 1.0)) / np.maximum(total, 1e-30)[which.reshape(nearest.shape)]
    kept = shares >= MIN_SHARE
    weights = np.minimum(shares[kept], 1.0).astype(np.float16)
    return kept.sum(1).astype(np.uint8), nearest[kept].astype(np.int32), weights


def _alike(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the cosines of some items with all, float32 [r, n]; -inf of an item with itself."""
    alike: NDArray[np.float32] = vectors[rows] @ vectors.T
    alike[np.arange(len(rows)), rows] = -np.inf
    return alike
