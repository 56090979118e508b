"""The crowd: which items people took after an item, a few for each, and how popular every item is.

A history's items send weight along their edges, newest items most; what arrives, with a share for popularity, is a
probability of each item that needs no model. Built from a log in one pass by `pocketrec.distill.experts.crowd`.

Format "pocketrec.graph", version 1, safetensors, n items in the order of the catalogue's table:
`scales` float32 [n]: the weight of an item's strongest edge, 0 without edges; `popularity_range` float32 [2]: the least
logarithm of a popularity, and a step; `neighbours` uint16 [m] (int32 above 65,536 items): table rows, the edges of one
item after the other, rising within an item; `counts` uint8 [n]: edges of each item; `weights` uint8 [m]: of 255ths of
the scale; `popularity` uint8 [n]: steps above the least.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.experts.tensors import TensorRule, load_tensors
from pocketrec.runtime.files.safetensors import write_tensors

FORMAT: Final = "pocketrec.graph"
VERSION: Final = "1"
MAX_EDGES: Final = 255  # of one item
WIDE: Final = 1 << 16  # items from which rows need more than 16 bits
_RULES: Final = {
    "scales": TensorRule(("F32",), 1),
    "popularity_range": TensorRule(("F32",), 1),
    "neighbours": TensorRule(("U16", "I32"), 1),
    "counts": TensorRule(("U8",), 1),
    "weights": TensorRule(("U8",), 1),
    "popularity": TensorRule(("U8",), 1),
}


@dataclass(frozen=True, eq=False, slots=True)
class Crowd:
    """Edges and popularity of n items, all by table row; arrays never change.

    first: int64 [n + 1], where each item's edges begin. neighbours: int32 [m]. weights: float32 [m], positive.
    log_popularity: float32 [n], at most 0.
    """

    first: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    weights: NDArray[np.float32]
    log_popularity: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.log_popularity)

    @classmethod
    def load(cls, path: Path, n_items: int) -> Crowd:
        """Read and check a file.

        :param n_items: items in the catalogue that it belongs to.
        :raises BundleError: if it is damaged, of another version, or not of this catalogue.
        """
        t = load_tensors(path, FORMAT, VERSION, _RULES)
        counts, neighbours = t["counts"], t["neighbours"].astype(np.int32)
        if wrong := _fault(t, neighbours, n_items):
            raise BundleError(f"{path.name} is malformed ({wrong}); fetch the bundle again or export it again")
        first = np.zeros(n_items + 1, np.int64)
        np.cumsum(counts, out=first[1:])
        weights = np.repeat(t["scales"], counts) * (t["weights"].astype(np.float32) / np.float32(255))
        low, step = t["popularity_range"]
        return cls(first, neighbours, weights.astype(np.float32), low + step * t["popularity"].astype(np.float32))

    def save(self, path: str | Path) -> None:
        """Write the file; weights and popularity are rounded to 8 bits.

        :raises OSError: if the disk refuses.
        """
        counts = np.diff(self.first)
        scales = np.zeros(len(self), np.float32)
        some = np.flatnonzero(counts)
        if len(some):
            scales[some] = np.maximum.reduceat(self.weights, self.first[some])
        steps = np.rint(self.weights / np.repeat(np.where(scales > 0, scales, 1), counts) * 255)
        low = float(self.log_popularity.min(initial=0.0))
        step = (float(self.log_popularity.max(initial=low)) - low) / 255
        popularity = np.rint((self.log_popularity - low) / (step or 1.0))
        rows = np.uint16 if len(self) <= WIDE else np.int32
        write_tensors(path, {"format": FORMAT, "version": VERSION}, {
            "scales": scales,
            "popularity_range": np.array([low, step], np.float32),
            "neighbours": self.neighbours.astype(rows),
            "counts": counts.astype(np.uint8),
            "weights": np.maximum(steps, 1).astype(np.uint8),
            "popularity": popularity.astype(np.uint8),
        })  # fmt: skip

    def reached(self, history: NDArray[np.int32], recency: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Sum what arrives over the edges of a history's items.

        :param history: table rows, oldest first.
        :param recency: weight of an item relative to the one after it, in (0, 1].
        :return: the items that are reached, int32 [r], rising, and what each gets, float32.
        """
        newest = history[::-1]
        starts, sizes = self.first[newest], np.diff(self.first)[newest]
        total = int(sizes.sum())
        if total == 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        at = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(total)
        worth = np.repeat(shares(recency, len(newest)).astype(np.float32), sizes)
        items, place = np.unique(self.neighbours[at], return_inverse=True)
        return items, np.bincount(place, self.weights[at] * worth).astype(np.float32)


def shares(recency: float, ages: int) -> NDArray[np.float64]:
    """Weight of an item by age, float64 [ages]: products one by one, as the C engine computes them."""
    factors = np.full(ages, recency, np.float64)
    factors[:1] = 1.0
    return factors.cumprod(dtype=np.float64)


def _fault(t: dict[str, NDArray[Any]], neighbours: NDArray[np.int32], n_items: int) -> str:
    """What is wrong with the tensors; empty: nothing."""
    counts, scales = t["counts"], t["scales"]
    if not len(counts) == len(scales) == len(t["popularity"]) == n_items:
        return f"it has {len(counts)} items, the catalogue {n_items}"
    if int(counts.sum(dtype=np.int64)) != len(neighbours) or len(neighbours) != len(t["weights"]):
        return "its tensors do not fit each other"
    if len(neighbours) and not 0 <= neighbours.min() <= neighbours.max() < n_items:
        return "it names a neighbour that is no item of the catalogue"
    spread = t["popularity_range"]
    if len(spread) != 2 or not np.isfinite(spread).all() or spread[1] < 0 or spread[0] + 255 * spread[1] > 1e-3:
        return "its popularities are no probabilities"
    if not (np.isfinite(scales).all() and (scales >= 0).all() and (scales <= 1e30).all()):
        return "it has an edge whose weight is no positive number"
    if ((scales > 0) != (counts > 0)).any() or (t["weights"] == 0).any():
        return "it has an edge without weight"
    return ""
