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
    """Recommended items, best first. `unknown` names the ids of the history that the catalogue lacks."""

    def __init__(self, items: Iterable[Recommendation] = (), unknown: tuple[str, ...] = ()) -> None:
        """Hold `items`; `unknown` is in the history's order, each id once."""
        super().__init__(items)
        self.unknown = unknown
