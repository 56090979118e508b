"""Explain a score: what each code of an item's semantic ID and each item of the history contribute.

Both are the model's own numbers, not estimates: the item's log-probability is the sum of its codes', and an item of the
history is weighed by leaving it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pocketrec.runtime.cold_items import recent_rows
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.retrieval import Rows
from pocketrec.runtime.retriever import Retriever


@dataclass(frozen=True)
class Explanation:
    """Why an item has the score it has.

    score: the model's log-probability of the item. levels: the log-probability of each code of its semantic ID, given
    the codes before it; they sum to the score. history: (item id, change) for each item that the model read, oldest
    first; the change is the score less that of the history without the item. resembles: for a cold item, (item id,
    probability) of each item that it resembles and gets probability from, the largest first: items of the history, and
    items that the model recommends. If their sum's logarithm is more than `score`, `recommend` uses it instead.
    """

    item_id: str
    score: float
    levels: tuple[float, ...]
    history: tuple[tuple[str, float], ...]
    resembles: tuple[tuple[str, float], ...] = ()

    @property
    def drivers(self) -> tuple[tuple[str, float], ...]:
        """The history, the item that raised the score most first."""
        return tuple(sorted(self.history, key=lambda pair: -pair[1]))


def explain(retriever: Retriever, history: Sequence[str], item_id: str) -> Explanation:
    """Explain an item's score after a history (see `Recommender.explain`)."""
    retriever.check_open()
    leaves, _ = retriever.find_leaves(history)
    leaf = retriever.leaf_of(item_id)
    if leaf < 0:
        raise ConfigError(f"the catalogue has no item {item_id!r}; give one of its ids")
    trie, engine = retriever.trie, retriever.engine
    recent = leaves[-retriever.max_history :]
    sids, sid = retriever.sids(recent), trie.rows[leaf]
    levels = engine.level_scores(sids, sid)
    score = float(levels.sum())
    without = [float(engine.level_scores(np.delete(sids, n, 0), sid).sum()) for n in range(len(sids))]
    names = trie.table.ids(trie.table_rows_of(recent))
    changes = tuple((name, score - other) for name, other in zip(names, without, strict=True))
    return Explanation(item_id, score, tuple(levels.tolist()), changes, _resembled(retriever, leaves, leaf))


def _resembled(retriever: Retriever, leaves: Rows, leaf: int) -> tuple[tuple[str, float], ...]:
    """Ids of the items that a cold item gets probability from after a history, and how much, the largest first."""
    trie, cold = retriever.trie, retriever.cold
    item = int(trie.table_rows_of(np.array([leaf], np.int32))[0])
    if cold is None or item not in cold.new:
        return ()
    sids = retriever.sids(leaves[-retriever.max_history :])
    found, scores = retriever.engine.search(sids, trie, np.unique(leaves), retriever.manifest.model.beam)
    shares = cold.passed_to(item, recent_rows(trie, leaves), trie.table_rows_of(found), scores)
    names = trie.table.ids(np.array([known for known, _ in shares], np.int32))
    return tuple((name, probability) for name, (_, probability) in zip(names, shares, strict=True))
