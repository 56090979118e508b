"""What new items resemble: for each the nearest items by text, and what share of a neighbour's probability it may get.

The share is a softmax over everything that could follow the neighbour if only texts counted: exp(30 (cosine - 1)), over
the sum of that for all items but the neighbour itself. An item with hundreds of near copies passes little on to each.
Chosen on validation (docs/decisions/0014).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NEAREST: Final = 16  # items that a new one may resemble
LEAST: Final = 0.02  # shares below this are left out
SHARPNESS: Final = 30.0
BLOCK: Final = 1024


def resemblances(
    vectors: NDArray[np.float32], new: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.float16]]:
    """Find what new items resemble.

    :param vectors: float32 [n, d], L2-normalised text vectors of the whole catalogue.
    :param new: int64 [m], rows of the new items.
    :return: counts [m]; neighbours [sum of counts], rows of `vectors`; weights, aligned.
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
    kept = shares >= LEAST
    weights = np.minimum(shares[kept], 1.0).astype(np.float16)
    return kept.sum(1).astype(np.uint8), nearest[kept].astype(np.int32), weights


def _alike(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cosines of some items with all, [r, n], -inf with itself."""
    alike: NDArray[np.float32] = vectors[rows] @ vectors.T
    alike[np.arange(len(rows)), rows] = -np.inf
    return alike
