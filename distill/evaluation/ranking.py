"""What a ranker must return, and the check that it did before its lists are measured.

On the path of the data: between anything that recommends (a trained model, a baseline, a bundle opened by the
runtime) and the metrics. A ranker gets whole histories, as `Recommender.recommend` does on the device; a malformed list
raises `RankingError`, so that no metric is computed from one.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.evaluation.metrics import CUTOFFS
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import ConfigError, DataError, PocketRecError

EMPTY = -1  # an empty slot of a list; only empty slots may follow it
INVALID = -2  # a slot with a semantic ID that no item has (from rankers that generate without the trie)


class RankingError(PocketRecError):
    """A ranker returned lists that break the contract of `Ranker`; metrics of them would mean nothing."""


class Ranker(Protocol):
    """Anything that recommends items for histories."""

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best `k` items for each history.

        :param histories: whole histories, catalogue rows, oldest first; a history may be empty. A model reads as many
            of the newest items as on the device.
        :param k: length of the lists.
        :param exclude_seen: leave out every item of the whole history, also items that the model does not read.
        :returns: int32 [n, k], catalogue rows, best first, none twice; EMPTY (-1) after the last item, INVALID (-2) for
            a semantic ID that no item has.
        """


def ranked_lists(
    ranker: Ranker,
    cases: EvalSet,
    *,
    n_items: int,
    exclude_seen: bool,
    list_length: int,
    batch_size: int = 1024,
    progress: Progress = SILENT,
) -> NDArray[np.int32]:
    """Return the ranker's lists for the histories of all cases, checked, int32 [n, list_length].

    :param n_items: size of the catalogue.
    :param exclude_seen: leave out the items of the whole history.
    :param batch_size: histories per call of the ranker.
    :raises DataError: if there are no cases, or a target is not a row of the catalogue.
    :raises ConfigError: if `list_length` is shorter than the longest cutoff of the metrics, or `batch_size` is below 1.
    :raises RankingError: if a list breaks the contract of `Ranker`.
    """
    if list_length < max(CUTOFFS):
        raise ConfigError(f"list_length is {list_length}; the cutoffs need at least {max(CUTOFFS)}")
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it must be at least 1")
    if len(cases) == 0:
        raise DataError("there are no evaluation cases; check the split")
    low, high = cases.targets.min(), cases.targets.max()
    if low < 0 or high >= n_items:
        raise DataError(
            f"targets are catalogue rows {low} to {high}, but this catalogue has rows 0 to {n_items - 1}; "
            "use the catalogue that the split was made with"
        )
    lists = np.empty((len(cases), list_length), np.int32)
    with progress.track("evaluating", len(cases)) as advance:
        for start in range(0, len(cases), batch_size):
            batch = cases.histories.take(slice(start, start + batch_size))
            found = ranker.rank(batch, list_length, exclude_seen)
            _check_lists(found, (len(batch), list_length), n_items, type(ranker).__name__)
            if exclude_seen:
                _check_unseen(found, batch, n_items, type(ranker).__name__)
            lists[start : start + len(batch)] = found
            advance(len(batch))
    return lists


def _check_lists(found: NDArray[np.int32], shape: tuple[int, int], n_items: int, who: str) -> None:
    if found.shape != shape or not np.issubdtype(found.dtype, np.integer):
        raise RankingError(f"{who}.rank returned {found.dtype} {list(found.shape)}, not int32 {list(shape)}")
    outside = (found < INVALID) | (found >= n_items)
    if outside.any():
        row, place = np.argwhere(outside)[0]
        raise RankingError(
            f"{who}.rank put {found[row, place]} at place {place} of list {row}; "
            f"rows of this catalogue are 0 to {n_items - 1} (-1: an empty slot, -2: an ID that no item has)"
        )
    if ((found[:, :-1] == EMPTY) & (found[:, 1:] != EMPTY)).any():
        raise RankingError(f"{who}.rank left an empty slot (-1) before an item; only the last slots may be empty")
    ordered = np.sort(found, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row, place = np.argwhere(twice)[0]
        raise RankingError(f"{who}.rank listed item {ordered[row, place]} twice in list {row}; an item is allowed once")


def _check_unseen(found: NDArray[np.int32], histories: Sequences, n_items: int, who: str) -> None:
    def keys(rows: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.int64]:
        return rows * n_items + items

    seen = keys(np.repeat(np.arange(len(histories)), histories.lengths), histories.events())
    row, place = np.nonzero(found >= 0)
    again = np.flatnonzero(np.isin(keys(row, found[row, place]), seen))
    if len(again):
        item = found[row[again[0]], place[again[0]]]
        raise RankingError(f"{who}.rank listed item {item} of the history although seen items are excluded")
