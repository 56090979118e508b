"""pocketrec: a recommender that lives inside the app.

    from pocketrec import Recommender

    rec = Recommender.load("bundle/")
    for item in rec.recommend(["id-1", "id-2"], k=10):
        print(item.item_id, item.score, item.title)

Importing this package is fast: each name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketrec.run.export import Exported, TrainedStudent
    from pocketrec.run.pipeline import Pipeline, RunResult
    from pocketrec.runtime.catalogue.trie import ItemTrie
    from pocketrec.runtime.control import Control
    from pocketrec.runtime.errors import PocketRecError
    from pocketrec.runtime.explain import Explanation
    from pocketrec.runtime.recommendation import Recommendation, Recommendations
    from pocketrec.runtime.recommender import Recommender
    from pocketrec.runtime.session import Session
    from pocketrec.runtime.sync import LiveRecommender, SyncClient

_HOMES = {
    "Control": "pocketrec.runtime.control",
    "Exported": "pocketrec.run.export",
    "Explanation": "pocketrec.runtime.explain",
    "ItemTrie": "pocketrec.runtime.catalogue.trie",
    "LiveRecommender": "pocketrec.runtime.sync",
    "Pipeline": "pocketrec.run.pipeline",
    "PocketRecError": "pocketrec.runtime.errors",
    "Recommendation": "pocketrec.runtime.recommendation",
    "Recommendations": "pocketrec.runtime.recommendation",
    "Recommender": "pocketrec.runtime.recommender",
    "RunResult": "pocketrec.run.pipeline",
    "Session": "pocketrec.runtime.session",
    "SyncClient": "pocketrec.runtime.sync",
    "TrainedStudent": "pocketrec.run.export",
}

__all__ = [
    "Control",
    "Explanation",
    "Exported",
    "ItemTrie",
    "LiveRecommender",
    "Pipeline",
    "PocketRecError",
    "Recommendation",
    "Recommendations",
    "Recommender",
    "RunResult",
    "Session",
    "SyncClient",
    "TrainedStudent",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pocketrec' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
