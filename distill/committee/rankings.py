"""Rankings of a committee and of its members, made in one pass: every member scores a question once.

A language model's forward pass is the dear part, and measuring asks four times: the committee and the model alone,
seen items kept and excluded. A list without seen items is the same list with them, less these.
"""

from __future__ import annotations

from collections.abc import Sequence as Several

import numpy as np
import torch
from numpy.typing import NDArray

from pocketrec.distill.committee.committee import Committee
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.ranking import EMPTY
from pocketrec.distill.evaluation.student_ranker import pad_rows
from pocketrec.distill.models.item_model import BATCH, history_batch

COMMITTEE = "committee"


class SharedLists:
    """Long lists of the committee and of some members, kept per block of histories."""

    def __init__(self, committee: Committee, members: Several[str], max_history: int, list_length: int = 20) -> None:
        """Prepare.

        :param list_length: the longest list that will be asked for.
        """
        self.committee, self.members, self.max_history = committee, tuple(members), max_history
        self.depth = list_length + max_history
        self._kept: dict[bytes, dict[str, NDArray[np.int32]]] = {}

    def of(self, histories: Sequences) -> dict[str, NDArray[np.int32]]:
        """Return lists with seen items kept, int32 [n, depth], by name."""
        key = histories.events().tobytes() + histories.lengths.tobytes()
        if key not in self._kept:
            blocks = [self._rank(histories.take(slice(i, i + BATCH))) for i in range(0, len(histories), BATCH)]
            self._kept[key] = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return self._kept[key]

    @torch.inference_mode()
    def _rank(self, histories: Sequences) -> dict[str, NDArray[np.int32]]:
        batch = history_batch(histories, self.max_history)
        parts = self.committee.parts(batch)
        scores = {COMMITTEE: self.committee.combine(parts, batch), **{name: parts[name] for name in self.members}}
        out = {}
        for name, score in scores.items():
            found = score.topk(min(self.depth, score.shape[1]), 1).indices.int().numpy()
            out[name] = np.pad(found, ((0, 0), (0, self.depth - found.shape[1])), constant_values=EMPTY)
        return out


class SharedRanker:
    """One of the lists of a `SharedLists` as a `Ranker` of `distill.evaluation`."""

    def __init__(self, shared: SharedLists, name: str) -> None:
        """Serve the lists of `name`: a member, or `COMMITTEE`."""
        self.shared, self.name = shared, name

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best k rows of each history, int32 [n, k], -1 where nothing is left.

        :param k: at most the `list_length` of the shared lists.
        """
        lists = self.shared.of(histories)[self.name]
        if exclude_seen:
            seen = (lists[:, :, None] == pad_rows(histories)[:, None]).any(2)
            order = np.argsort(seen, axis=1, kind="stable")
            lists = np.take_along_axis(np.where(seen, EMPTY, lists), order, 1)
        return lists[:, :k]
