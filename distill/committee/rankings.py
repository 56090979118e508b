"""Rankings of a committee and of its members in one pass: every member scores a history once.

The forward pass of a language model is expensive, and an evaluation needs four rankings: of the committee and of the
model alone, with seen items kept and excluded. All four come from the same scores; seen items are excluded from a list
by removing them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pocketrec.distill.committee.committee import Committee
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.ranking import EMPTY
from pocketrec.distill.models.item_model import BATCH, history_batch

COMMITTEE = "committee"


class SharedLists:
    """Long lists of the committee and of some members, cached by block of histories."""

    def __init__(self, committee: Committee, members: Sequence[str], max_history: int, list_length: int = 20) -> None:
        """Prepare; nothing is scored yet.

        :param members: members that get lists of their own.
        :param list_length: length of the longest list that `SharedRanker.rank` will return.
        """
        self.committee, self.members, self.max_history = committee, tuple(members), max_history
        self.depth = list_length + max_history
        self._kept: dict[bytes, dict[str, NDArray[np.int32]]] = {}

    def of(self, histories: Sequences) -> dict[str, NDArray[np.int32]]:
        """Return the lists of the committee and of each member, seen items kept, int32 [n, depth] by name."""
        key = histories.events().tobytes() + histories.lengths.tobytes()
        if key not in self._kept:
            blocks = [self._rank(histories.take(slice(i, i + BATCH))) for i in range(0, len(histories), BATCH)]
            self._kept[key] = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return self._kept[key]

    @torch.inference_mode()
    def _rank(self, histories: Sequences) -> dict[str, NDArray[np.int32]]:
        batch = history_batch(histories, self.max_history)
        each = self.committee.member_scores(batch)
        scores = {COMMITTEE: self.committee.combine(each, batch), **{name: each[name] for name in self.members}}
        out = {}
        for name, score in scores.items():
            found = score.topk(min(self.depth, score.shape[1]), 1).indices.int().numpy()
            out[name] = np.pad(found, ((0, 0), (0, self.depth - found.shape[1])), constant_values=EMPTY)
        return out


class SharedRanker:
    """One of the lists of a `SharedLists` as a `Ranker` of `distill.evaluation`."""

    def __init__(self, shared: SharedLists, name: str) -> None:
        """Take the shared lists and whose to return: a member's name, or `COMMITTEE`."""
        self.shared, self.name = shared, name

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best k rows for each history, int32 [n, k], EMPTY (-1) where no item is left.

        :param k: at most the `list_length` of the shared lists.
        """
        lists = self.shared.of(histories)[self.name]
        if exclude_seen:
            seen = (lists[:, :, None] == histories.padded()[:, None]).any(2)
            order = np.argsort(seen, axis=1, kind="stable")
            lists = np.take_along_axis(np.where(seen, EMPTY, lists), order, 1)
        return lists[:, :k]
