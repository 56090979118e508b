"""Whole training jobs made of the parts: the student on its semantic IDs, and the baselines it is shown beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from pocketrec.distill.baselines import CoOccurrence, Popularity, TransitionGraph
from pocketrec.distill.batches import WindowBatches
from pocketrec.distill.collaborative import collaborative_vectors
from pocketrec.distill.config import EvaluationConfig, SasrecConfig, StudentConfig, TrainConfig
from pocketrec.distill.evaluation import Ranker, evaluate
from pocketrec.distill.losses import HardLabels
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.ranking import StudentRanker
from pocketrec.distill.sasrec import Sasrec, SasrecRanker
from pocketrec.distill.semantic_ids import SemanticIds
from pocketrec.distill.splits import EvalSet, Sequences, Split
from pocketrec.distill.student import Student
from pocketrec.distill.trainer import LoopState, fit

ITEM_LENGTH = 2**0.5  # of an item's token when training begins, whatever the weights of its sources
CONVENTIONS = {"seen kept": False, "seen excluded": True}


def train_student(
    split: Split,
    ids: SemanticIds,
    shape: StudentConfig,
    settings: TrainConfig,
    folder: Path,
    progress: Progress = SILENT,
) -> LoopState:
    """Train a student on hard labels; the best weights are `folder/best.safetensors`. Goes on from a checkpoint."""
    torch.manual_seed(settings.seed)
    student = Student(shape, ids.rows.shape[1], ids.codes)
    student.start_from(ids.codebooks.centroids * np.float32(ITEM_LENGTH / ids.space.length))
    questions = sample(split.valid, settings.validate_users, settings.seed)

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, HardLabels)
        return _scores(StudentRanker(model.student, ids.rows), questions, len(ids.rows), shape.max_history)

    return fit(
        HardLabels(student, ids.rows, settings.label_smoothing),
        _batches(split.train, shape.max_history, settings),
        validate,
        settings,
        folder,
        progress,
        "training the student",
    )


def load_student(folder: Path, shape: StudentConfig, ids: SemanticIds) -> Student:
    """Read the weights that `train_student` kept."""
    student = Student(shape, ids.rows.shape[1], ids.codes)
    weights = load_file(folder / "best.safetensors")
    student.load_state_dict({name.removeprefix("student."): tensor for name, tensor in weights.items()})
    return student.eval()


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
        return _scores(SasrecRanker(kept), questions, n_items, max_history)

    batches = _batches(split.train, max_history, settings)
    state = fit(model, batches, validate, settings, folder, progress, "training SASRec")
    return model, state


def measure_baselines(
    split: Split,
    n_items: int,
    sasrec: SasrecConfig,
    evaluation: EvaluationConfig,
    folder: Path,
    progress: Progress = SILENT,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit every baseline and measure it on the test questions.

    :returns: metrics (system → convention → measure → value), and SASRec's training curve.
    """
    rankers: dict[str, Ranker] = {
        "popularity": Popularity.fit(split.train, n_items),
        "co-occurrence": CoOccurrence.fit(split.train, n_items),
        "transition graph": TransitionGraph.fit(split.train, n_items),
    }
    curve: dict[str, Any] = {"losses": [], "validations": []}
    if sasrec.enabled:
        model, state = train_sasrec(split, n_items, sasrec, evaluation.max_history, folder / "sasrec", progress)
        rankers["SASRec-CE"] = SasrecRanker(model)
        curve = {"losses": state.losses, "validations": state.validations}
    questions = sample(split.test, evaluation.users)
    counts = item_counts(split.train, n_items)
    metrics: dict[str, Any] = {}
    with progress.track("measuring the baselines", 2 * len(rankers)) as advance:
        for name, ranker in rankers.items():
            metrics[name] = {}
            for convention, exclude_seen in CONVENTIONS.items():
                measured = evaluate(
                    ranker, questions, n_items=n_items, item_counts=counts,
                    max_history=evaluation.max_history, exclude_seen=exclude_seen,
                )  # fmt: skip
                metrics[name][convention] = measured.to_dict()
                advance(1, name)
    return metrics, curve


def sample(questions: EvalSet, users: int, seed: int = 0) -> EvalSet:
    """Draw questions at random, in their order; 0 takes them all."""
    if users == 0 or users >= len(questions):
        return questions
    return questions.take(np.sort(np.random.default_rng(seed).permutation(len(questions))[:users]))


def _batches(train: Sequences, max_history: int, settings: TrainConfig) -> Any:
    return lambda rank, world: WindowBatches(
        train,
        max_history,
        settings.batch_size,
        settings.seed,
        accumulate=settings.accumulate,
        rank=rank,
        world=world,
    )


def _scores(ranker: Ranker, questions: EvalSet, n_items: int, max_history: int) -> dict[str, float]:
    measured: Mapping[str, float] = evaluate(
        ranker, questions, n_items=n_items, item_counts=None, max_history=max_history
    ).to_dict()
    return {name: measured[name] for name in ("recall@10", "ndcg@10")}


def item_counts(train: Sequences, n_items: int) -> NDArray[np.int64]:
    """Training events per item, int64 [n_items]."""
    return np.bincount(train.events(), minlength=n_items)
