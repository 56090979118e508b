"""Members of the committee that need no training: the item graph, and the words of the items.

On the path of the data: training histories, or the items' texts, in; an `ItemModel` out, which scores every item at
every training position. The graph counts the positions that it labels, so it is cross-fitted
(`distill.committee.cross_fit`); words know nothing of any user and are not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from pocketrec.distill.committee.cross_fit import CrossFitted, UserFolds
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.baselines import TransitionGraph
from pocketrec.distill.experts.words import word_matrices
from pocketrec.distill.models.item_model import ItemModel
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.experts.words import Words

DEVICE = FusionWeights()  # the constants of the device
POPULAR = DEVICE.popular  # share of the probability that is spread by popularity, so that no item has 0
SHARPNESS = 10.0  # nats for a cosine of 1; the committee's exponent of the words multiplies it


class GraphMember:
    """An item graph as an `ItemModel`: P(i) = (1 − POPULAR) · reached_i / Σ reached + POPULAR · popularity_i."""

    def __init__(self, edges: csr_array, popularity: NDArray[np.floating], recency: float) -> None:
        """Take a graph.

        :param edges: CSR [n_items, n_items], weights of successors.
        :param popularity: [n_items], positive, of sum 1.
        :param recency: weight of an item of the history relative to the next newer one.
        """
        self.edges, self.popularity, self.recency = edges, popularity.astype(np.float32), recency

    @classmethod
    def fit(cls, train: Sequences, n_items: int) -> GraphMember:
        """Count the transitions of histories, and popularity."""
        graph = TransitionGraph.fit(train, n_items)
        popularity = np.bincount(train.events(), minlength=n_items) + 1.0
        return cls(graph.edges, popularity / popularity.sum(), graph.recency)

    @classmethod
    def of_crowd(cls, crowd: Crowd) -> GraphMember:
        """Take the graph that ships in the bundle, by catalogue row, with the constants of the device."""
        shape = (len(crowd), len(crowd))
        edges = csr_array((crowd.weights.astype(np.float64), crowd.neighbours, crowd.first), shape)
        return cls(edges, np.exp(crowd.log_popularity), DEVICE.crowd_recency)

    def item_logits(self, batch: Batch) -> Tensor:
        """Return log-probabilities of all items, float32 [n, n_items]."""
        return torch.from_numpy(self.log_probabilities(recent_items(batch, len(self.popularity), self.recency)))

    def log_probabilities(self, weights: csr_array) -> NDArray[np.float32]:
        """Return log-probabilities of all items, float32 [n, n_items], after weighted items, CSR [n, n_items]."""
        reached = np.asarray((weights @ self.edges).toarray(), np.float32)
        total = reached.sum(1, keepdims=True)
        share = np.where(total > 0, 1 - POPULAR, 0.0).astype(np.float32)
        reached /= np.where(total > 0, total, 1)
        return np.log(share * reached + (1 - share) * self.popularity)


class WordsMember:
    """The words of the last items as an `ItemModel`: P(i) ∝ exp(SHARPNESS · Σ recency^age · cos(words of i, item's)).

    The index is the device's (`pocketrec.runtime.experts.words`), with its limits on words and postings.
    """

    def __init__(self, words: Words, recency: float = DEVICE.words_recency, items: int = DEVICE.words_items) -> None:
        """Take an index by catalogue row.

        :param recency: weight of an item of the history relative to the next newer one.
        :param items: number of newest items whose words count.
        """
        self.recency, self.items = recency, items
        self.queries, self.postings = word_matrices(words)

    def item_logits(self, batch: Batch) -> Tensor:
        """Return logits of all items, float32 [n, n_items]; all 0 where the last items have no words."""
        return torch.from_numpy(
            SHARPNESS * self.cosines(recent_items(batch, self.queries.shape[0], self.recency, self.items))
        )

    def cosines(self, weights: csr_array) -> NDArray[np.float32]:
        """Return the weighted sums of cosines, float32 [n, n_items], of weighted items, CSR [n, n_items]."""
        return np.asarray(((weights @ self.queries) @ self.postings).toarray(), np.float32)


def cross_fitted_graph(
    train: Sequences,
    n_items: int,
    folds: int,
    seed: int = 0,
    labelled: Sequences | None = None,
    fit: Callable[[Sequences, int], GraphMember] = GraphMember.fit,
) -> ItemModel:
    """Fit a graph on all training histories, and one without the users of each fold (1: no folds).

    :param labelled: the histories that batches come from, if not `train` (see `UserFolds.of_events`).
    :param fit: makes a graph from histories and the number of items.
    """
    whole = fit(train, n_items)
    if folds == 1:
        return whole
    users = UserFolds.deal(len(train), folds, seed)
    without = [fit(users.without(train, fold), n_items) for fold in range(folds)]
    return CrossFitted(whole, without, users.of_events(train if labelled is None else labelled))


def recent_items(batch: Batch, n_items: int, recency: float, limit: int | None = None) -> csr_array:
    """Return the weights recency^age of the history of each loss position, CSR [n, n_items].

    :param limit: number of newest items that count; None: all.
    """
    owner, items, age = histories_of(batch)
    if limit is not None:
        owner, items, age = (part[age < limit] for part in (owner, items, age))
    return csr_array((recency**age, (owner, items)), (len(batch.loss_at), n_items))


def histories_of(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the history of each loss position, one entry per event: position, catalogue row, age (0: newest)."""
    at, position = batch.loss_at.cpu().numpy(), batch.position.cpu().numpy().ravel()
    items, sizes = batch.inputs.cpu().numpy().ravel(), position[at]
    owner = np.repeat(np.arange(len(at)), sizes)
    age = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return owner, items[at[owner] - age], age
