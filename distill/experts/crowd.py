"""The crowd's graph for the device: the transition graph's strongest edges, and popularity.

The edges are those of the baseline that every run shows (`distill.evaluation.baselines.TransitionGraph`): transitions
weighted by distance, walks of one and two steps. The device keeps `neighbours` of them an item.
"""

from __future__ import annotations

import numpy as np

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.baselines import TransitionGraph, strongest
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.experts.crowd import MAX_EDGES, Crowd


def build_crowd(train: Sequences, n_items: int, neighbours: int = 8, min_users: int = 1) -> Crowd:
    """Count transitions and popularity; in one pass over the log.

    :param train: histories of catalogue rows, oldest event first.
    :param n_items: items in the catalogue.
    :param neighbours: edges kept an item, 1 to 255.
    :param min_users: drop pairs of items that fewer people made.
    :raises ConfigError: if a setting is out of its range.
    :raises DataError: if an event is no row of the catalogue.
    """
    if not 1 <= neighbours <= MAX_EDGES:
        raise ConfigError(f"experts.neighbours is {neighbours}; give a number from 1 to {MAX_EDGES}")
    graph = TransitionGraph.fit(train, n_items, min_users=min_users)
    edges = strongest(graph.edges, neighbours)
    edges.sort_indices()
    events = np.bincount(train.events(), minlength=n_items) + 1.0
    return Crowd(
        edges.indptr.astype(np.int64),
        edges.indices.astype(np.int32),
        edges.data.astype(np.float32),
        np.log(events / events.sum()).astype(np.float32),
    )
