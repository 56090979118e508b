"""Cross-fitting: a position is labelled by a model that was trained without the position's user.

A model that has memorised a target predicts it with certainty, and its label tells a student no more than the target
itself. So users are divided into folds, one model is trained without each fold, and soft labels come from the model
that was trained without the user (the out-of-sample predictions of stacked generalisation, Wolpert 1992, section 2).
Validation and test cases are scored by the model that was trained on all users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketrec.distill.data.batches import Batch
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.item_model import ItemModel


@dataclass(frozen=True)
class UserFolds:
    """Which fold each training history is in: int64 [n_users], in [0, folds)."""

    of_user: NDArray[np.int64]
    folds: int

    @staticmethod
    def deal(n_users: int, folds: int, seed: int = 0) -> UserFolds:
        """Assign users to folds of equal size at random."""
        return UserFolds(np.random.default_rng(seed).permutation(n_users) % folds, folds)

    def without(self, train: Sequences, fold: int) -> Sequences:
        """Return the histories of all users outside a fold."""
        return train.take(np.flatnonzero(self.of_user != fold))

    def of_events(self, labelled: Sequences) -> NDArray[np.int64]:
        """Return each event's fold, int64 [n_events]; -1 for events of no history.

        :param labelled: the histories that batches come from; sequence i belongs to user i % n_users, as in the result
            of `distill.data.augment`.
        """
        out = np.full(len(labelled.items), -1, np.int64)
        fold = self.of_user[np.arange(len(labelled)) % len(self.of_user)]
        for number in range(self.folds):
            out[labelled.take(np.flatnonzero(fold == number)).event_positions()] = number
        return out


class CrossFitted:
    """One model trained on all users and one without each fold, as one `ItemModel`."""

    def __init__(self, whole: ItemModel, without: Sequence[ItemModel], fold_of_event: NDArray[np.int64]) -> None:
        """Combine models.

        :param without: `without[f]` was trained without fold f.
        :param fold_of_event: of the histories that batches come from, see `UserFolds.of_events`.
        """
        self.models = [*without, whole]  # index -1 is the model of all users
        self.fold_of_event = fold_of_event

    def item_logits(self, batch: Batch) -> Tensor:
        """Return logits over all items, float32 [n, n_items]."""
        events = batch.events.cpu().numpy()
        fold = np.where(events < 0, -1, self.fold_of_event[events])
        out: Tensor | None = None
        for number in np.unique(fold):
            chosen = torch.from_numpy(np.flatnonzero(fold == number))
            logits = self.models[number].item_logits(batch.only(chosen)).float().cpu()
            out = logits.new_empty(len(fold), logits.shape[1]) if out is None else out
            out[chosen] = logits
        assert out is not None
        return out
