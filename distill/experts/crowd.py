"""The crowd's graph for the device: the strongest edges of each item, and popularity.

The edges are those of the baseline that every run shows (`distill.evaluation.baselines.TransitionGraph`, whose
docstring names the papers): transitions weighted by distance, walks of one and two steps. The device keeps `neighbours`
of them an item. Weights of events, where a log has them, count here and not in the baseline.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, vstack

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.experts.transitions import Transitions, strongest_of_rows
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.experts.crowd import MAX_EDGES, Crowd

# As of the baseline: window, decay with distance, weight against the direction, trust in items with many transitions,
# weight of walks of two steps, and edges of an item that these may use.
WINDOW, DISTANCE, BACKWARD, TRUST, SECOND_HOP, NEAR = 10, 0.5, 0.1, 0.7, 0.1, 20


def build_crowd(train: Sequences, n_items: int, neighbours: int = 8, min_users: int = 1) -> Crowd:
    """Count transitions and popularity, block by block of items.

    :param train: histories of catalogue rows, oldest event first; with `weights`, an event counts by its weight.
    :param n_items: items in the catalogue.
    :param neighbours: edges kept an item, 1 to 255.
    :param min_users: drop pairs of items that fewer people made.
    :raises ConfigError: if a setting is out of its range.
    :raises DataError: if an event is no row of the catalogue.
    """
    if not 1 <= neighbours <= MAX_EDGES:
        raise ConfigError(f"experts.neighbours is {neighbours}; give a number from 1 to {MAX_EDGES}")
    pairs = Transitions(train, n_items, window=WINDOW, distance=DISTANCE, backward=BACKWARD, min_users=min_users)
    near = csr_array(vstack([strongest_of_rows(_shares(pairs.rows(b))[0], NEAR) for b in pairs.blocks()]))
    kept = []
    for block in pairs.blocks():
        walk, out_weight = _shares(pairs.rows(block))
        two = near[block] @ near
        two.data[two.indices == np.repeat(np.arange(block.start, block.stop), np.diff(two.indptr))] = 0  # loops
        two.eliminate_zeros()
        edges = strongest_of_rows(csr_array(walk + SECOND_HOP * two), neighbours)
        edges.data *= np.repeat(out_weight**TRUST, np.diff(edges.indptr))
        kept.append(edges)
    edges = csr_array(vstack(kept))
    events = _counts(pairs.items, train.event_weights(), n_items) + 1.0
    return Crowd(
        edges.indptr.astype(np.int64),
        edges.indices.astype(np.int32),
        edges.data.astype(np.float32),
        np.log(events / events.sum()).astype(np.float32),
    )


def _counts(
    items: NDArray[np.int32], weights: NDArray[np.float32] | None, n_items: int
) -> NDArray[np.float64]:  # fmt: skip
    """Return the events of each item, float64 [n_items], by their weights relative to the mean weight of the log."""
    if weights is None:
        return np.bincount(items, minlength=n_items).astype(np.float64)
    mean = float(weights.mean(dtype=np.float64)) if len(weights) else 0.0
    return np.bincount(items, weights / (mean or 1.0), minlength=n_items)


def _shares(rows: csr_array) -> tuple[csr_array, NDArray[np.float64]]:
    """Divide rows by their sums; return both."""
    total = rows.sum(axis=1)
    return csr_array(diags_array(1 / np.where(total > 0, total, 1)) @ rows), total
