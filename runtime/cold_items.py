"""Cold items, which nobody has interacted with yet: which known items they resemble, and how that scores them.

The model was never trained to predict a cold item's semantic ID and gives it next to no probability. A refreshed
catalogue therefore lists, for each cold item, the known items whose texts are most similar (its neighbours), and these
pass probability on to it: a share of their own if the model recommends them, and a fixed small amount if they are among
the last items of the user's history. The sum's logarithm is the cold item's score.

Format "pocketrec.cold-items", version 1, safetensors, m cold items: `items` int32 [m], rows of the catalogue's table,
rising; `counts` uint8 [m], the number of neighbours of each; `neighbours` int32, their table rows, one item after the
other; `weights` float16, aligned with `neighbours`: the share of its probability that a neighbour passes on, (0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pocketrec.runtime.catalogue.item_table import MAX_ITEMS
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import BundleError, one_line
from pocketrec.runtime.files.safetensors import check_header

FORMAT: Final = "pocketrec.cold-items"
VERSION: Final = "1"
FROM_FOUND: Final = 0.25  # share of a recommended item's probability that it passes on (times the weight)
# Probability that the last item of the history passes on, the one before it, and the one before that.
FROM_RECENT: Final = (0.025, 0.0125, 0.00625)
RECENT: Final = len(FROM_RECENT)
NO_ITEMS: Final = (np.empty(0, np.int32), np.empty(0, np.float32))
_TENSORS: Final = {"items": "I32", "counts": "U8", "neighbours": "I32", "weights": "F16"}
_REMEDY: Final = "fetch the bundle again or refresh the catalogue again"


@dataclass(frozen=True, eq=False, slots=True)
class ColdItems:
    """Cold items by the known items that they resemble; all are rows of the catalogue's table.

    items: int32 [m], all cold items, rising; one that resembles no known item has no place in the other arrays.
    known: int32 [u], rising. first: int64 [u + 1]: the cold items that resemble known[i] are
    `new[first[i] : first[i + 1]]`, int32, with `weights`, float32.
    """

    items: NDArray[np.int32]
    known: NDArray[np.int32]
    first: NDArray[np.int64]
    new: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def load(cls, path: Path, n_items: int) -> ColdItems:
        """Read and check a file.

        :param n_items: items in the catalogue that it belongs to.
        :raises BundleError: if it is damaged, of another version, or belongs to another catalogue.
        """
        try:
            check_header(path)
            with safe_open(path, framework="numpy") as file:
                _check_header(path, file)
                items, counts, neighbours, weights = (file.get_tensor(name) for name in _TENSORS)
        except (SafetensorError, OSError, ValueError) as error:
            raise BundleError(
                f"{path.name} is damaged or no safetensors file ({one_line(error)}); {_REMEDY}"
            ) from error
        if wrong := _fault(items, counts, neighbours, weights, n_items):
            raise BundleError(f"{path.name} is malformed ({wrong}); {_REMEDY}")
        order = np.argsort(neighbours, kind="stable")
        known, first = np.unique(neighbours[order], return_index=True)
        new = np.repeat(items, counts)[order]
        return cls(items, known, np.append(first, len(order)), new, weights[order].astype(np.float32))

    def scored(
        self, recent: NDArray[np.int32], found: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Score the cold items that resemble the history's last items or the items that the model recommends.

        :param recent: int32 [r], the history's last items, the newest first. found: int32 [m], the items
            that the model recommends; scores: float32 [m], its log-probabilities.
        :return: cold items, each once, rising, and their log-probabilities, float32.
        """
        gained: dict[int, float] = {}  # a handful: quicker than numpy
        for _, item, probability in self.passed_on(recent, found, scores):
            gained[item] = gained.get(item, 0.0) + probability
        if not gained:
            return NO_ITEMS
        new = sorted(gained)
        total = np.array([gained[item] for item in new])
        return np.array(new, np.int32), np.log(np.maximum(total, 1e-38)).astype(np.float32)

    def passed_on(
        self, recent: NDArray[np.int32], found: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> Iterator[tuple[int, int, float]]:
        """Yield (known item, cold item, probability passed on from the one to the other); arguments as in `scored`."""
        rows = np.concatenate((recent[:RECENT], found))
        if len(self.known) == 0 or len(rows) == 0:
            return
        place = np.minimum(np.searchsorted(self.known, rows), len(self.known) - 1)
        hits = np.flatnonzero(self.known[place] == rows)
        if len(hits) == 0:
            return
        passed = np.concatenate((FROM_RECENT[: len(recent)], FROM_FOUND * np.exp(scores)))
        starts, ends = self.first[place[hits]].tolist(), self.first[place[hits] + 1].tolist()
        for known, worth, start, end in zip(rows[hits].tolist(), passed[hits].tolist(), starts, ends, strict=True):
            shares = zip(self.new[start:end].tolist(), self.weights[start:end].tolist(), strict=True)
            for item, weight in shares:
                yield known, item, worth * weight

    def passed_to(
        self, item: int, recent: NDArray[np.int32], found: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> list[tuple[int, float]]:
        """Return (known item, probability passed on) for one cold item, the largest first; arguments as in `scored`."""
        total: dict[int, float] = {}
        for known, new, probability in self.passed_on(recent, found, scores):
            if new == item:
                total[known] = total.get(known, 0.0) + probability
        return sorted(total.items(), key=lambda pair: -pair[1])


def recent_rows(trie: ItemTrie, history: NDArray[np.int32]) -> NDArray[np.int32]:
    """Table rows of the last items of a history that pass probability on, the newest first.

    :param history: int32 [N], leaf rows of `trie`, oldest first.
    """
    return trie.table_rows_of(history[: -RECENT - 1 : -1])


def best_of_both(
    leaves: NDArray[np.int32],
    scores: NDArray[np.float32],
    more: NDArray[np.int32],
    their_scores: NDArray[np.float32],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Merge two lists of leaves with scores, best first; a leaf of both gets the better of its scores."""
    best = dict(zip(leaves.tolist(), scores.tolist(), strict=True))
    for leaf, score in zip(more.tolist(), their_scores.tolist(), strict=True):
        best[leaf] = max(score, best.get(leaf, score))
    order = sorted(best, key=best.__getitem__, reverse=True)  # stable: of equal scores, the first list's come first
    return np.array(order, np.int32), np.array([best[leaf] for leaf in order], np.float32)


def _check_header(path: Path, file: Any) -> None:
    metadata = file.metadata() or {}
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
        raise BundleError(
            f"{path.name} has format {metadata.get('format')!r:.60}, version {metadata.get('version')!r:.20}, and this "
            f"runtime reads {FORMAT!r}, {VERSION!r}; update pocketrec or refresh the catalogue again"
        )
    if set(file.keys()) != set(_TENSORS):
        raise BundleError(f"{path.name} has other tensors than {', '.join(_TENSORS)}; {_REMEDY}")
    for name, kind in _TENSORS.items():
        tensor = file.get_slice(name)
        if tensor.get_dtype() != kind or len(tensor.get_shape()) != 1 or tensor.get_shape()[0] > 255 * MAX_ITEMS:
            raise BundleError(f"{path.name} has {name} of {tensor.get_dtype()} {tensor.get_shape()}; {_REMEDY}")


def _fault(
    items: NDArray[np.int32],
    counts: NDArray[np.uint8],
    neighbours: NDArray[np.int32],
    weights: NDArray[np.float16],
    n_items: int,
) -> str:
    """Describe what is wrong with the tensors; empty: nothing."""
    if (
        len(items) != len(counts)
        or int(counts.sum(dtype=np.int64)) != len(neighbours)
        or len(neighbours) != len(weights)
    ):
        return "its tensors do not fit each other"
    if len(items) and not (items[0] >= 0 and items[-1] < n_items and bool((np.diff(items) > 0).all())):
        return "its items are not rows of the catalogue, rising"
    if len(neighbours) and not 0 <= neighbours.min() <= neighbours.max() < n_items:
        return "it names a neighbour that is not in the catalogue"
    if not bool(((weights > 0) & (weights <= 1)).all()):
        return "it has a weight that is not above 0 and at most 1"
    return ""
