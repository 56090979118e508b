"""Transitions between the items of a log, block by block of items, so that memory does not grow with their number.

On the path of the data: training histories in, rows of a weighted item graph out, for `distill.experts.crowd`. The
weights are those of the baseline `distill.evaluation.baselines.TransitionGraph`, to which events may add theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from pocketrec.distill.data.splits import Sequences
from pocketrec.runtime.errors import DataError

BLOCK_EVENTS, BLOCK_ITEMS = 1 << 18, 1 << 14  # of one block, at most (an item with more events is a block of its own)


class Transitions:
    """The pairs of a log's events, looked up by item."""

    def __init__(
        self, train: Sequences, n_items: int, *, window: int, distance: float, backward: float, min_users: int
    ) -> None:
        """Sort the log's events by item.

        A pair is two events of one history at most `window` places apart, of different items. It weighs
        d^-distance, where d is the number of places, `backward` times that against its direction, and, where events
        have weights, the smaller one of both (an event without weight makes no pair).

        :param train: training histories; catalogue rows.
        :param n_items: items in the catalogue.
        :param min_users: pairs of items that fewer histories have, in either direction, are dropped.
        :raises DataError: if an event is not a row of the catalogue.
        """
        self.items = train.events()
        if len(self.items) and not 0 <= self.items.min() <= self.items.max() < n_items:
            raise DataError(
                f"training events are of catalogue rows {self.items.min()} to {self.items.max()}, but the catalogue "
                f"has {n_items} items; use the catalogue that the log was read with"
            )
        self.weights = train.event_weights()
        self.n_items, self.min_users, self.window = n_items, min_users, window
        self.distance, self.backward = distance, backward
        self.owner = np.repeat(np.arange(len(train), dtype=np.int32), train.lengths)
        self.by_item = np.argsort(self.items, kind="stable").astype(np.int32)
        self.first = np.zeros(n_items + 1, np.int64)
        np.cumsum(np.bincount(self.items, minlength=n_items), out=self.first[1:])
        self.taking, self.again = self._number_takings()

    def blocks(self) -> Iterator[slice]:
        """Yield ranges of items, in order, that together are the catalogue."""
        begin = 0
        while begin < self.n_items:
            end = int(np.searchsorted(self.first, self.first[begin] + BLOCK_EVENTS, "right")) - 1
            end = min(max(end, begin + 1), begin + BLOCK_ITEMS, self.n_items)
            yield slice(begin, end)
            begin = end

    def rows(self, block: slice) -> csr_array:
        """Return the summed weights of the pairs that begin at some items, CSR float64 [len(block), n_items]."""
        source, target, weight = self._of(block)
        graph = self._summed(block, source, target, weight)
        if self.min_users > 1:
            people = self._summed(block, source, target, self._new(source, target))
            graph.data[people.data < self.min_users] = 0.0  # both have the same entries in the same order
            graph.eliminate_zeros()
        return graph

    def people(self, block: slice) -> csr_array:
        """Return how many histories have each pair that begins at some items, CSR int32 [len(block), n_items]."""
        source, target, _ = self._of(block)
        return self._summed(block, source, target, self._new(source, target))

    def _of(self, block: slice) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """Return positions of the events of all pairs that begin at some items, int32 [m] each, and their weights."""
        at = self.by_item[self.first[block.start] : self.first[block.stop]]
        found = [
            self._pairs(at, sign * d, d**-self.distance * (1.0 if sign > 0 else self.backward))
            for d in range(1, self.window + 1)
            for sign in (1, -1)
        ]
        source, target, weight = (np.concatenate(part) for part in zip(*found, strict=True))
        return source, target, weight

    def _summed(
        self, block: slice, source: NDArray[np.int32], target: NDArray[np.int32], values: NDArray[Any]
    ) -> csr_array:
        """Sum values by the items of pairs of events, CSR [len(block), n_items]."""
        place = self.items[source] - np.int32(block.start), self.items[target]
        shape = (block.stop - block.start, self.n_items)
        return csr_array(coo_array((values, place), shape=shape).tocsr())

    def _pairs(
        self, at: NDArray[np.int32], step: int, weight: float
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """Return positions of the events of all pairs `step` places apart, int32 [m] each, and their weights."""
        to = at + np.int32(step)
        inside = (to >= 0) & (to < len(self.items))
        at, to = at[inside], to[inside]
        pair = (self.owner[at] == self.owner[to]) & (self.items[at] != self.items[to])
        at, to = at[pair], to[pair]
        if self.weights is None:
            return at, to, np.full(len(at), weight)
        both = np.minimum(self.weights[at], self.weights[to])
        return at[both > 0], to[both > 0], weight * both[both > 0].astype(np.float64)

    def _number_takings(self) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Number the (history, item) combinations, and say which events are not the only one of theirs; [events]."""
        # `by_item` keeps the order of the log, so the events of a combination are next to each other in it.
        owner, item = self.owner[self.by_item], self.items[self.by_item]
        same = (owner[1:] == owner[:-1]) & (item[1:] == item[:-1])
        taking, again = np.zeros(len(item), np.int32), np.zeros(len(item), np.bool_)
        taking[self.by_item[1:]] = np.cumsum(~same, dtype=np.int32)
        again[self.by_item[1:][same]] = again[self.by_item[:-1][same]] = True
        return taking, again

    def _new(self, source: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return 1 for one of the pairs of the same two items in one history, 0 for its repeats, int32 [m]."""
        new = np.ones(len(source), np.int32)
        doubtful = np.flatnonzero(self.again[source] | self.again[target])
        key = self.taking[source[doubtful]].astype(np.int64) << 32 | self.taking[target[doubtful]]
        order = np.argsort(key)
        new[doubtful[order[1:]]] = np.diff(key[order]) != 0
        return new


def strongest_of_rows(matrix: csr_array, k: int) -> csr_array:
    """Keep the k largest entries of each row, ties to the lower column; entries are compared as float32.

    So the order in which equal weights were summed does not decide which one stays.
    """
    sizes = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
    # The bits of positive floats rise with their values: one sort of numbers orders the rows and the entries of each.
    falling = np.uint64(0xFFFFFFFF) - matrix.data.astype(np.float32).view(np.uint32)
    key = row << np.uint64(32) | falling
    ordered = np.sort(key)
    some = sizes > 0
    last = np.zeros(len(sizes), np.uint64)
    last[some] = ordered[(matrix.indptr[:-1] + np.minimum(sizes, k) - 1)[some]]
    kept = np.flatnonzero(key <= last[row.astype(np.int64)])
    kept = kept[np.lexsort((matrix.indices[kept], key[kept]))]
    inside = row[kept].astype(np.int64)
    counts = np.bincount(inside, minlength=len(sizes))
    kept = kept[np.arange(len(kept)) - np.repeat(np.cumsum(counts) - counts, counts) < k]
    inside = row[kept].astype(np.int64)
    return csr_array(coo_array((matrix.data[kept], (inside, matrix.indices[kept])), shape=matrix.shape).tocsr())
