"""The baseline "graph and words": the transition graph and the words of the last items, with nothing trained.

    score(i) = log P_graph(i) + a · Σ over the last three items, newest first, of ½^age · cos(words of it, words of i)
    P_graph(i) = (1 − popular) · reached_i / Σ reached + popular · popularity_i

An item's words are those of its texts, weighted by idf. The weight a is chosen on validation; the weight of seen items,
where they are kept, as well. What a trained model adds to a catalogue's words and transitions is what it has above this
baseline. For words only the strongest neighbours of each item count, which keeps the product sparse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.evaluation.baselines import (
    CELLS,
    ItemGraph,
    TransitionGraph,
    history_weights,
    strongest,
)
from pocketrec.distill.evaluation.metrics import gains
from pocketrec.distill.experts.words import build_words, word_matrices
from pocketrec.runtime.experts.words import MAX_TERMS, Words

POPULAR: Final = 0.1
WORDS_ITEMS: Final = 3
WORDS_RECENCY: Final = 0.5
NEIGHBOURS: Final = 200  # items that share words, for each item
BLOCK: Final = 1024  # items whose neighbours are sought at once
WORD_WEIGHTS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
SEEN_WEIGHTS: Final = (0.0, -1.0, -2.0, -4.0, -8.0, -16.0, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class GraphAndWords(ItemGraph):
    """Ranks items by the transition graph and by the words that they share with the newest items.

    words: CSR float64 [n_items, n_items], cosines of words, without loops. weight: a. seen: added to items of the whole
    history. fallback: here log(popular · popularity), float32 [n_items].
    """

    words: csr_array | None = None
    weight: float = 0.0
    seen: float = 0.0

    @classmethod
    def fit(
        cls, train: Sequences, n_items: int, texts: Sequence[str], valid: EvalSet, max_history: int = 20
    ) -> GraphAndWords:
        """Build both graphs and choose the weights on validation cases.

        :param train: training histories; catalogue rows.
        :param texts: of each item, "" where it has none.
        :param valid: cases that the weights are chosen on, by the sum of recall@10 and ndcg@10.
        :param max_history: newest items of a history whose edges count.
        :raises DataError: if an event is not a row of the catalogue.
        """
        graph = TransitionGraph.fit(train, n_items)
        counts = np.bincount(train.events(), minlength=n_items) + 1.0
        popularity = np.log(POPULAR * counts / counts.sum()).astype(np.float32)
        near = word_neighbours(build_words(texts, MAX_TERMS))
        alone = cls(graph.edges, graph.recency, popularity, max_history, near)
        fitted = replace(alone, weight=alone._best_weight(valid))
        return replace(fitted, seen=fitted._best_seen(valid))

    def scores(self, histories: Sequences) -> NDArray[np.float32]:
        """Score every item, float32 [n, n_items]."""
        out = self._graph_scores(histories)
        if self.weight:
            _add(out, self.weight * self._reached_words(histories))
        if self.seen:
            seen = history_weights(histories, out.shape[1], 1.0)
            seen.data[:] = self.seen
            _add(out, seen)
        return out

    def _graph_scores(self, histories: Sequences) -> NDArray[np.float32]:
        """Return log P_graph, float32 [n, n_items]."""
        n_items = len(self.fallback)
        reached = history_weights(histories.last(self.max_history), n_items, self.recency) @ self.edges
        case = np.repeat(np.arange(len(histories)), np.diff(reached.indptr))
        share = (1 - POPULAR) * reached.data / np.bincount(case, reached.data, minlength=len(histories))[case]
        out = np.tile(self.fallback, (len(histories), 1))
        out[case, reached.indices] = np.log(share + np.exp(self.fallback[reached.indices]))
        return out

    def _reached_words(self, histories: Sequences) -> csr_array:
        """Return the weighted cosines to the newest items, CSR [n, n_items]."""
        return history_weights(histories.last(WORDS_ITEMS), len(self.fallback), WORDS_RECENCY) @ self.words

    def _best_weight(self, valid: EvalSet) -> float:
        """Choose the weight of words, seen items excluded."""
        total = np.zeros(len(WORD_WEIGHTS))
        for cases in _chunks(valid, len(self.fallback)):
            graph, words = self._graph_scores(cases.histories), self._reached_words(cases.histories).toarray()
            row = np.repeat(np.arange(len(cases)), cases.histories.lengths)
            graph[row, cases.histories.events()] = -np.inf
            for place, weight in enumerate(WORD_WEIGHTS):
                total[place] += _quality(graph + np.float32(weight) * words, cases.targets)
        return WORD_WEIGHTS[int(np.argmax(total))]

    def _best_seen(self, valid: EvalSet) -> float:
        """Choose the weight of seen items, where they are kept."""
        total = np.zeros(len(SEEN_WEIGHTS))
        for cases in _chunks(valid, len(self.fallback)):
            for place, weight in enumerate(SEEN_WEIGHTS):
                total[place] += _quality(replace(self, seen=weight).scores(cases.histories), cases.targets)
        return SEEN_WEIGHTS[int(np.argmax(total))]


def word_neighbours(words: Words) -> csr_array:
    """Return the cosines of each item's words to its nearest items', CSR float64 [n_items, n_items], without loops.

    A word that many items have leads only to the items that it fills most, as on the device.
    """
    n, (queries, postings) = len(words), word_matrices(words)
    blocks = []
    for start in range(0, n, BLOCK):
        near = (queries[start : start + BLOCK] @ postings).tocoo()
        away = near.row + start != near.col
        loopless = csr_array((near.data[away], (near.row[away], near.col[away])), shape=near.shape)
        blocks.append(strongest(loopless, NEIGHBOURS))
    return csr_array(vstack(blocks, format="csr")) if blocks else csr_array((n, n))


def _chunks(cases: EvalSet, n_items: int) -> Iterator[EvalSet]:
    """Yield cases so few at once that their scores fit in memory."""
    step = max(1, CELLS // max(n_items, 1))
    return (cases.take(slice(start, start + step)) for start in range(0, len(cases), step))


def _add(scores: NDArray[np.float32], more: csr_array) -> None:
    """Add a sparse matrix to a dense one, in place."""
    case = np.repeat(np.arange(len(scores)), np.diff(more.indptr))
    scores[case, more.indices] += more.data.astype(np.float32)


def _quality(scores: NDArray[np.float32], targets: NDArray[np.int32]) -> float:
    """Return the sum of recall@10 and ndcg@10 over cases; of equal scores the lower row comes first."""
    own = scores[np.arange(len(targets)), targets][:, None]
    before = (scores > own).sum(1) + ((scores == own) & (np.arange(scores.shape[1]) < targets[:, None])).sum(1)
    ranks = np.where(np.isneginf(own[:, 0]), -1, before).astype(np.int32)
    return float((gains(ranks, "recall@10") + gains(ranks, "ndcg@10")).sum())
