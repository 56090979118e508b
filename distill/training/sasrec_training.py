"""Training SASRec, which is a baseline for every student and a member of the committee.

On the path of the data: training histories in, the weights of the best validation out, as `best.safetensors` in one
folder. For soft labels one SASRec is trained without each fold of users as well (`distill.committee.cross_fit`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pocketrec.distill.committee.cross_fit import CrossFitted, UserFolds
from pocketrec.distill.config import SasrecConfig
from pocketrec.distill.data.batches import window_batches
from pocketrec.distill.data.splits import Sequences, Split
from pocketrec.distill.evaluation.validation import Validation
from pocketrec.distill.models.item_model import ItemModel
from pocketrec.distill.models.sasrec import Sasrec, SasrecRanker
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.semantic_ids.collaborative import collaborative_vectors
from pocketrec.distill.training.trainer import BEST_WEIGHTS, LoopState, fit
from pocketrec.runtime.errors import TrainingError


def train_sasrec(
    split: Split,
    n_items: int,
    config: SasrecConfig,
    max_history: int,
    folder: Path,
    progress: Progress = SILENT,
) -> tuple[Sasrec, LoopState]:
    """Train SASRec with full softmax cross-entropy; resumes from a checkpoint in `folder`.

    :returns: the model with the best weights, and the progress of the training.
    :raises TrainingError: if the loss is not finite, or the checkpoint cannot be read.
    """
    settings = config.train
    torch.manual_seed(settings.seed)
    model = Sasrec(config, n_items, max_history)
    if config.start == "collaborative":
        model.start_from(collaborative_vectors(split.train, n_items, dim=config.dim, seed=settings.seed))
    validation = Validation.of(split, n_items, settings)

    def validate(kept: nn.Module) -> dict[str, float]:
        assert isinstance(kept, Sasrec)
        return validation.scores(SasrecRanker(kept))

    batches = window_batches(split.train, max_history, settings)
    state = fit(model, batches, validate, settings, folder, progress, "training SASRec")
    return model, state


def load_sasrec(folder: Path, config: SasrecConfig, n_items: int, max_history: int) -> Sasrec:
    """Read the model that `train_sasrec` left in `folder`.

    :raises TrainingError: if the weights are missing, damaged, or of another configuration or catalogue.
    """
    model = Sasrec(config, n_items, max_history)
    try:
        model.load_state_dict(load_file(folder / BEST_WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"the SASRec in {folder} cannot be read ({error}); run its stage again") from error
    return model.eval()


def train_sasrec_folds(
    split: Split,
    n_items: int,
    config: SasrecConfig,
    max_history: int,
    folds: int,
    folder: Path,
    progress: Progress = SILENT,
) -> None:
    """Train a SASRec without each fold of users, in `folder/fold-<number>`; see `cross_fitted_sasrec`."""
    users = UserFolds.deal(len(split.train), folds)
    for fold in range(folds):
        rest = replace(split, train=users.without(split.train, fold))
        train_sasrec(rest, n_items, config, max_history, folder / f"fold-{fold}", progress)


def cross_fitted_sasrec(
    whole: Sasrec, folder: Path, split: Split, config: SasrecConfig, folds: int, labelled: Sequences
) -> ItemModel:
    """Combine the SASRec of all users with those that `train_sasrec_folds` left in `folder` (1 fold: none).

    :param labelled: the histories that batches come from (see `UserFolds.of_events`).
    """
    if folds == 1:
        return whole
    without = [load_sasrec(folder / f"fold-{f}", config, whole.n_items, whole.max_history) for f in range(folds)]
    return CrossFitted(whole, without, UserFolds.deal(len(split.train), folds).of_events(labelled))
