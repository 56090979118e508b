"""Checks of what an engine is asked for and of what a bundle's graph returns, before anything is made of either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from pocketrec.runtime.catalogue.trie import ItemTrie
    from pocketrec.runtime.engines.protocol import Found

ROUNDING: Final = 1e-3  # rounding may take a log-probability this far above 0
BIAS_ROUNDING: Final = 1.0  # and this far above its bias, which may be a million in float32
TOO_HIGH: Final = "gives a score of {:.3g}, but a log-probability is at most 0"
_REMEDY: Final = "export the bundle again"


def positive_integer(name: str, value: Any) -> int:
    """Return an argument as an int of any size.

    :raises ConfigError: if it is not a whole number (bools are refused), or below 1.
    """
    if type(value) is int and value >= 1:
        return value  # the usual case, quickly
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ConfigError(f"{name} is {value!r}; give a whole number")
    if value < 1:
        raise ConfigError(f"{name} is {value}; it must be at least 1")
    return int(value)


def beam_width(beam: Any, trie: ItemTrie) -> int:
    """Return how many prefixes a search keeps: `beam`, but no more than the catalogue has items.

    Every prefix of a level leads to an item of its own, so a wider beam finds nothing more.

    :raises ConfigError: if `beam` is not a whole number of at least 1.
    """
    items = len(trie.rows)
    if type(beam) is int and 1 <= beam <= items:
        return beam  # the usual case, quickly
    return max(min(positive_integer("beam", beam), items), 1)


def check_search_output(
    rows: NDArray[Any],
    scores: NDArray[Any],
    items: int,
    exclude: NDArray[np.int32],
    largest: NDArray[np.float32] | None = None,
) -> Found:
    """Check what a search returned; give it back without its empty slots (scores of -inf or NaN).

    :param rows: int32 [m], leaf rows. scores: float32 [m], log-probabilities.
    :param items: leaves of the trie that was searched.
    :param exclude: int32 [M], leaf rows that may not be among them.
    :param largest: float32 [items], the bias of each leaf, which its score cannot exceed; None: no biases.
    :raises BundleError: on other types or shapes; on rows that no item has, that were excluded or that repeat; on a
        score above the largest possible; on a worse item before a better one.
    """
    if rows.ndim != 1 or rows.shape != scores.shape or rows.dtype != np.int32 or scores.dtype != np.float32:
        raise BundleError(
            f"the bundle's graph returns {rows.dtype} {list(rows.shape)} and {scores.dtype} {list(scores.shape)}, "
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
        raise BundleError(f"the bundle's graph {TOO_HIGH.format(values[0])}; {_REMEDY}")
    return found, kept
