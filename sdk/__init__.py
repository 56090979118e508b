"""pocketrec: a recommender that lives inside the app.

    from pocketrec import Recommender

    rec = Recommender.load("bundle/")
    for item in rec.recommend(["id-1", "id-2"], k=10):
        print(item.item_id, item.score, item.title)

Importing this package imports nothing heavy; each name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketrec.exporting import Exported, TrainedStudent
    from pocketrec.pipeline import Pipeline, RunResult
    from pocketrec.runtime.errors import PocketRecError
    from pocketrec.runtime.recommender import Recommendation, Recommendations, Recommender
    from pocketrec.runtime.trie import ItemTrie

_HOMES = {
    "Exported": "pocketrec.exporting",
    "ItemTrie": "pocketrec.runtime.trie",
    "Pipeline": "pocketrec.pipeline",
    "PocketRecError": "pocketrec.runtime.errors",
    "Recommendation": "pocketrec.runtime.recommender",
    "Recommendations": "pocketrec.runtime.recommender",
    "Recommender": "pocketrec.runtime.recommender",
    "RunResult": "pocketrec.pipeline",
    "TrainedStudent": "pocketrec.exporting",
}

__all__ = [
    "Exported",
    "ItemTrie",
    "Pipeline",
    "PocketRecError",
    "Recommendation",
    "Recommendations",
    "Recommender",
    "RunResult",
    "TrainedStudent",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pocketrec' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
