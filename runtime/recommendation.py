"""What comes back: items with their scores, best first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Recommendation(NamedTuple):
    """One recommended item; `score` is its log-probability given the history."""

    item_id: str
    score: float
    title: str | None = None


class Recommendations(list[Recommendation]):
    """Recommended items, best first. `unknown`: ids of the history that the catalogue lacks, in order, each once."""

    unknown: tuple[str, ...] = ()

    def __init__(self, items: Iterable[Recommendation] = (), unknown: tuple[str, ...] = ()) -> None:
        """Hold `items` and `unknown`."""
        list.__init__(self, items)  # faster than super(), which counts: the fastest calls take a few microseconds
        if unknown:
            self.unknown = unknown
