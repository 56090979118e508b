"""An expert of a bundle as a ranker of its own: how good the crowd or the words are without the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.baselines import CELLS, top_k
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.experts.fusion import Experts

LITTLE = np.float32(1e-6)  # of a logarithm of popularity: orders items that an expert scores alike


class ExpertsRanker:
    """A `Ranker` by the experts' floor and gains; items with equal scores follow in order of popularity."""

    def __init__(
        self, experts: Experts, trie: ItemTrie, item_ids: Sequence[str], log_popularity: NDArray[np.float32] | None
    ) -> None:
        """Match a catalogue's rows with the bundle's items.

        :param trie: the bundle's whole catalogue.
        :param item_ids: ids of the catalogue, by the rows that histories hold; the bundle has all of them.
        :param log_popularity: float32 [n], by table row; None: all alike.
        """
        self.experts = experts
        self._row = trie.table.find(list(item_ids))  # catalogue row -> table row
        self._floor = np.empty(len(trie.table), np.float32)
        self._floor[trie.table_rows] = experts.floor(trie).leaves
        if log_popularity is not None:
            self._floor += LITTLE * log_popularity

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best k rows after each history, int32 [n, k], -1: no item left."""
        out = np.empty((len(histories), k), np.int32)
        step = max(1, CELLS // len(self._floor))
        for start in range(0, len(histories), step):
            chunk = histories.take(slice(start, start + step))
            scores = np.tile(self._floor, (len(chunk), 1))
            for own, history in zip(scores, chunk, strict=True):
                rows = self._row[history]
                items, gains = self.experts.gains(rows)
                own[items] += gains
                if exclude_seen:
                    own[rows] = -np.inf
            out[start : start + step] = top_k(scores[:, self._row], k)
        return out
