"""Training SASRec: it is read back as it was, and folds are trained without their users."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.committee.cross_fit import UserFolds
from pocketrec.distill.config import SasrecConfig, TrainConfig
from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.distill.models.item_model import history_batch
from pocketrec.distill.training.sasrec_training import (
    cross_fitted_sasrec,
    load_sasrec,
    train_sasrec,
    train_sasrec_folds,
)
from pocketrec.runtime.errors import TrainingError

ITEMS, HISTORY = 12, 5
CONFIG = SasrecConfig(
    dim=8, layers=1, heads=2, dropout=0.1,
    train=TrainConfig(epochs=2, batch_size=8, learning_rate=0.01, validate_every=1, cpu=True),
)  # fmt: skip


def ring(users=24):
    """Each user walks round a ring of items: the next one is certain."""
    starts = np.random.default_rng(0).integers(0, ITEMS, users)
    return leave_one_out(Sequences.from_lists([(np.arange(s, s + 6) % ITEMS).tolist() for s in starts]))


@torch.no_grad()
def scores(model, histories):
    return model.item_logits(history_batch(histories, HISTORY))


def test_a_trained_model_is_read_back_as_it_was(tmp_path):
    split = ring()
    model, state = train_sasrec(split, ITEMS, CONFIG, HISTORY, tmp_path)
    assert [v["epoch"] for v in state.validations] == [1, 2]
    read = load_sasrec(tmp_path, CONFIG, ITEMS, HISTORY)
    torch.testing.assert_close(scores(read, split.train), scores(model.eval(), split.train), rtol=0, atol=0)


@pytest.mark.parametrize("fault", ["missing", "damaged", "another catalogue"])
def test_a_model_that_cannot_be_read_is_refused_with_what_to_do(tmp_path, fault):
    train_sasrec(ring(), ITEMS, CONFIG, HISTORY, tmp_path)
    weights = tmp_path / "best.safetensors"
    if fault == "missing":
        weights.unlink()
    elif fault == "damaged":
        weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(TrainingError, match="run its stage again"):
        load_sasrec(tmp_path, CONFIG, ITEMS + (fault == "another catalogue"), HISTORY)


def test_each_fold_is_trained_without_its_users_and_labels_them(tmp_path):
    split = ring()
    whole, _ = train_sasrec(split, ITEMS, CONFIG, HISTORY, tmp_path / "whole")
    train_sasrec_folds(split, ITEMS, CONFIG, HISTORY, 2, tmp_path)
    users = UserFolds.deal(len(split.train), 2)
    for fold in (0, 1):
        alone, _ = train_sasrec(leave_fold_out(split, users, fold), ITEMS, CONFIG, HISTORY, tmp_path / f"alone-{fold}")
        read = load_sasrec(tmp_path / f"fold-{fold}", CONFIG, ITEMS, HISTORY)
        torch.testing.assert_close(scores(read, split.train), scores(alone, split.train), rtol=0, atol=0)
    assert cross_fitted_sasrec(whole, tmp_path, split, CONFIG, 1, split.train) is whole
    joined = cross_fitted_sasrec(whole, tmp_path, split, CONFIG, 2, split.train)
    torch.testing.assert_close(scores(joined, split.train), scores(whole, split.train))  # cases are of no fold


def leave_fold_out(split, users, fold):
    return type(split)(users.without(split.train, fold), split.valid, split.test, split.rule)
