"""Structured, gradual pruning of a trained student, with soft labels on, and real removal at the end.

On the path of the data: between the trained student and preferences or export. What goes and when:

1. The student is turned onto its principal axes (`distill.rotation`).
2. Cutting: it trains on while gates (`distill.gates`) collect Taylor scores, I = Σ_batches (g · ∂L/∂g)² (Molchanov et
   al. 2019, eq. 8; squares also because they compare better between dimensions: docs/decisions/0009-pruning.md). After
   the first scores the final shape is planned (`distill.shape_plan`). From then on, every few steps, each dimension
   keeps as many units as the cubic schedule says (Zhu & Gupta 2017, eq. 1), the best by scores since the last cut:

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
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from msgspec.structs import replace
from torch import Tensor, nn
from torch.func import functional_call

from pocketrec.distill.batches import Batch
from pocketrec.distill.config import DistillConfig, PruneConfig, StudentConfig, TrainConfig
from pocketrec.distill.gates import Gates, gated, open_gates, places, square_sums, taylor_sums, units_of
from pocketrec.distill.losses import Distillation, HardLabels
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.recipes import save_student, student_loss, student_scores, window_batches
from pocketrec.distill.removal import remove
from pocketrec.distill.rotation import rotate
from pocketrec.distill.semantic_ids import SemanticIds
from pocketrec.distill.shape_plan import Budget, best_units, plan_shape
from pocketrec.distill.soft_labels import SoftLabels
from pocketrec.distill.splits import Split
from pocketrec.distill.student import Student
from pocketrec.distill.trainer import LoopState, fit
from pocketrec.runtime.errors import ConfigError

logger = logging.getLogger(__name__)

CUTTING = "cutting"
AXES_BATCHES = 8  # that principal axes are measured on


@dataclass(frozen=True)
class Pruned:
    """What pruning did.

    before, after: shapes. scores: of the units when the shape was planned, summed up by dimension. cutting, recovery:
    losses and validations of both parts. valid_before, valid_after: on the same questions.
    """

    before: StudentConfig
    after: StudentConfig
    scores: dict[str, dict[str, float]]
    cutting: LoopState
    recovery: LoopState | None
    valid_before: dict[str, float]
    valid_after: dict[str, float]


class Pruning(nn.Module):
    """A student's loss with gates on the student; `on_gradients` closes them step by step.

    Gates, scores, the step and the planned shape are buffers, so a checkpoint holds them.
    """

    step: Tensor
    goal: Tensor

    def __init__(self, loss: HardLabels | Distillation, config: PruneConfig, budget: Budget, steps: int) -> None:
        """Wrap a loss.

        :param steps: optimiser steps until everything is cut.
        """
        super().__init__()
        self.loss, self.config, self.budget, self.steps = loss, config, budget, max(1, steps)
        self.where = places(self.student)
        gates = open_gates(self.student)
        self.names = tuple(gates)
        for name, gate in gates.items():
            for kind in ("gate", "score", "planned"):
                self.register_buffer(f"{kind}_{name}", gate.clone() if kind == "gate" else torch.zeros_like(gate))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("goal", torch.zeros(len(gates), dtype=torch.int64))  # units to keep; 0: not planned yet

    @property
    def student(self) -> Student:
        """The student, gates not applied."""
        return self.loss.student

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the batch's positions."""
        weights = gated(dict(self.student.named_parameters()), self.all("gate"), self.where)
        named = {f"student.{name}": weight for name, weight in weights.items()}
        return functional_call(self.loss, named, (batch,))  # type: ignore[no-any-return]

    def all(self, kind: str) -> Gates:
        """Return the buffers of a kind (gate, score, planned) by dimension."""
        return {name: self.get_buffer(f"{kind}_{name}") for name in self.names}

    @torch.no_grad()
    def on_gradients(self) -> None:
        """Collect scores; every few steps, cut."""
        if self.config.criterion == "taylor":
            for name, total in taylor_sums(self.student, self.all("gate"), self.where).items():
                self.get_buffer(f"score_{name}").add_(total.square())
        self.step += 1
        if int(self.step) % self.config.every == 0:
            self.cut(int(self.step) / self.steps)

    @torch.no_grad()
    def cut(self, time: float) -> None:
        """Close gates to where they should be at a time, 1: the end; plan the shape if that is still to do."""
        scores = self.all("score")
        if self.config.criterion == "magnitude":
            scores = square_sums(self.student, self.all("gate"), self.where)
        if not self.goal.any():
            self._plan(scores)
        for name, goal in zip(self.names, self.goal.tolist(), strict=True):
            gate = self.get_buffer(f"gate_{name}")
            kept = goal + (gate.shape[1] - goal) * (1 - min(1.0, time)) ** 3
            gate.copy_(close(gate, scores[name], kept))
            self.get_buffer(f"score_{name}").zero_()

    def finish(self) -> Student:
        """Close what is left to close and return the smaller student."""
        self.cut(1.0)
        return remove(self.gated_student(), {name: gate > 0 for name, gate in self.all("gate").items()})

    @torch.no_grad()
    def gated_student(self) -> Student:
        """Return a copy of the student with the gates multiplied into its weights."""
        out = copy.deepcopy(self.student)
        weights = dict(out.named_parameters())
        for name, weight in gated(weights, self.all("gate"), self.where).items():
            weights[name].copy_(weight)
        return out

    def summary(self) -> dict[str, dict[str, float]]:
        """Scores of the units when the shape was planned, by dimension: least, median, greatest, sum."""
        return {
            name: {
                "least": float(s.min()),
                "median": float(s.median()),
                "greatest": float(s.max()),
                "sum": float(s.sum()),
            }
            for name, s in self.all("planned").items()
        }

    def _plan(self, scores: Gates) -> None:
        config = self.config
        shape = plan_shape(self.student.config, scores, config.dimensions, config.multiple, self.budget)
        self.goal.copy_(torch.tensor([units_of(shape, name) for name in self.names]))
        for name, score in scores.items():
            self.get_buffer(f"planned_{name}").copy_(score)
        logger.info("pruning %s to %s", self.student.config, shape)


def close(gates: Tensor, scores: Tensor, kept: float) -> Tensor:
    """Return gates [rows, units] of which every row keeps so many, the best; a closed one stays closed.

    :param kept: at least the number that is kept already; a fraction is the gate of the best that is not kept whole.
    """
    whole = int(kept)
    out = torch.zeros_like(gates)
    for row, (gate, score) in enumerate(zip(gates, scores, strict=True)):
        order = best_units(torch.where(gate > 0, score, -1.0), whole + 1)
        out[row, order[:whole]] = 1.0
        out[row, order[whole:]] = kept - whole
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
    model = _cutting(start, split, ids, config, budget, labels, distill)
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
    return student, Pruned(start.config, student.config, model.summary(), cutting, recovery, before, after)


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


def _cutting(
    start: Student,
    split: Split,
    ids: SemanticIds,
    config: PruneConfig,
    budget: Budget,
    labels: SoftLabels | None,
    distill: DistillConfig | None,
) -> Pruning:
    """Make ready what cutting trains: a turned copy of the student behind open gates."""
    student, settings = copy.deepcopy(start), config.train
    batches = window_batches(split.train, start.config.max_history, settings)(0, 1)
    if config.rotate:
        first = [batch for micro_batches in islice(batches.epoch(0), AXES_BATCHES) for batch in micro_batches]
        rotate(student, first, torch.from_numpy(ids.rows.astype(np.int64)))
    loss = student_loss(student, ids, settings, labels, fitting(distill, start.config.layers))
    return Pruning(loss, config, budget, _cutting_epochs(config) * len(batches))


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
