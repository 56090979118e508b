"""Augmented histories for distillation: copies of the training histories with events dropped and neighbours swapped.

On the path of the data: between the split and the soft labels. A committee can label any history, so the student can be
trained on more histories than the log has; the hard label of a position in a copy is the next event of the copy.
"""

from __future__ import annotations

import numpy as np

from pocketrec.distill.data.splits import Sequences


def augment(train: Sequences, copies: int, drop: float, swap: float, seed: int = 0) -> Sequences:
    """Return the training histories, followed by changed copies of all: sequence i is of user i % len(train).

    Each event of a copy is dropped at random, and neighbours are swapped at random (cf. crop, mask and reorder of
    CL4SRec, Xie et al. 2022, section 3.3). The same arguments give the same copies.

    :param copies: copies per history; 0 returns `train` itself.
    :param drop: probability that an event is dropped; at least two events remain (fewer if there were fewer).
    :param swap: probability that an event changes places with the next one.
    """
    if copies == 0:
        return train
    generator = np.random.default_rng(seed)
    events, lengths = train.events(), train.lengths
    owner = np.repeat(np.arange(len(train)), lengths)
    origin, sizes = [np.arange(len(events))], [lengths]  # of each event: its place in the training histories
    for _ in range(copies):
        # The two events with the largest draws of each history always stay.
        draw = generator.random(len(events))
        order = np.lexsort((-draw, owner))
        rank = np.empty(len(events), np.int64)
        rank[order] = np.arange(len(events)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = (draw >= drop) | (rank < 2)
        mine, copy = owner[kept], np.flatnonzero(kept)
        first = np.flatnonzero((mine[1:] == mine[:-1]) & (generator.random(max(len(mine) - 1, 0)) < swap))
        first = first[np.diff(first, prepend=-2) > 1]  # no event moves twice
        copy[first], copy[first + 1] = copy[first + 1], copy[first]
        origin.append(copy)
        sizes.append(np.bincount(mine, minlength=len(train)))
    ends = np.cumsum(np.concatenate(sizes), dtype=np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
    place, weights = np.concatenate(origin), train.event_weights()
    return Sequences(events[place], starts, ends, None if weights is None else weights[place])
