"""From latent vectors to unique SID rows: the nearest code at every level, and the nearest free code at the last.

A pure function of arrays. It first places a whole catalogue, and later single new items beside the rows in use.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.errors import TrainingError

CHUNK = 65_536  # rows per distance matrix, which bounds memory


def nearest_codes(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest centroid of each vector, int64 [n]; the lower code wins a tie."""
    out = np.empty(len(vectors), np.int64)
    for begin in range(0, len(vectors), CHUNK):
        out[begin : begin + CHUNK] = distances(vectors[begin : begin + CHUNK], centroids).argmin(1)
    return out


def distances(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return squared Euclidean distances minus the vector's squared norm (constant per row), float32 [n, codes]."""
    return np.asarray((centroids**2).sum(1) - 2.0 * vectors @ centroids.T, np.float32)


def place(
    latent: NDArray[np.float32],
    centroids: NDArray[np.float32],
    taken: NDArray[np.unsignedinteger] | None = None,
) -> tuple[NDArray[np.unsignedinteger], int]:
    """Assign a unique SID to each vector.

    All levels but the last take the nearest code of the residual. Within one prefix the last codes are assigned at
    minimum total distance, each code once. If a prefix has more items than free codes, the items left over move to the
    nearest prefix with a free code.

    :param latent: float32 [n, d].
    :param centroids: float32 [levels, codes, d].
    :param taken: rows that are in use already, [m, levels].
    :returns: the rows, uint8 or uint16 [n, levels], and the number of items that did not get their nearest codes.
    :raises TrainingError: if an item's prefix and all prefixes that differ from it in their last code are full.
    """
    levels, codes, _ = centroids.shape
    wanted, residual = _greedy(latent, centroids)
    rows = wanted.copy()
    used: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for row in np.zeros((0, levels), int) if taken is None else taken.astype(int):
        used[tuple(row[:-1].tolist())].add(int(row[-1]))
    waiting = np.arange(len(latent))
    while len(waiting):
        waiting = _assign_last(rows, waiting, residual, centroids[-1], used)
        for item in waiting.tolist():
            residual[item] = _next_prefix(rows, item, latent[item], centroids, used)
    dtype = np.uint8 if codes <= 256 else np.uint16
    return rows.astype(dtype), int((rows != wanted).any(1).sum())


def _greedy(
    latent: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest code at every level [n, levels], and the residual before the last level [n, d]."""
    rows = np.empty((len(latent), len(centroids)), np.int64)
    residual = before_last = np.array(latent, np.float32)
    for level, codebook in enumerate(centroids):
        before_last = residual
        rows[:, level] = nearest_codes(residual, codebook)
        residual = residual - codebook[rows[:, level]]
    return rows, before_last.copy()


def _assign_last(
    rows: NDArray[np.int64],
    items: NDArray[np.int64],
    residual: NDArray[np.float32],
    codebook: NDArray[np.float32],
    used: dict[tuple[int, ...], set[int]],
) -> NDArray[np.int64]:
    """Assign the last codes within each prefix; return the items for which no code was free."""
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
    """Move an item to the nearest prefix that has a free code and differs in its last code; return its residual."""
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
        f"no free semantic ID near item {item}: all {codes} codes are taken under every prefix beside "
        f"{tuple(rows[item, :-1].tolist())}; raise sid.codes or sid.levels and train again"
    )
