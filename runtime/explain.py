"""Why an item: what each code of its semantic ID is worth, and what each item of the history does for it.

Both are the model's own numbers, no estimate: the item's log-probability is the sum of its codes', and an item of the
history is weighed by leaving it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.engines.protocol import Engine


@dataclass(frozen=True)
class Explanation:
    """Why an item scores what it scores.

    score: its log-probability, by the model alone. levels: of each code of its semantic ID, given the codes before;
    they sum to the score. history: (item id, change) for each item that the model read, oldest first; the change is
    what the item adds to the score, the score less that of the history without it. resembles: of a new item that
    nobody has interacted with, (item id, probability) for each item that passes something on to it, the most first:
    items of the history, and those that the model recommends. `recommend` goes by the logarithm of their sum where
    that is more than the score.
    """

    item_id: str
    score: float
    levels: tuple[float, ...]
    history: tuple[tuple[str, float], ...]
    resembles: tuple[tuple[str, float], ...] = ()

    @property
    def drivers(self) -> tuple[tuple[str, float], ...]:
        """The history, what helped most first."""
        return tuple(sorted(self.history, key=lambda pair: -pair[1]))


def explain(
    engine: Engine, item_id: str, sid: NDArray[np.unsignedinteger], history_ids: list[str], history: NDArray[np.int32]
) -> Explanation:
    """Weigh an item's codes and the history's items.

    :param sid: [L], of the item. history: int32 [N, L], what the model reads; history_ids: their ids.
    """
    levels = engine.level_scores(history, sid)
    score = float(levels.sum())
    without = [float(engine.level_scores(np.delete(history, n, 0), sid).sum()) for n in range(len(history))]
    pairs = tuple((name, score - other) for name, other in zip(history_ids, without, strict=True))
    return Explanation(item_id, score, tuple(levels.tolist()), pairs)
