"""The crowd's graph for the device: the strongest edges of each item, and popularity.

The edges are those of the baseline that every run shows (`distill.evaluation.baselines.TransitionGraph`, whose
docstring names the papers): transitions weighted by distance, walks of one and two steps. The device keeps the heaviest
of the whole graph, so that items with many transitions get more of them. Weights of events, where a log has them, count
here and not in the baseline.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array, vstack

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.experts.transitions import Transitions, strongest_of_rows
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.experts.crowd import MAX_EDGES, Crowd

# As of the baseline: window, decay with distance, weight against the direction, trust in items with many transitions,
# weight of walks of two steps, and edges of an item that these may use.
WINDOW, DISTANCE, BACKWARD, TRUST, SECOND_HOP, NEAR = 10, 0.5, 0.1, 0.7, 0.1, 20
FEWEST, MOST = 0.5, 4  # edges of one item, of the average


def build_crowd(train: Sequences, n_items: int, neighbours: int = 8, min_users: int = 2) -> Crowd:
    """Count transitions and popularity, block by block of items.

    :param train: histories of catalogue rows, oldest event first; with `weights`, an event counts by its weight.
    :param n_items: items in the catalogue.
    :param neighbours: edges kept an item on average, 1 to 255, not counting items without any; one item has at least
        half as many, if the log has them, and at most four times as many.
    :param min_users: drop pairs of items that fewer people made.
    :raises ConfigError: if a setting is out of its range.
    :raises DataError: if an event is no row of the catalogue.
    """
    if not 1 <= neighbours <= MAX_EDGES:
        raise ConfigError(f"experts.neighbours is {neighbours}; give a number from 1 to {MAX_EDGES}")
    pairs = transitions_of(train, n_items, min_users)
    near = csr_array(vstack([strongest_of_rows(_shares(pairs.rows(b))[0], NEAR) for b in pairs.blocks()]))
    most, fewest = min(MOST * neighbours, MAX_EDGES), max(1, int(FEWEST * neighbours))
    found, certain = [], []
    for block in pairs.blocks():
        walk, out_weight = _shares(pairs.rows(block))
        two = near[block] @ near
        two.data[two.indices == np.repeat(np.arange(block.start, block.stop), np.diff(two.indptr))] = 0  # loops
        two.eliminate_zeros()
        edges = strongest_of_rows(csr_array(walk + SECOND_HOP * two), most)
        edges.data = (edges.data * np.repeat(out_weight**TRUST, np.diff(edges.indptr))).astype(np.float32)
        found.append(edges)
        certain.append(_ranks(edges) < fewest)
    edges = _heaviest(csr_array(vstack(found)), np.concatenate(certain), neighbours)
    events = _counts(pairs.items, train.event_weights(), n_items) + 1.0
    return Crowd(
        edges.indptr.astype(np.int64),
        edges.indices.astype(np.int32),
        edges.data,
        np.log(events / events.sum()).astype(np.float32),
    )


def transitions_of(train: Sequences, n_items: int, min_users: int) -> Transitions:
    """Return the transitions that the graph is built from; parameters as for `build_crowd`."""
    return Transitions(train, n_items, window=WINDOW, distance=DISTANCE, backward=BACKWARD, min_users=min_users)


def _ranks(edges: csr_array) -> NDArray[np.int64]:
    """Return the rank of each edge among those of its item, from 0 for the heaviest, int64 [edges]."""
    sizes = np.diff(edges.indptr)
    rank = np.empty(len(edges.data), np.int64)
    rank[np.lexsort((-edges.data, np.repeat(np.arange(len(sizes)), sizes)))] = np.arange(len(rank))
    rank -= np.repeat(edges.indptr[:-1], sizes)
    return rank


def _heaviest(edges: csr_array, certain: NDArray[np.bool_], neighbours: int) -> csr_array:
    """Keep the heaviest edges of the graph, `neighbours` for each item that has any; ties to the lower item and column.

    :param certain: bool [edges]: kept in any case.
    """
    sizes = np.diff(edges.indptr)
    others = np.flatnonzero(~certain)
    room = neighbours * np.count_nonzero(sizes) - np.count_nonzero(certain)
    kept = certain.copy()
    kept[others[np.argsort(-edges.data[others], kind="stable")[:room]]] = True
    item = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[kept]
    return csr_array(coo_array((edges.data[kept], (item, edges.indices[kept])), shape=edges.shape).tocsr())


def _counts(
    items: NDArray[np.int32], weights: NDArray[np.float32] | None, n_items: int
) -> NDArray[np.float64]:  # fmt: skip
    """Return the events of each item, float64 [n_items], by their weights relative to the mean weight of the log."""
    if weights is None:
        return np.bincount(items, minlength=n_items).astype(np.float64)
    mean = float(weights.mean(dtype=np.float64)) if len(weights) else 0.0
    return np.asarray(np.bincount(items, weights / (mean or 1.0), minlength=n_items), np.float64)


def _shares(rows: csr_array) -> tuple[csr_array, NDArray[np.float64]]:
    """Divide rows by their sums; return both."""
    total = rows.sum(axis=1)
    return csr_array(diags_array(1 / np.where(total > 0, total, 1)) @ rows), total
