"""Whole training jobs made of the parts: the student on its semantic IDs, and the baselines it is shown beside."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pocketrec.distill.committee.cross_fit import CrossFitted, UserFolds
from pocketrec.distill.committee.soft_labels import SoftLabels
from pocketrec.distill.config import DistillConfig, EvaluationConfig, SasrecConfig, StudentConfig, TrainConfig
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import EvalSet, Sequences, Split
from pocketrec.distill.evaluation.baselines import CoOccurrence, Popularity, TransitionGraph
from pocketrec.distill.evaluation.metrics import Ranker, evaluate
from pocketrec.distill.evaluation.ranking import StudentRanker
from pocketrec.distill.models.item_model import ItemModel
from pocketrec.distill.models.sasrec import Sasrec, SasrecRanker
from pocketrec.distill.models.student import Student
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.pruning.removal import at_depth
from pocketrec.distill.semantic_ids.collaborative import collaborative_vectors
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.distill.training.losses import Distillation, HardLabels
from pocketrec.distill.training.trainer import LoopState, fit, save_weights
from pocketrec.runtime.errors import TrainingError

ITEM_LENGTH = 2**0.5  # of an item's token when training begins, whatever the weights of its sources
SHAPE = "student.json"
CONVENTIONS = {"seen kept": False, "seen excluded": True}


def train_student(
    split: Split,
    ids: SemanticIds,
    shape: StudentConfig,
    settings: TrainConfig,
    folder: Path,
    progress: Progress = SILENT,
    labels: SoftLabels | None = None,
    distill: DistillConfig | None = None,
    first_layers: nn.ModuleList | None = None,
) -> LoopState:
    """Train a student; the best weights are `folder/best.safetensors`. Goes on from a checkpoint.

    :param labels: the committee's soft labels; None: hard labels alone.
    :param distill: weights of the losses, with `labels`.
    :param first_layers: a teacher's layers for the student's blocks to begin as; None: random.
    """
    torch.manual_seed(settings.seed)
    student = Student(shape, ids.rows.shape[1], ids.codes, ids.rows)
    student.start_from(ids.codebooks.centroids * np.float32(ITEM_LENGTH / ids.space.length))
    if student.pairs is not None:
        vectors = collaborative_vectors(split.train, len(ids.rows), dim=shape.pair_dim, seed=settings.seed)
        student.pairs.start_from(vectors, ids.rows)
    if first_layers is not None:
        student.start_from_layers(first_layers)

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, (HardLabels, Distillation))
        return student_scores(model.student, split, ids, settings)

    if PartialState(cpu=settings.cpu).is_main_process:
        _save_shape(shape, folder)
    return fit(
        student_loss(student, ids, settings, labels, distill),
        window_batches(split.train, shape.max_history, settings),
        validate,
        settings,
        folder,
        progress,
        "training the student" if labels is None else "distilling the student",
    )


def student_loss(
    student: Student,
    ids: SemanticIds,
    settings: TrainConfig,
    labels: SoftLabels | None = None,
    distill: DistillConfig | None = None,
) -> HardLabels | Distillation:
    """Wrap a student in what it is trained on: soft labels where there are any, or else hard ones."""
    if labels is None:
        return HardLabels(student, ids.rows, settings.label_smoothing, settings.unlikelihood)
    return Distillation(student, ids.rows, labels, distill or DistillConfig(), settings.unlikelihood)


def load_student(folder: Path, ids: SemanticIds, depth: int = 0) -> Student:
    """Read a student from a folder of weights (`best.safetensors`, `student.json`).

    :param depth: its first layers alone; 0: all.
    :raises TrainingError: if the folder's files are missing or do not belong together.
    :raises ConfigError: if it has fewer layers than `depth`.
    """
    student = Student(load_shape(folder), ids.rows.shape[1], ids.codes, ids.rows)
    prefix = "student."  # what else the training module held (projections of features) stays behind
    try:
        weights = load_file(folder / "best.safetensors")
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        student.load_state_dict(own)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"the student in {folder} cannot be read ({error}); train or prune it again") from error
    return (at_depth(student, depth) if depth else student).eval()


def load_shape(folder: Path) -> StudentConfig:
    """Read the shape of the student in a folder of weights.

    :raises TrainingError: if there is none.
    """
    try:
        if (folder / SHAPE).exists():
            return msgspec.json.decode((folder / SHAPE).read_bytes(), type=StudentConfig)
        # Older runs say it in their configuration alone.
        config = json.loads((folder.parent / "config.json").read_text(encoding="utf-8"))
        return msgspec.convert(config["student"], StudentConfig)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{folder} does not say its student's shape ({error}); give a folder with {SHAPE} and best.safetensors"
        ) from error


def save_student(student: Student, folder: Path) -> None:
    """Write a student as `train_student` would, for `load_student`."""
    _save_shape(student.config, folder)
    save_weights(nn.ModuleDict({"student": student}), folder / "best.safetensors")


def _save_shape(shape: StudentConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{SHAPE}.partial"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(shape)) + b"\n")
    os.replace(partial, folder / SHAPE)


def train_sasrec(
    split: Split,
    n_items: int,
    config: SasrecConfig,
    max_history: int,
    folder: Path,
    progress: Progress = SILENT,
) -> tuple[Sasrec, LoopState]:
    """Train the SASRec baseline with full softmax cross-entropy; goes on from a checkpoint."""
    settings = config.train
    torch.manual_seed(settings.seed)
    model = Sasrec(config, n_items, max_history)
    if config.start == "collaborative":
        model.start_from(collaborative_vectors(split.train, n_items, dim=config.dim, seed=settings.seed))
    questions = sample(split.valid, settings.validate_users, settings.seed)

    def validate(kept: nn.Module) -> dict[str, float]:
        assert isinstance(kept, Sasrec)
        return validation_scores(SasrecRanker(kept), questions, n_items, max_history)

    batches = window_batches(split.train, max_history, settings)
    state = fit(model, batches, validate, settings, folder, progress, "training SASRec")
    return model, state


def load_sasrec(folder: Path, config: SasrecConfig, n_items: int, max_history: int) -> Sasrec:
    """Read the weights that `train_sasrec` kept."""
    model = Sasrec(config, n_items, max_history)
    model.load_state_dict(load_file(folder / "best.safetensors"))
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
    """Train a SASRec without each fold of users, in `folder/fold-<number>`, for labels by `cross_fitted_sasrec`."""
    users = UserFolds.deal(len(split.train), folds)
    for fold in range(folds):
        rest = replace(split, train=users.without(split.train, fold))
        train_sasrec(rest, n_items, config, max_history, folder / f"fold-{fold}", progress)


def cross_fitted_sasrec(
    whole: Sasrec, folder: Path, split: Split, config: SasrecConfig, folds: int, labelled: Sequences
) -> ItemModel:
    """Join the SASRec of everybody and those that `train_sasrec_folds` left in `folder` (1 fold: there are none).

    :param labelled: the histories that batches come from (see `UserFolds.of_events`).
    """
    if folds == 1:
        return whole
    without = [load_sasrec(folder / f"fold-{f}", config, whole.n_items, whole.max_history) for f in range(folds)]
    return CrossFitted(whole, without, UserFolds.deal(len(split.train), folds).of_events(labelled))


def measure_baselines(
    split: Split,
    n_items: int,
    sasrec: Sasrec | None,
    evaluation: EvaluationConfig,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Fit the baselines that only count, and measure all of them on the test questions.

    :param sasrec: trained, or None to leave it out.
    :returns: metrics: system → convention → measure → value.
    """
    rankers: dict[str, Ranker] = {
        "popularity": Popularity.fit(split.train, n_items),
        "co-occurrence": CoOccurrence.fit(split.train, n_items),
        "transition graph": TransitionGraph.fit(split.train, n_items),
    }
    if sasrec is not None:
        rankers["SASRec-CE"] = SasrecRanker(sasrec)
    return measure(rankers, split, n_items, evaluation, progress)


def measure(
    rankers: Mapping[str, Ranker],
    split: Split,
    n_items: int,
    evaluation: EvaluationConfig,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure systems on the test questions: system → convention → measure → value."""
    questions = sample(split.test, evaluation.users)
    counts = item_counts(split.train, n_items)
    metrics: dict[str, Any] = {}
    with progress.track("measuring", 2 * len(rankers)) as advance:
        for name, ranker in rankers.items():
            metrics[name] = {}
            for convention, exclude_seen in CONVENTIONS.items():
                measured = evaluate(
                    ranker, questions, n_items=n_items, item_counts=counts,
                    max_history=evaluation.max_history, exclude_seen=exclude_seen,
                )  # fmt: skip
                metrics[name][convention] = measured.to_dict()
                advance(1, name)
    return metrics


def sample(questions: EvalSet, users: int, seed: int = 0) -> EvalSet:
    """Draw questions at random, in their order; 0 takes them all."""
    if users == 0 or users >= len(questions):
        return questions
    return questions.take(np.sort(np.random.default_rng(seed).permutation(len(questions))[:users]))


def window_batches(train: Sequences, max_history: int, settings: TrainConfig) -> Any:
    """What `fit` wants: (rank, world) -> that process's share of the training windows."""
    return lambda rank, world: WindowBatches(
        train,
        max_history,
        settings.batch_size,
        settings.seed,
        accumulate=settings.accumulate,
        rank=rank,
        world=world,
    )


def validation_scores(ranker: Ranker, questions: EvalSet, n_items: int, max_history: int) -> dict[str, float]:
    """Recall@10 and ndcg@10 on validation questions, seen items kept."""
    measured: Mapping[str, float] = evaluate(
        ranker, questions, n_items=n_items, item_counts=None, max_history=max_history
    ).to_dict()
    return {name: measured[name] for name in ("recall@10", "ndcg@10")}


def student_scores(student: Student, split: Split, ids: SemanticIds, settings: TrainConfig) -> dict[str, float]:
    """Recall@10 and ndcg@10 of a student on the settings' sample of validation questions."""
    questions = sample(split.valid, settings.validate_users, settings.seed)
    ranker = StudentRanker(student, ids.rows)
    return validation_scores(ranker, questions, len(ids.rows), student.config.max_history)


def item_counts(train: Sequences, n_items: int) -> NDArray[np.int64]:
    """Training events per item, int64 [n_items]."""
    return np.bincount(train.events(), minlength=n_items)
