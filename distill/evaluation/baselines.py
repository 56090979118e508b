"""Baselines that count instead of learning; they are fitted in seconds and reported beside every student.

On the path of the data: training histories in, a `Ranker` out. All three baselines are weighted item graphs. The items
of a history pass their weight along the edges, newer items more than older ones. Items that no edge reaches follow in
order of popularity, so a list is as long as the catalogue allows. Of items with equal scores the lower catalogue row
comes first, so the same log gives the same lists.

The default constants were chosen on the validation cases of Amazon Beauty (leave-one-out), by the sum of recall@10 and
ndcg@10 with seen items kept and excluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array, vstack

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.ranking import EMPTY, RankingError
from pocketrec.runtime.errors import ConfigError, DataError

CELLS = 1 << 22  # dense scores held at once (16 MB), whatever the size of the catalogue
BLOCK = 4096  # rows of the two-hop product computed at once


@dataclass(frozen=True)
class ItemGraph:
    """Ranks items by the weight that reaches them from the history along edges.

    edges: CSR float64 [n_items, n_items]; edges[i, j] ≥ 0 is the weight of j as a successor of i.
    recency: weight of an item of the history relative to the next newer one, in (0, 1].
    fallback: float32 [n_items], negative scores of the items that no edge reaches.
    max_history: newest items of a history whose edges count.
    """

    edges: csr_array
    recency: float
    fallback: NDArray[np.float32]
    max_history: int = 20

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best k rows for each history, int32 [n, k]; see `Ranker`."""
        n_items = len(self.fallback)
        found = np.full((len(histories), k), EMPTY, np.int32)
        step = max(1, CELLS // max(n_items, 1))
        for start in range(0, len(histories), step):
            chunk = histories.take(slice(start, start + step))
            scores = self.scores(chunk)
            if exclude_seen:
                scores[np.repeat(np.arange(len(chunk)), chunk.lengths), chunk.events()] = -np.inf
            found[start : start + step] = top_k(scores, k)
        return found

    def scores(self, histories: Sequences) -> NDArray[np.float32]:
        """Score every item, float32 [n, n_items]."""
        n_items = len(self.fallback)
        reached = history_weights(histories.last(self.max_history), n_items, self.recency) @ self.edges
        scores = np.tile(self.fallback, (len(histories), 1))
        scores[np.repeat(np.arange(len(histories)), np.diff(reached.indptr)), reached.indices] = reached.data
        return scores


class Popularity(ItemGraph):
    """The same list for every history: items by number of training events. A graph without edges."""

    @classmethod
    def fit(cls, train: Sequences, n_items: int) -> Popularity:
        """Count training events.

        :param train: training histories; catalogue rows.
        :param n_items: size of the catalogue.
        :raises DataError: if an event is not a row of the catalogue.
        """
        return cls(csr_array((n_items, n_items)), 1.0, _by_popularity(train, n_items))


class CoOccurrence(ItemGraph):
    """Item-to-item: items that are near each other in a history are successors of each other.

    Linden, Smith and York 2003, "Amazon.com recommendations: item-to-item collaborative filtering"; the exponentially
    larger weight of newer items is from STAN (Garg et al., SIGIR 2019).
    """

    @classmethod
    def fit(
        cls, train: Sequences, n_items: int, *, window: int = 3, power: float = 0.1, recency: float = 0.5
    ) -> CoOccurrence:
        """Count pairs: edge (i, j) = c_ij / (c_i · c_j)^power, where c_i is the sum of i's counts.

        :param train: training histories; catalogue rows.
        :param n_items: size of the catalogue.
        :param window: two events are a pair if they are at most this many places apart.
        :param power: 0: counts, 0.5: cosine, 1: lift.
        :param recency: weight of an item of the history relative to the next newer one.
        :raises DataError: if an event is not a row of the catalogue.
        :raises ConfigError: if a constant is out of its range.
        """
        fallback = _by_popularity(train, n_items)
        forward = _transitions(train, n_items, window, 0.0)
        pairs = forward + forward.T
        scale = _power(pairs.sum(axis=1), -power)
        return cls(_scaled(scale, pairs, scale), _checked_recency(recency), fallback)


class TransitionGraph(ItemGraph):
    """A graph heuristic without training: walks of one and two steps over a directed graph of item transitions.

    Sources: transitions weighted by distance are the sequential rules (SR) of Kamehkhosh, Jannach and Ludewig 2017 and
    Ludewig and Jannach 2018 (UMUAI 28); neighbours of the last items within few hops are from Han et al. 2026, "An
    embarrassingly simple graph heuristic …" (TGH, arXiv:2605.07125; here without its text features); the degree
    exponent of a random walk is from RP3β (Paudel et al., TiiS 7(1), 2016). That a fixed, normalised item graph can
    compete with trained models is shown by GF-CF (Shen et al., CIKM 2021).
    """

    @classmethod
    def fit(
        cls,
        train: Sequences,
        n_items: int,
        *,
        window: int = 10,
        distance: float = 0.5,
        backward: float = 0.1,
        trust: float = 0.7,
        second_hop: float = 0.1,
        neighbours: int = 20,
        recency: float = 0.5,
        min_users: int = 1,
    ) -> TransitionGraph:
        """Build the graph: edges = D^trust (P + second_hop · P²), with P = D⁻¹A and D the out-weights of A.

        A_ij sums d^-distance over all events of j that come d places after an event of i, plus `backward` times the
        same sum in the opposite direction. P² uses only each item's strongest edges, which keeps it sparse.

        :param train: training histories; catalogue rows.
        :param n_items: size of the catalogue.
        :param window: largest distance between two events that adds to an edge.
        :param distance: exponent of the decay with distance.
        :param backward: weight of a transition taken against its direction.
        :param trust: exponent of the weight of items with many transitions: 0 (all items alike, a random walk) to 1
            (counts).
        :param second_hop: weight of walks of two steps.
        :param neighbours: edges per item that walks of two steps may use.
        :param recency: weight of an item of the history relative to the next newer one.
        :param min_users: pairs of items that fewer people made, in either direction, are dropped.
        :raises DataError: if an event is not a row of the catalogue.
        :raises ConfigError: if a constant is out of its range.
        """
        fallback = _by_popularity(train, n_items)
        forward = _transitions(train, n_items, window, distance)
        if min_users > 1:
            forward = forward.multiply(_people(train, n_items, window) >= min_users).tocsr()
            forward.eliminate_zeros()
        adjacent = csr_array(forward + backward * forward.T)
        out_weight = adjacent.sum(axis=1)
        ones = np.ones(n_items)
        walk = _scaled(_power(out_weight, -1.0), adjacent, ones)
        if second_hop > 0:
            walk = csr_array(walk + second_hop * _two_steps(walk, neighbours))
        return cls(_scaled(_power(out_weight, trust), walk, ones), _checked_recency(recency), fallback)


def top_k(scores: NDArray[np.floating[Any]], k: int) -> NDArray[np.int32]:
    """Return each row's `k` best columns, best first; equal scores go to the lower column.

    :param scores: float [n, n_items]; -inf marks items that must not be listed.
    :param k: length of the lists; may exceed `n_items`.
    :returns: int32 [n, k]; EMPTY (-1) where no item is left.
    :raises RankingError: if a score is NaN.
    """
    if np.isnan(scores).any():
        raise RankingError("scores contain NaN, so they have no order; the training of the model has diverged")
    n, n_items = scores.shape
    width = min(k, n_items)
    result = np.full((n, k), EMPTY, np.int32)
    if n == 0 or width == 0:
        return result
    least = np.partition(scores, n_items - width, axis=1)[:, n_items - width, None]  # [n, 1]
    chosen = scores >= least
    tied = np.flatnonzero(np.count_nonzero(chosen, axis=1) > width)
    if len(tied):  # of the columns at the boundary score, keep the lowest that fit
        room = width - np.count_nonzero(scores[tied] > least[tied], axis=1)
        boundary = scores[tied] == least[tied]
        chosen[tied] &= ~boundary | (np.cumsum(boundary, axis=1, dtype=np.int32) <= room[:, None])
    columns = np.flatnonzero(chosen).reshape(n, width) % n_items
    best = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    listed = np.where(best == -np.inf, EMPTY, columns)
    result[:, :width] = np.take_along_axis(listed, order, axis=1)
    return result


def _by_popularity(train: Sequences, n_items: int) -> NDArray[np.float32]:
    """Return scores -1, -2, … by descending number of events, ties to the lower row; all are below those of edges."""
    events = train.events()
    if len(events) and (events.min() < 0 or events.max() >= n_items):
        raise DataError(
            f"training events are of catalogue rows {events.min()} to {events.max()}, but the catalogue has {n_items} "
            "items; use the catalogue that the log was read with"
        )
    order = np.argsort(-np.bincount(events, minlength=n_items), kind="stable")
    scores = np.empty(n_items, np.float32)
    scores[order] = -1 - np.arange(n_items)
    return scores


def history_weights(histories: Sequences, n_items: int, recency: float) -> csr_array:
    """Return the weights recency^age of the items of each history, CSR [n, n_items]; the newest item has age 0."""
    lengths = histories.lengths
    row = np.repeat(np.arange(len(lengths)), lengths)
    age = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(lengths.sum())
    shape = (len(lengths), n_items)
    return coo_array((recency**age, (row, histories.events())), shape=shape).tocsr()


def _transitions(train: Sequences, n_items: int, window: int, decay: float) -> csr_array:
    """Sum d^-decay over all pairs (i, j ≠ i) of a history with j d ≤ window places after i, CSR [n_items, n_items]."""
    if window < 1:
        raise ConfigError(f"window is {window}; it must be at least 1")
    events = train.events()
    owner = np.repeat(np.arange(len(train)), train.lengths)
    total = csr_array((n_items, n_items))
    for distance in range(1, min(window, len(events) - 1) + 1):
        before, after = events[:-distance], events[distance:]
        pair = (owner[:-distance] == owner[distance:]) & (before != after)
        weight = np.full(np.count_nonzero(pair), float(distance) ** -decay)
        total += coo_array((weight, (before[pair], after[pair])), shape=total.shape).tocsr()
    return total


def _people(train: Sequences, n_items: int, window: int) -> csr_array:
    """How many people made each pair of items, at most `window` places apart, in either direction; CSR."""
    events = train.events().astype(np.int64)
    owner = np.repeat(np.arange(len(train)), train.lengths)
    keys = np.empty((0, 2), np.int64)
    for distance in range(1, min(window, len(events) - 1) + 1):
        low = np.minimum(events[:-distance], events[distance:])
        high = np.maximum(events[:-distance], events[distance:])
        pair = (owner[:-distance] == owner[distance:]) & (low != high)
        made = np.stack((owner[:-distance][pair], low[pair] * n_items + high[pair]), 1)
        keys = np.unique(np.concatenate((keys, made)), axis=0)
    half = coo_array((np.ones(len(keys)), (keys[:, 1] // n_items, keys[:, 1] % n_items)), shape=(n_items, n_items))
    return (half + half.T).tocsr()


def _two_steps(walk: csr_array, neighbours: int) -> csr_array:
    """Return walk² without loops, from each row's strongest edges, pruned to five times as many edges per row."""
    near = strongest(walk, neighbours)
    blocks = []
    for start in range(0, near.shape[0], BLOCK):
        steps = (near[start : start + BLOCK] @ near).tocoo()
        away = steps.row + start != steps.col
        loopless = coo_array((steps.data[away], (steps.row[away], steps.col[away])), shape=steps.shape)
        blocks.append(strongest(loopless.tocsr(), 5 * neighbours))
    return csr_array(vstack(blocks, format="csr")) if blocks else near


def strongest(matrix: csr_array, k: int) -> csr_array:
    """Keep the k largest entries of each row, ties to the lower column."""
    sizes = np.diff(matrix.indptr)
    row = np.repeat(np.arange(matrix.shape[0]), sizes)
    order = np.lexsort((matrix.indices, -matrix.data, row))
    kept = order[np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], sizes) < k]
    return coo_array((matrix.data[kept], (row[kept], matrix.indices[kept])), shape=matrix.shape).tocsr()


def _scaled(left: NDArray[np.float64], matrix: csr_array, right: NDArray[np.float64]) -> csr_array:
    return csr_array(diags_array(left) @ matrix @ diags_array(right))


def _power(values: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Return values^exponent; 0 where the value is 0."""
    return np.power(values, exponent, out=np.zeros_like(values), where=values > 0)


def _checked_recency(recency: float) -> float:
    if not 0 < recency <= 1:
        raise ConfigError(f"recency is {recency}; it must be above 0 and at most 1")
    return recency
