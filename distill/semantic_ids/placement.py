"""From latent vectors to unique SID rows: nearest code at every level, then nearest free code at the last.

A pure function of arrays: the same placement gives a whole catalogue its SIDs and later gives single new items
theirs, beside the rows that are already taken.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.errors import TrainingError

CHUNK = 65_536  # rows per distance matrix, so that memory stays bounded


def nearest_codes(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest centroid of each vector, int64 [n]; the lower code wins a tie."""
    out = np.empty(len(vectors), np.int64)
    for begin in range(0, len(vectors), CHUNK):
        out[begin : begin + CHUNK] = distances(vectors[begin : begin + CHUNK], centroids).argmin(1)
    return out


def distances(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return squared Euclidean distances less the vector's own square (a constant per row), float32 [n, codes]."""
    return np.asarray((centroids**2).sum(1) - 2.0 * vectors @ centroids.T, np.float32)


def place(
    latent: NDArray[np.float32],
    centroids: NDArray[np.float32],
    taken: NDArray[np.unsignedinteger] | None = None,
) -> tuple[NDArray[np.unsignedinteger], int]:
    """Give each vector a SID of its own.

    All levels but the last take the nearest code of the residual. Within one prefix the last codes are dealt out
    by minimum-cost assignment, so that a code is used once and the total distance is least. A prefix with more
    items than free codes passes its farthest items on to their next-nearest prefix.

    :param latent: float32 [n, d].
    :param centroids: float32 [levels, codes, d].
    :param taken: rows that must not be used again, [m, levels].
    :returns: the rows, uint8 or uint16 [n, levels], and how many items are not where the nearest codes put them.
    :raises TrainingError: if no prefix that differs in its last code alone has room for an item.
    """
    levels, codes, _ = centroids.shape
    wanted, residual = _greedy(latent, centroids)
    rows = wanted.copy()
    used: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for row in np.zeros((0, levels), int) if taken is None else taken.astype(int):
        used[tuple(row[:-1].tolist())].add(int(row[-1]))
    waiting = np.arange(len(latent))
    while len(waiting):
        waiting = _deal(rows, waiting, residual, centroids[-1], used)
        for item in waiting.tolist():
            residual[item] = _next_prefix(rows, item, latent[item], centroids, used)
    dtype = np.uint8 if codes <= 256 else np.uint16
    return rows.astype(dtype), int((rows != wanted).any(1).sum())


def _greedy(
    latent: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Nearest code at every level [n, levels], and the residual that the last level quantises [n, d]."""
    rows = np.empty((len(latent), len(centroids)), np.int64)
    residual = before_last = np.array(latent, np.float32)
    for level, codebook in enumerate(centroids):
        before_last = residual
        rows[:, level] = nearest_codes(residual, codebook)
        residual = residual - codebook[rows[:, level]]
    return rows, before_last.copy()


def _deal(
    rows: NDArray[np.int64],
    items: NDArray[np.int64],
    residual: NDArray[np.float32],
    codebook: NDArray[np.float32],
    used: dict[tuple[int, ...], set[int]],
) -> NDArray[np.int64]:
    """Deal out last codes within each prefix; return the items for which no code was free."""
    from scipy.optimize import linear_sum_assignment

    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for item in items.tolist():
        groups[tuple(rows[item, :-1].tolist())].append(item)
    left_over: list[int] = []
    for prefix, members in groups.items():
        free = np.setdiff1d(np.arange(len(codebook)), np.fromiter(used[prefix], int), assume_unique=True)
        cost = distances(residual[members], codebook[free])
        who, where = linear_sum_assignment(cost)
        for w, f in zip(who.tolist(), free[where].tolist(), strict=True):
            rows[members[w], -1] = f
            used[prefix].add(f)
        left_over += [m for n, m in enumerate(members) if n not in set(who.tolist())]
    return np.array(left_over, np.int64)


def _next_prefix(
    rows: NDArray[np.int64],
    item: int,
    vector: NDArray[np.float32],
    centroids: NDArray[np.float32],
    used: dict[tuple[int, ...], set[int]],
) -> NDArray[np.float32]:
    """Move an item to the nearest prefix with a free code that differs in its last code; return its residual there."""
    levels, codes, _ = centroids.shape
    if levels > 1:
        parents = tuple(rows[item, :-2].tolist())
        residual = vector - sum((centroids[i, c] for i, c in enumerate(parents)), np.zeros_like(vector))
        for code in distances(residual[None], centroids[-2])[0].argsort(kind="stable").tolist():
            prefix = (*parents, code)
            if len(used[prefix]) < codes:
                rows[item, -2] = code
                return np.asarray(residual - centroids[-2, code], np.float32)
    raise TrainingError(
        f"no free semantic ID near item {item}: every prefix beside {tuple(rows[item, :-1].tolist())} holds all of "
        f"its {codes} items; raise sid.codes or sid.levels and train again"
    )
