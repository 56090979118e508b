"""Cutting: a student's loss with masks that are lowered step by step, and the scores by which units are cut.

The schedule and the scores are described in `distill.pruning.prune`.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pocketrec.distill.config import PruneConfig, StudentConfig
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.models.student import Student
from pocketrec.distill.pruning.masks import (
    Masks,
    mask_sites,
    masked_loss,
    masked_weights,
    open_masks,
    square_sums,
    taylor_sums,
    units_of,
)
from pocketrec.distill.pruning.removal import remove
from pocketrec.distill.pruning.shape_plan import close_masks
from pocketrec.distill.training.losses import Distillation, HardLabels

MEMORY = 0.5  # share of the scores that is kept at every cut


class Pruning(nn.Module):
    """A student's loss with masks on the student; `on_gradients` lowers the masks step by step.

    Masks, scores, step and goal are buffers, so that a checkpoint holds them.
    """

    step: Tensor
    goal: Tensor

    def __init__(self, loss: HardLabels | Distillation, config: PruneConfig, shape: StudentConfig, steps: int) -> None:
        """Wrap a loss.

        :param shape: the shape to prune the student to.
        :param steps: optimiser steps until that shape is reached.
        """
        super().__init__()
        self.loss, self.config, self.steps = loss, config, max(1, steps)
        self.sites = mask_sites(self.student)
        masks = open_masks(self.student)
        self.names = tuple(masks)
        for name, mask in masks.items():
            self.register_buffer(f"mask_{name}", mask)
            self.register_buffer(f"score_{name}", torch.zeros_like(mask))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("goal", torch.tensor([units_of(shape, name) for name in masks]))  # units to keep

    @property
    def student(self) -> Student:
        """The student without masks applied."""
        return self.loss.student

    @property
    def masks(self) -> Masks:
        """The masks by dimension."""
        return {name: self.get_buffer(f"mask_{name}") for name in self.names}

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the batch's positions."""
        return masked_loss(self.loss, self.masks, self.sites, batch)

    @torch.no_grad()
    def on_gradients(self) -> None:
        """Collect scores; every few steps, cut."""
        if self.config.criterion == "taylor":
            for name, total in taylor_sums(self.student, self.masks, self.sites).items():
                self.get_buffer(f"score_{name}").add_(total.square())
        self.step += 1
        if int(self.step) % self.config.every == 0:
            self.cut(int(self.step) / self.steps)

    @torch.no_grad()
    def cut(self, time: float) -> None:
        """Lower the masks to the schedule's number of units at `time` (0: start of cutting, 1: end)."""
        taylor = {name: self.get_buffer(f"score_{name}") for name in self.names}
        scores = unit_scores(self.student, self.config, self.masks, taylor)
        for name, goal in zip(self.names, self.goal.tolist(), strict=True):
            mask = self.get_buffer(f"mask_{name}")
            kept = goal + (mask.shape[1] - goal) * (1 - min(1.0, time)) ** 3
            mask.copy_(close_masks(mask, scores[name], kept))
            self.get_buffer(f"score_{name}").mul_(MEMORY)

    def finish(self) -> Student:
        """Cut to the final shape and return the smaller student."""
        self.cut(1.0)
        return remove(self.masked_student(), {name: mask > 0 for name, mask in self.masks.items()})

    @torch.no_grad()
    def masked_student(self) -> Student:
        """Return a copy of the student with the masks multiplied into its weights."""
        out = copy.deepcopy(self.student)
        weights = dict(out.named_parameters())
        for name, weight in masked_weights(weights, self.masks, self.sites).items():
            weights[name].copy_(weight)
        return out


def first_scores(loss: HardLabels | Distillation, config: PruneConfig, batches: list[Batch]) -> Masks:
    """Score a student's units on a few batches, without dropout and with a fixed random state."""
    masks, sites = open_masks(loss.student), mask_sites(loss.student)
    loss.eval()
    total = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for batch in batches:
            loss.zero_grad()
            (loss(batch) / batch.total).backward()
            for name, score in taylor_sums(loss.student, masks, sites).items():
                total[name] += score.square()
    loss.zero_grad()
    return unit_scores(loss.student, config, masks, total)


def unit_scores(student: Student, config: PruneConfig, masks: Masks, taylor: Masks) -> Masks:
    """Return the scores of all units; units with the lowest are cut first.

    Taylor scores or magnitudes, as configured. The columns of a rotated pair table are always scored by magnitude: they
    are principal axes, whose magnitude is their effect.
    """
    squares = square_sums(student, masks, mask_sites(student))
    if config.criterion == "magnitude":
        return squares
    return {n: squares[n] if config.rotate and n == "pair_dim" else score for n, score in taylor.items()}


@torch.no_grad()
def mean_loss(loss: HardLabels | Distillation, batches: list[Batch], masks: Masks) -> float:
    """Measure the loss with masks on a few batches, in nats per position, with a fixed random state."""
    sites, positions = mask_sites(loss.student), sum(len(batch.targets) for batch in batches)
    loss.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return sum(float(masked_loss(loss, masks, sites, batch)) for batch in batches) / positions
