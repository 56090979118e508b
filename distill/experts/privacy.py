"""What a crowd's graph reveals of single people, in numbers and in one sentence (docs/privacy.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.experts.crowd import transitions_of
from pocketrec.runtime.experts.crowd import Crowd

FEW = 0.3  # a graph that links a smaller share of the items misses much


@dataclass(frozen=True)
class Revealed:
    """What a graph reveals.

    min_users: people who made each transition in it, at least. edges: their number. by_one: edges between two items
    that only one person of the log took near each other. linked: share of the items with events that have an edge.
    """

    min_users: int
    edges: int
    by_one: int
    linked: float

    @property
    def sentence(self) -> str:
        """For the end of a run and its report."""
        if self.min_users > 1:
            built = (
                f"The crowd's graph is built from transitions that at least {self.min_users} people made "
                "(experts.min_users)."
            )
            if self.linked >= FEW:
                return built
            return (
                f"{built} Only {self.linked:.0%} of the items with events have an edge then; the default of "
                "experts.min_users is chosen for privacy, and with 1 the graph may rank better, but shows what single "
                "people did (docs/privacy.md)."
            )
        share = self.by_one / max(self.edges, 1)
        return (
            f"{share:.0%} of the transitions in the crowd's graph were made by one person alone, and whoever has the "
            "bundle can read them; experts.min_users = 2 leaves them out (docs/privacy.md)."
        )


def revealed(train: Sequences, crowd: Crowd, min_users: int) -> Revealed:
    """Count the edges of a graph that come from one person.

    :param train: the histories that it was built from, with the same `min_users`.
    """
    edges, items = len(crowd.neighbours), np.unique(train.events())
    linked = float(np.mean(np.diff(crowd.first)[items] > 0)) if len(items) else 0.0
    if min_users > 1:
        return Revealed(min_users, edges, 0, linked)
    pairs, by_one = transitions_of(train, len(crowd), min_users), 0
    for block in pairs.blocks():
        alone = pairs.people(block)
        alone.data = (alone.data == 1).astype(np.int32)
        kept = slice(crowd.first[block.start], crowd.first[block.stop])
        row = np.repeat(np.arange(block.stop - block.start), np.diff(crowd.first[block.start : block.stop + 1]))
        by_one += int(alone[row, crowd.neighbours[kept]].sum())
    return Revealed(min_users, edges, by_one, linked)
