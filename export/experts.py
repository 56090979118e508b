"""The experts beside a model: from a run's log and texts to the files of a bundle.

The weights between them are fitted by `pocketrec.export.fusion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from pocketrec.runtime.bundle.bundle import GRAPH_FILE, WORDS_FILE, Bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.experts.words import Words
from pocketrec.runtime.recommender import Recommender


@dataclass(frozen=True)
class BundleExperts:
    """Crowd and words of a bundle, by catalogue row, and their weights."""

    crowd: Crowd
    words: Words | None
    weights: FusionWeights = field(default_factory=FusionWeights)

    def in_order_of(self, trie: ItemTrie, item_ids: Sequence[str]) -> tuple[Crowd, Words | None]:
        """Return both by row of a trie's table, as the runtime reads them.

        :param item_ids: ids by catalogue row.
        """
        row = trie.table.find(list(item_ids)).astype(np.int64)  # catalogue row -> table row
        crowd = _placed_crowd(self.crowd, row, len(row))
        return crowd, None if self.words is None else _placed_words(self.words, row, len(row))

    def write(self, folder: Path, trie: ItemTrie, item_ids: Sequence[str]) -> None:
        """Write the files of the experts that have a weight."""
        crowd, words = self.in_order_of(trie, item_ids)
        if self.weights.crowd:
            crowd.save(folder / GRAPH_FILE)
        if self.weights.words and words is not None:
            words.save(folder / WORDS_FILE)


def tenth_scores(recommender: Recommender, histories: Sequence[NDArray[np.int32]]) -> tuple[float, float] | None:
    """Return the mean score of the tenth item of a list and the model's share of it; None if there is no list of ten.

    :param recommender: of the model with its experts. histories: table rows, oldest first.
    """
    experts, found = recommender.retriever.experts, []
    for history in histories:
        items, scores = recommender.recommend_rows(history, k=10)
        if len(items) == 10 and experts is not None:
            found.append((float(scores[-1]), float(scores[-1]) - experts.term(history, int(items[-1]))))
    if not found:
        return None
    score, model = np.mean(found, axis=0).tolist()
    return round(score, 3), round(model, 3)


def carry_over(base: Bundle, trie: ItemTrie, folder: Path) -> None:
    """Write a bundle's experts for another catalogue: items that stay keep edges and words, new ones have none yet.

    A new item counts as no more popular than the least popular one.

    :param base: an opened bundle. folder: of the new bundle.
    """
    old = base.load_experts(base.manifest.catalogue.items)
    if old is None:
        return
    ids = base.load_trie().table.ids(np.arange(old.n_items))
    row = trie.table.find(ids).astype(np.int64)  # old table row -> new one, -1: gone
    if old.crowd is not None:
        _placed_crowd(old.crowd, row, len(trie.table)).save(folder / GRAPH_FILE)
    if old.words is not None:
        _placed_words(old.words, row, len(trie.table)).save(folder / WORDS_FILE)


def _placed_crowd(crowd: Crowd, row: NDArray[np.int64], n: int) -> Crowd:
    """Move items to new rows, int64 [len(crowd)], -1: gone; rows left free have no edges and the least popularity."""
    item = np.repeat(np.arange(len(row)), np.diff(crowd.first))
    kept = (row[crowd.neighbours] >= 0) & (row[item] >= 0)
    edges = coo_array((crowd.weights[kept], (row[item[kept]], row[crowd.neighbours[kept]])), shape=(n, n)).tocsr()
    edges.sort_indices()
    popularity = np.full(n, crowd.log_popularity.min(initial=0.0), np.float32)
    popularity[row[row >= 0]] = crowd.log_popularity[row >= 0]
    return Crowd(edges.indptr.astype(np.int64), edges.indices.astype(np.int32), edges.data, popularity)


def _placed_words(words: Words, row: NDArray[np.int64], n: int) -> Words:
    """Move items to new rows, as `_placed_crowd` does; rows left free have no words."""
    item = row[np.repeat(np.arange(len(row)), np.diff(words.first))]
    order = np.argsort(item, kind="stable")  # the words of an item stay in their order
    order = order[item[order] >= 0]
    return Words.build(np.bincount(item[order], minlength=n), words.terms[order], words.idf)
