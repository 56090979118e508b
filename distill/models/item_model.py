"""Models that score every item of the catalogue: their protocol, and the ranker that serves all of them.

SASRec, the teacher LLM, the item graph and their committee are `ItemModel`s, so one ranker serves them all, and any of
them can produce soft labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketrec.distill.data.batches import Batch, pack
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.ranking import EMPTY

BATCH = 256  # histories scored at once


class ItemModel(Protocol):
    """Anything that scores every item at the loss positions of a batch: a teacher, SASRec, a committee."""

    def item_logits(self, batch: Batch) -> Tensor:
        """Return logits over all items, float [n, n_items]; their softmax is the model's distribution."""


def history_batch(histories: Sequences, max_history: int) -> Batch:
    """Lay histories out as a batch with one loss position each, in order: the one after the newest item.

    The batch has no targets (they are catalogue row 0), and its events are -1, since none is a training event.
    """
    cut = histories.last(max_history)
    sizes = cut.lengths
    starts = np.cumsum(sizes + 1) - (sizes + 1)
    items = np.zeros(int((sizes + 1).sum()), np.int32)  # each history, with room for a target behind it
    owner = np.repeat(starts, sizes)
    items[owner + np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)] = cut.events()
    batch = pack(items, starts, starts + sizes + 1, np.ones(len(cut), bool), max_history + 1, len(cut))
    batch = batch.only(torch.from_numpy(starts + sizes))
    return replace(batch, events=torch.full_like(batch.events, -1))


class ItemRanker:
    """Ranks the whole catalogue by an `ItemModel` (a `Ranker` of `distill.evaluation`)."""

    def __init__(self, model: ItemModel, max_history: int) -> None:
        """Take a model, which reads the newest `max_history` items of a history."""
        self.model, self.max_history = model, max_history

    @torch.inference_mode()
    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best k rows for each history, int32 [n, k], EMPTY (-1) where no item is left."""
        found = []
        for first in range(0, len(histories), BATCH):
            chunk = histories.take(slice(first, first + BATCH))
            scores = self.model.item_logits(history_batch(chunk, self.max_history))
            found.append(best_items(scores, k, chunk if exclude_seen else None))
        return np.concatenate(found) if found else np.empty((0, k), np.int32)


def best_items(scores: Tensor, k: int, exclude: Sequences | None) -> NDArray[np.int32]:
    """Return the rows of each case's `k` best items, int32 [n, k], EMPTY (-1) where no item is left.

    :param scores: float [n, n_items]; they are not changed.
    :param exclude: n histories whose items may not be listed; None: every item may.
    """
    if exclude is not None:
        case = torch.from_numpy(np.repeat(np.arange(len(exclude)), exclude.lengths))
        scores = scores.clone()
        scores[
            case.to(scores.device), torch.from_numpy(exclude.events().astype(np.int64)).to(scores.device)
        ] = -torch.inf
    best = scores.topk(min(k, scores.shape[1]), 1)
    ranked = torch.where(torch.isfinite(best.values), best.indices, EMPTY).int().cpu().numpy()
    return np.pad(ranked, ((0, 0), (0, k - ranked.shape[1])), constant_values=EMPTY)
