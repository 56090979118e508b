"""What a graph from outside may answer to a search, checked before anything is made of it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.errors import BundleError

ROUNDING: Final = 1e-3  # what a log-probability may be above 0
BIAS_ROUNDING: Final = 1.0  # and what it may be above its bias, of up to a million in float32
_REMEDY: Final = "export the bundle again"


def sound_answer(
    rows: NDArray[Any],
    scores: NDArray[Any],
    items: int,
    exclude: NDArray[np.int32],
    largest: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return an answer without its empty slots (scores of -inf or NaN).

    :param rows: int32 [m], leaf rows. scores: float32 [m], log-probabilities.
    :param items: leaves of the trie that was searched.
    :param exclude: int32 [M], leaf rows that may not be among them.
    :param largest: float32 [items], what the scores may be; None: 0.
    :raises BundleError: if it is no answer: of other types or shapes, rows that no item has, that were excluded or
        that stand twice, scores that no probability has, or a worse item before a better one.
    """
    if rows.ndim != 1 or rows.shape != scores.shape or rows.dtype != np.int32 or scores.dtype != np.float32:
        raise BundleError(
            f"the bundle's graph answers {rows.dtype} {list(rows.shape)} and {scores.dtype} {list(scores.shape)}, "
            f"where int32 and float32 of one length are needed; {_REMEDY}"
        )
    real = scores > -np.inf  # false for NaN
    found, kept = rows[real], scores[real]
    listed, values = found.tolist(), kept.tolist()
    if not listed:
        return found, kept
    if min(listed) < 0 or max(listed) >= items:
        raise BundleError(f"the bundle's graph names items that do not exist; {_REMEDY}")
    distinct = set(listed)
    if len(distinct) < len(listed) or not distinct.isdisjoint(exclude.tolist()):
        raise BundleError(f"the bundle's graph names an item twice, or one that was excluded; {_REMEDY}")
    if values != sorted(values, reverse=True):
        raise BundleError(f"the bundle's graph names a worse item before a better one; {_REMEDY}")
    if (values[0] > ROUNDING) if largest is None else bool((kept > largest[found] + BIAS_ROUNDING).any()):
        raise BundleError(f"the bundle's graph gives a score of {values[0]:.3g}, which none is; {_REMEDY}")
    return found, kept
