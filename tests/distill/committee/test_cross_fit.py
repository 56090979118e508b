"""Cross-fitting: nobody is labelled by a model that was trained on them."""

from __future__ import annotations

import numpy as np
import torch

from pocketrec.distill.committee.cross_fit import CrossFitted, UserFolds
from pocketrec.distill.data.augment import augment
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.item_model import history_batch


class Says:
    """Gives its own number as every logit."""

    def __init__(self, number):
        self.number = number

    def item_logits(self, batch):
        return torch.full((len(batch.loss_at), 4), float(self.number))


def histories(users=11):
    return Sequences.from_lists([[user % 4, (user + 1) % 4, 2] for user in range(users)])


def test_folds_are_of_equal_size_and_leave_their_users_out():
    train, users = histories(), UserFolds.deal(11, 3)
    assert sorted(np.bincount(users.of_user)) == [3, 4, 4]
    for fold in range(3):
        rest = users.without(train, fold)
        assert rest.starts.tolist() == train.starts[users.of_user != fold].tolist()


def test_every_position_is_scored_by_the_model_without_its_user():
    train, users = histories(), UserFolds.deal(11, 3)
    model = CrossFitted(Says(9), [Says(fold) for fold in range(3)], users.of_events(train))
    for micro_batches in WindowBatches(train, 20, 4, seed=0).epoch(0):
        for batch in micro_batches:
            said = model.item_logits(batch)
            owner = np.searchsorted(train.starts, batch.events.numpy(), side="right") - 1
            assert said[:, 0].tolist() == users.of_user[owner].tolist()
            assert torch.equal(said, said[:, :1].expand(-1, 4))


def test_a_copy_is_scored_by_the_model_without_its_user():
    train, users = histories(), UserFolds.deal(11, 5)
    made = augment(train, 2, drop=0.3, swap=0.3)
    fold_of = users.of_events(made)
    for number in range(len(made)):
        mine = fold_of[made.starts[number] : made.ends[number]]
        assert set(mine.tolist()) <= {int(users.of_user[number % 11])}


def test_cases_that_are_not_training_positions_are_scored_by_the_model_of_all_users():
    train, users = histories(), UserFolds.deal(11, 3)
    model = CrossFitted(Says(9), [Says(fold) for fold in range(3)], users.of_events(train))
    assert (model.item_logits(history_batch(train.last(2), 20)) == 9).all()
