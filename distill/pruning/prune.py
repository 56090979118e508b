"""Structured, gradual pruning of a trained student, with soft labels on, and real removal at the end.

On the path of the data: between the trained student and preferences or export. What goes and when:

1. The student is turned onto its principal axes (`distill.rotation`), its units get their first scores, and the final
   shape is planned (`distill.shape_plan`), all on a few training batches.
2. Cutting: it trains on while gates (`distill.gates`) collect Taylor scores, I = Σ_batches (g · ∂L/∂g)² (Molchanov et
   al. 2019, eq. 8). Every few steps each dimension keeps as many units as the cubic schedule says (Zhu & Gupta 2017,
   eq. 1), the best by scores, of which each cut forgets half:

       kept(t) = kept(T) + (all - kept(T)) · (1 - t / T)³

   Where that is no whole number, the last unit's gate holds the fraction, so that heads and layers fade.
3. Removal (`distill.removal`): the gates' student becomes a smaller one that answers the same.
4. Recovery: that one trains on, as any student does.

Promises: a run that was killed and started again cuts what it would have cut; the result is an ordinary student.
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
from torch import Tensor, nn

from pocketrec.distill.committee.soft_labels import SoftLabels
from pocketrec.distill.config import DistillConfig, PruneConfig, StudentConfig, TrainConfig
from pocketrec.distill.data.batches import Batch, window_batches
from pocketrec.distill.data.splits import Split
from pocketrec.distill.evaluation.protocol import student_scores
from pocketrec.distill.models.student import Student
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.pruning.masks import (
    Gates,
    gated,
    gated_loss,
    open_gates,
    places,
    square_sums,
    taylor_sums,
    units_of,
)
from pocketrec.distill.pruning.removal import remove
from pocketrec.distill.pruning.rotation import rotate
from pocketrec.distill.pruning.shape_plan import Budget, Curves, close, loss_curves, plan_shape, steps
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.distill.training.losses import Distillation, HardLabels
from pocketrec.distill.training.student_training import save_student, student_loss
from pocketrec.distill.training.trainer import LoopState, fit
from pocketrec.runtime.errors import ConfigError

logger = logging.getLogger(__name__)

CUTTING = "cutting"
PLAN_BATCHES = 8  # that principal axes, first scores and the plan go by
MEMORY = 0.5  # of the scores, what is left at every cut


@dataclass(frozen=True)
class Pruned:
    """What pruning did.

    before, after: shapes. curves: what the plan went by, the loss with each dimension cut alone. cutting, recovery: how
    both parts of the training went. valid_before, valid_after: on the same questions.
    """

    before: StudentConfig
    after: StudentConfig
    curves: Curves
    cutting: LoopState
    recovery: LoopState | None
    valid_before: dict[str, float]
    valid_after: dict[str, float]


class Pruning(nn.Module):
    """A student's loss with gates on the student; `on_gradients` closes them step by step.

    Gates, scores, the step and the goal are buffers, so a checkpoint holds them.
    """

    step: Tensor
    goal: Tensor

    def __init__(self, loss: HardLabels | Distillation, config: PruneConfig, shape: StudentConfig, steps: int) -> None:
        """Wrap a loss.

        :param shape: to prune the student to.
        :param steps: optimiser steps until everything is cut.
        """
        super().__init__()
        self.loss, self.config, self.steps = loss, config, max(1, steps)
        self.where = places(self.student)
        gates = open_gates(self.student)
        self.names = tuple(gates)
        for name, gate in gates.items():
            self.register_buffer(f"gate_{name}", gate)
            self.register_buffer(f"score_{name}", torch.zeros_like(gate))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("goal", torch.tensor([units_of(shape, name) for name in gates]))  # units to keep

    @property
    def student(self) -> Student:
        """The student, gates not applied."""
        return self.loss.student

    @property
    def gates(self) -> Gates:
        """The gates by dimension."""
        return {name: self.get_buffer(f"gate_{name}") for name in self.names}

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the batch's positions."""
        return gated_loss(self.loss, self.gates, self.where, batch)

    @torch.no_grad()
    def on_gradients(self) -> None:
        """Collect scores; every few steps, cut."""
        if self.config.criterion == "taylor":
            for name, total in taylor_sums(self.student, self.gates, self.where).items():
                self.get_buffer(f"score_{name}").add_(total.square())
        self.step += 1
        if int(self.step) % self.config.every == 0:
            self.cut(int(self.step) / self.steps)

    @torch.no_grad()
    def cut(self, time: float) -> None:
        """Close gates to where they should be at a time, 1: the end."""
        taylor = {name: self.get_buffer(f"score_{name}") for name in self.names}
        scores = ranking(self.student, self.config, self.gates, taylor)
        for name, goal in zip(self.names, self.goal.tolist(), strict=True):
            gate = self.get_buffer(f"gate_{name}")
            kept = goal + (gate.shape[1] - goal) * (1 - min(1.0, time)) ** 3
            gate.copy_(close(gate, scores[name], kept))
            self.get_buffer(f"score_{name}").mul_(MEMORY)

    def finish(self) -> Student:
        """Close what is left to close and return the smaller student."""
        self.cut(1.0)
        return remove(self.gated_student(), {name: gate > 0 for name, gate in self.gates.items()})

    @torch.no_grad()
    def gated_student(self) -> Student:
        """Return a copy of the student with the gates multiplied into its weights."""
        out = copy.deepcopy(self.student)
        weights = dict(out.named_parameters())
        for name, weight in gated(weights, self.gates, self.where).items():
            weights[name].copy_(weight)
        return out


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
    """Prune a student; goes on from a checkpoint in `folder`, where the result is `best.safetensors`.

    :param start: left as it is.
    :param labels: soft labels of the training histories; None: hard labels alone.
    :param distill: weights of the losses, with `labels`.
    :raises ConfigError: if the student is within the budget, or cannot get there.
    """
    settings = config.train
    if budget.cost(start.config) <= budget.limit:
        raise ConfigError(
            f"prune: the student has {budget.cost(start.config):,} {budget.unit}, within the {budget.limit:,} asked for"
        )
    model, curves = cutting_model(start, split, ids, config, budget, progress, labels, distill)
    cutting = _fit(model, split, ids, _while_cutting(config), folder / CUTTING, progress, "cutting the student")
    student = model.finish()
    epochs, recovery = settings.epochs - _cutting_epochs(config), None
    if epochs:
        loss = student_loss(student, ids, settings, labels, fitting(distill, student.config.layers))
        again = replace(settings, epochs=epochs)
        recovery = _fit(loss, split, ids, again, folder, progress, "recovering the student")
    if PartialState(cpu=settings.cpu).is_main_process:
        save_student(student, folder)
    after = student_scores(student.eval(), split, ids, settings)
    before = student_scores(start, split, ids, settings)
    return student, Pruned(start.config, student.config, curves, cutting, recovery, before, after)


def fitting(distill: DistillConfig | None, layers: int) -> DistillConfig:
    """Return the losses that a student of so many layers can have while it is pruned.

    Without features: their projections were the distillation's, and did not outlive it.
    """
    distill = distill or DistillConfig()
    early = distill.intermediate if layers >= distill.blocks else 0.0
    return replace(distill, cosine=0.0, norm=0.0, intermediate=early)


def _cutting_epochs(config: PruneConfig) -> int:
    return max(1, round(config.share * config.train.epochs))


def _while_cutting(config: PruneConfig) -> TrainConfig:
    """The last weights are wanted, not the best: those of the first epoch, hardly cut, would always win."""
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
    """Make ready what cutting trains: a turned copy of the student behind open gates, and the shape to reach."""
    student, settings, shape = copy.deepcopy(start), config.train, start.config
    batches = window_batches(split.train, shape.max_history, settings)(0, 1)
    first = [batch for micro_batches in islice(batches.epoch(0), PLAN_BATCHES) for batch in micro_batches]
    if config.rotate:
        rotate(student, first, torch.from_numpy(ids.rows.astype(np.int64)))
    loss = student_loss(student, ids, settings, labels, fitting(distill, shape.layers))
    scores = first_scores(loss, config, first)
    cuts = sum(len(steps(shape, name, config.multiple)) for name in scores if name in config.dimensions)
    with progress.track("planning the shape", cuts) as advance:
        measure = partial(mean_loss, loss, first)
        curves = loss_curves(shape, scores, config.dimensions, config.multiple, measure, advance)
    goal = plan_shape(shape, curves, budget)
    logger.info("pruning %s to %s", shape, goal)
    return Pruning(loss, config, goal, _cutting_epochs(config) * len(batches)), curves


def first_scores(loss: HardLabels | Distillation, config: PruneConfig, batches: list[Batch]) -> Gates:
    """Score a student's units on a few batches, without dropout; what is drawn at random is drawn alike."""
    gates, where = open_gates(loss.student), places(loss.student)
    loss.eval()
    total = {name: torch.zeros_like(gate) for name, gate in gates.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for batch in batches:
            loss.zero_grad()
            (loss(batch) / batch.total).backward()
            for name, score in taylor_sums(loss.student, gates, where).items():
                total[name] += score.square()
    loss.zero_grad()
    return ranking(loss.student, config, gates, total)


def ranking(student: Student, config: PruneConfig, gates: Gates, taylor: Gates) -> Gates:
    """Return the scores that units go by, the lowest first.

    Taylor scores, or magnitudes if these are asked for, and for the columns of a turned pair table in any case: their
    axes were chosen so that strength says what a column is worth.
    """
    squares = square_sums(student, gates, places(student))
    if config.criterion == "magnitude":
        return squares
    return {n: squares[n] if config.rotate and n == "pair_dim" else score for n, score in taylor.items()}


@torch.no_grad()
def mean_loss(loss: HardLabels | Distillation, batches: list[Batch], gates: Gates) -> float:
    """Measure a gated student's loss on a few batches, nats a position; what is drawn at random is drawn alike."""
    where, positions = places(loss.student), sum(len(batch.targets) for batch in batches)
    loss.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return sum(float(gated_loss(loss, gates, where, batch)) for batch in batches) / positions


def _fit(
    model: Pruning | HardLabels | Distillation,
    split: Split,
    ids: SemanticIds,
    settings: TrainConfig,
    folder: Path,
    progress: Progress,
    label: str,
) -> LoopState:
    def validate(kept: nn.Module) -> dict[str, float]:
        assert isinstance(kept, (Pruning, HardLabels, Distillation))
        student = kept.gated_student().eval() if isinstance(kept, Pruning) else kept.student
        return student_scores(student, split, ids, settings)

    batches = window_batches(split.train, model.student.config.max_history, settings)
    on_gradients = model.on_gradients if isinstance(model, Pruning) else None
    return fit(model, batches, validate, settings, folder, progress, label, on_gradients)
