"""The experts beside a model: from a run's log and texts to the files of a bundle, and the weights between them.

Weights are fitted for ranking on validation: a grid over the two weights, scored by ndcg@10 with the history's items
left out. What does not help gets 0, so the fused list is never worse there than the model's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from pocketrec.distill.data.splits import EvalSet
from pocketrec.distill.evaluation.metrics import gains
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.bundle.bundle import GRAPH_FILE, WORDS_FILE, Bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.experts.words import Words
from pocketrec.runtime.recommender import Recommender

CROWD_GRID: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
WORDS_GRID: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0)
CANDIDATES: Final = 200  # of the model, for each evaluation case; items below get the last one's score
METRIC: Final = "ndcg@10"


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


def fit_fusion(
    recommender: Recommender,
    experts: BundleExperts,
    item_ids: Sequence[str],
    cases: EvalSet,
    progress: Progress = SILENT,
) -> BundleExperts:
    """Fit the weights of crowd and words for ranking, whole histories excluded.

    :param recommender: of the model alone.
    :param item_ids: ids by catalogue row.
    :param cases: validation cases, of catalogue rows.
    """
    table = recommender.trie.table.find(list(item_ids)).astype(np.int32)
    n, (crowd, words) = len(item_ids), experts.in_order_of(recommender.trie, item_ids)
    grid = list(itertools.product(CROWD_GRID, WORDS_GRID if words is not None else (0.0,)))
    totals = np.zeros(len(grid))
    alone = [Experts(crowd, None, replace(experts.weights, crowd=1.0, words=0.0), n)]
    if words is not None:
        alone.append(Experts(None, words, replace(experts.weights, crowd=0.0, words=1.0), n))
    floor = np.log(experts.weights.popular * np.exp(crowd.log_popularity))
    with progress.track("fitting the experts' weights", len(cases)) as advance:
        for history, target in zip(cases.histories, cases.targets.tolist(), strict=True):
            seen = table[history]
            items, own = recommender.recommend_rows(seen, k=CANDIDATES, beam=CANDIDATES)
            scores = np.full(n, (own.min() if len(own) else 0.0) - 1.0, np.float32)
            scores[items] = own
            near, parts = items, [floor.copy(), np.zeros(n, np.float32)]  # of crowd and words
            for place, expert in enumerate(alone):
                reached, gain = expert.gains(seen)
                parts[place][reached] += gain
                near = np.union1d(near, reached)
            near = near[~np.isin(near, seen)]
            totals += _gains(grid, scores[near], [part[near] for part in parts], near == table[target])
            advance(1)
    b, a = grid[int(np.argmax(totals - 1e-9 * np.arange(len(grid))))]
    return replace(experts, weights=replace(experts.weights, crowd=b, words=a))


def _gains(
    grid: Sequence[tuple[float, float]], own: NDArray[np.float32], parts: Sequence[NDArray[np.float32]],
    is_target: NDArray[np.bool_],
) -> NDArray[np.float64]:  # fmt: skip
    """Gain of one case under each pair of weights."""
    if not is_target.any():
        return np.zeros(len(grid))
    fused = own[None] + np.array(grid, np.float32) @ np.stack(parts)
    ranks = (fused > fused[:, is_target]).sum(1).astype(np.int32)
    return gains(ranks, METRIC)


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
