"""Structured, gradual pruning of a trained student, trained on soft labels where there are any.

On the path of the data: between the trained student and the preference stage or export. The steps:

1. The student is rotated onto its principal axes (`distill.pruning.rotation`), its units get their first scores, and
   the final shape is planned (`distill.pruning.shape_plan`), all on a few training batches.
2. Cutting: training continues while masks (`distill.pruning.masks`) collect Taylor scores, I = Σ_batches (m · ∂L/∂m)²
   (Molchanov et al. 2019, eq. 8). Every few steps each dimension is cut to the number of units of the cubic schedule
   (Zhu & Gupta 2017, eq. 1), the units with the highest scores; each cut halves the scores collected so far:

       kept(t) = kept(T) + (all - kept(T)) · (1 - t / T)³

   The fractional part of kept(t) is the mask of the last unit, so heads and layers fade out.
3. Removal (`distill.pruning.removal`): the masked student becomes a smaller one with the same outputs.
4. Recovery: the smaller student is trained like any other.

Promises: a run that was killed and started again cuts the same units; the result is an ordinary student.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from msgspec.structs import replace
from torch import nn

from pocketrec.distill.committee.soft_labels import SoftLabels
from pocketrec.distill.config import DistillConfig, PruneConfig, StudentConfig, TrainConfig
from pocketrec.distill.data.batches import window_batches
from pocketrec.distill.data.splits import Split
from pocketrec.distill.evaluation.validation import Validation
from pocketrec.distill.models.student import Student
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.pruning.cutting import Pruning, first_scores, mean_loss
from pocketrec.distill.pruning.rotation import rotate_student
from pocketrec.distill.pruning.shape_plan import Budget, Curves, loss_curves, plan_shape, unit_counts
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.distill.training.losses import Distillation, HardLabels
from pocketrec.distill.training.student_training import save_student, student_loss
from pocketrec.distill.training.trainer import LoopState, fit
from pocketrec.runtime.errors import ConfigError

logger = logging.getLogger(__name__)

CUTTING = "cutting"
PLAN_BATCHES = 8  # training batches for the principal axes, the first scores and the plan


@dataclass(frozen=True)
class Pruned:
    """The result of pruning.

    before, after: shapes. curves: the loss with each dimension cut alone, from which the shape was planned. cutting,
    recovery: the course of both trainings. valid_before, valid_after: scores on the same validation cases.
    """

    before: StudentConfig
    after: StudentConfig
    curves: Curves
    cutting: LoopState
    recovery: LoopState | None
    valid_before: dict[str, float]
    valid_after: dict[str, float]


def prune_student(
    start: Student,
    split: Split,
    ids: SemanticIds,
    config: PruneConfig,
    budget: Budget,
    folder: Path,
    progress: Progress = SILENT,
    labels: SoftLabels | None = None,
    distill: DistillConfig | None = None,
) -> tuple[Student, Pruned]:
    """Prune a student and write the result to `folder`; resumes from a checkpoint there.

    :param start: the trained student; it is not changed.
    :param labels: soft labels of the training histories; None: hard labels only.
    :param distill: weights of the losses, with `labels`.
    :raises ConfigError: if the student is within the budget already, or the budget cannot be reached.
    """
    settings = config.train
    if budget.cost(start.config) <= budget.limit:
        raise ConfigError(
            f"prune: the student has {budget.cost(start.config):,} {budget.unit}, already within the target of "
            f"{budget.limit:,}; set a smaller target"
        )
    model, curves = cutting_model(start, split, ids, config, budget, progress, labels, distill)
    cutting = _fit(model, split, ids, _while_cutting(config), folder / CUTTING, progress, "cutting the student")
    student = model.finish()
    epochs, recovery = settings.epochs - _cutting_epochs(config), None
    if epochs:
        loss = student_loss(student, ids, settings, labels, losses_while_pruning(distill, student.config.layers))
        remaining = replace(settings, epochs=epochs)
        recovery = _fit(loss, split, ids, remaining, folder, progress, "recovering the student")
    if PartialState(cpu=settings.cpu).is_main_process:
        save_student(student, folder)
    validation = Validation.of(split, len(ids.rows), settings)
    after = validation.student_scores(student.eval(), ids)
    before = validation.student_scores(start, ids)
    return student, Pruned(start.config, student.config, curves, cutting, recovery, before, after)


def losses_while_pruning(distill: DistillConfig | None, layers: int) -> DistillConfig:
    """Return the weights of the losses that apply to a student of so many layers while it is pruned.

    Feature losses are off: their projections belong to the distillation stage and are not kept.
    """
    distill = distill or DistillConfig()
    early = distill.intermediate if layers >= distill.blocks else 0.0
    return replace(distill, cosine=0.0, norm=0.0, intermediate=early)


def _cutting_epochs(config: PruneConfig) -> int:
    return max(1, round(config.share * config.train.epochs))


def _while_cutting(config: PruneConfig) -> TrainConfig:
    """Return settings that keep the last weights; by validation the first epoch, where little is cut, would win."""
    epochs = _cutting_epochs(config)
    return replace(config.train, epochs=epochs, validate_every=epochs, schedule="constant", ema=0.0)


def cutting_model(
    start: Student,
    split: Split,
    ids: SemanticIds,
    config: PruneConfig,
    budget: Budget,
    progress: Progress = SILENT,
    labels: SoftLabels | None = None,
    distill: DistillConfig | None = None,
) -> tuple[Pruning, Curves]:
    """Return the model that cutting trains, a rotated copy of the student with masks of 1, and the loss curves."""
    student, settings, shape = copy.deepcopy(start), config.train, start.config
    batches = window_batches(split.train, shape.max_history, settings)(0, 1)
    first = [batch for micro_batches in islice(batches.epoch(0), PLAN_BATCHES) for batch in micro_batches]
    if config.rotate:
        rotate_student(student, first, torch.from_numpy(ids.rows.astype(np.int64)))
    loss = student_loss(student, ids, settings, labels, losses_while_pruning(distill, shape.layers))
    scores = first_scores(loss, config, first)
    cuts = sum(len(unit_counts(shape, name, config.multiple)) for name in scores if name in config.dimensions)
    with progress.track("planning the shape", cuts) as advance:
        measure = partial(mean_loss, loss, first)
        curves = loss_curves(shape, scores, config.dimensions, config.multiple, measure, advance)
    goal = plan_shape(shape, curves, budget)
    logger.info("pruning %s to %s", shape, goal)
    return Pruning(loss, config, goal, _cutting_epochs(config) * len(batches)), curves


def _fit(
    model: Pruning | HardLabels | Distillation,
    split: Split,
    ids: SemanticIds,
    settings: TrainConfig,
    folder: Path,
    progress: Progress,
    label: str,
) -> LoopState:
    validation = Validation.of(split, len(ids.rows), settings)

    def validate(kept: nn.Module) -> dict[str, float]:
        assert isinstance(kept, (Pruning, HardLabels, Distillation))
        student = kept.masked_student().eval() if isinstance(kept, Pruning) else kept.student
        return validation.student_scores(student, ids)

    batches = window_batches(split.train, model.student.config.max_history, settings)
    on_gradients = model.on_gradients if isinstance(model, Pruning) else None
    return fit(model, batches, validate, settings, folder, progress, label, on_gradients)
