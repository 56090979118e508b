"""Rankings of a committee and of its members in one pass: every member scores a history once.

The forward pass of a language model is expensive, and an evaluation needs four rankings: of the committee and of the
model alone, with seen items kept and excluded. All four come from the same scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pocketrec.distill.committee.committee import Committee
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.item_model import BATCH, best_items, history_batch

COMMITTEE = "committee"


class SharedLists:
    """Lists of the committee and of some members by both conventions, cached by block of histories."""

    def __init__(self, committee: Committee, members: Sequence[str], max_history: int, list_length: int = 20) -> None:
        """Prepare; nothing is scored yet.

        :param members: members that get lists of their own.
        :param max_history: newest items of a history that the members read.
        :param list_length: length of the longest list that `SharedRanker.rank` will return.
        """
        self.committee, self.members, self.max_history = committee, tuple(members), max_history
        self.list_length = list_length
        self._kept: dict[bytes, dict[tuple[str, bool], NDArray[np.int32]]] = {}

    def of(self, histories: Sequences) -> dict[tuple[str, bool], NDArray[np.int32]]:
        """Return the lists of the committee and of each member, int32 [n, list_length], by name and `exclude_seen`.

        :param histories: whole histories; none of their items is in a list that excludes seen ones.
        """
        key = histories.events().tobytes() + histories.lengths.tobytes()
        if key not in self._kept:
            blocks = [self._rank(histories.take(slice(i, i + BATCH))) for i in range(0, len(histories), BATCH)]
            self._kept[key] = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return self._kept[key]

    @torch.inference_mode()
    def _rank(self, histories: Sequences) -> dict[tuple[str, bool], NDArray[np.int32]]:
        batch = history_batch(histories, self.max_history)
        each = self.committee.member_scores(batch, {*self.committee.weights.used, *self.members})
        scores = {COMMITTEE: self.committee.combine(each, batch), **{name: each[name] for name in self.members}}
        return {
            (name, exclude_seen): best_items(score, self.list_length, histories if exclude_seen else None)
            for name, score in scores.items()
            for exclude_seen in (False, True)
        }


class SharedRanker:
    """One of the lists of a `SharedLists` as a `Ranker` of `distill.evaluation`."""

    def __init__(self, shared: SharedLists, name: str) -> None:
        """Take the shared lists and whose to return: a member's name, or `COMMITTEE`."""
        self.shared, self.name = shared, name

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best k rows for each history, int32 [n, k], EMPTY (-1) where no item is left.

        :param k: at most the `list_length` of the shared lists.
        """
        return self.shared.of(histories)[self.name, exclude_seen][:, :k]
