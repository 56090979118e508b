"""Plans the shape that pruning ends in: how a budget is divided among a student's dimensions.

1. `loss_curves` cuts each dimension alone, step by step, and measures the loss without training. Units with the lowest
   scores go first. A step is one layer, one key-value group with its heads, `multiple` channels of width, feed-forward
   or decoder, or an eighth of that in columns of the pair table.
2. `plan_shape` takes the step that adds the least loss per parameter (or byte) saved, until the shape is within budget.
3. The last step may save more than necessary, so steps are taken back while the shape stays within budget, those with
   the largest gain per parameter first.

Ties go to the dimension that comes first in `masks.DIMENSIONS`, so the same student gives the same shape.

Sums of scores would give a plan without measuring, but scores are not comparable between dimensions: the loss per unit
of score differed by a factor of up to 23 (docs/decisions/0012-pruning.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.pruning.masks import DIMENSIONS, Masks, units_of
from pocketrec.distill.pruning.removal import with_units
from pocketrec.runtime.errors import ConfigError

PAIR_SHARE = 8  # the pair table is narrow, so its steps are smaller by this factor

Curves = Mapping[str, Mapping[int, float]]  # dimension → units kept → loss in nats per position


@dataclass(frozen=True)
class Budget:
    """The limit on a shape's cost, in `unit`s ("parameters" or "bytes"), and the function that counts the cost."""

    limit: int
    unit: str
    cost: Callable[[StudentConfig], int]


def close_masks(masks: Tensor, scores: Tensor, kept: float) -> Tensor:
    """Return masks [rows, units] that keep the `kept` units with the highest scores in every row.

    A unit whose mask is 0 already stays at 0.

    :param kept: number of units; the fractional part becomes the mask of the best unit that is not kept whole.
    """
    whole = int(kept)
    out = torch.zeros_like(masks)
    for row, (mask, score) in enumerate(zip(masks, scores, strict=True)):
        order = torch.where(mask > 0, score, -1.0).argsort(descending=True, stable=True)
        out[row, order[:whole]] = 1.0
        out[row, order[whole : whole + 1]] = kept - whole
    return out


def unit_counts(shape: StudentConfig, dimension: str, multiple: int) -> list[int]:
    """Return the numbers of units that a dimension may keep, in descending order; the first keeps all."""
    whole = units_of(shape, dimension)
    step = {"layers": 1, "heads": 1, "pair_dim": max(1, multiple // PAIR_SHARE)}.get(dimension, multiple)
    return [whole, *range((whole - 1) // step * step, 0, -step)]


def loss_curves(
    shape: StudentConfig,
    scores: Masks,
    dimensions: Sequence[str],
    multiple: int,
    loss: Callable[[Masks], float],
    advance: Callable[[], None] = lambda: None,
) -> Curves:
    """Measure the loss with each dimension cut alone.

    :param scores: of every unit, float [rows, units] by dimension; the lowest are cut first.
    :param loss: loss of the student with these masks, in nats per position.
    :param advance: called after each measurement.
    """
    whole = {name: torch.ones_like(score) for name, score in scores.items()}
    curves: dict[str, dict[int, float]] = {}
    for name in (n for n in DIMENSIONS if n in dimensions and n in scores):
        curves[name] = {}
        for units in unit_counts(shape, name, multiple):
            curves[name][units] = loss({**whole, name: close_masks(whole[name], scores[name], units)})
            advance()
    return curves


def plan_shape(shape: StudentConfig, curves: Curves, budget: Budget) -> StudentConfig:
    """Return the shape to prune to.

    :param curves: of the dimensions that may be cut, from `loss_curves`.
    :raises ConfigError: if even the smallest shape is over budget.
    """
    now = shape
    while (cost := budget.cost(now)) > budget.limit:
        options = [s for name, curve in curves.items() if (s := _next(now, name, sorted(curve, reverse=True)))]
        saving = [(s, cost - budget.cost(s)) for s in options]
        ratios = [((_loss(s, curves) - _loss(now, curves)) / saved, s) for s, saved in saving if saved > 0]
        if not ratios:
            raise ConfigError(
                f"prune: cutting {', '.join(curves) or 'no dimension'} leaves a smallest student of {cost:,} "
                f"{budget.unit}, over the target of {budget.limit:,}; allow more dimensions (prune.dimensions), "
                f"a lower prune.multiple, or more {budget.unit}"
            )
        now = min(ratios, key=lambda ratio: ratio[0])[1]
    while True:
        cost = budget.cost(now)
        options = [s for name, curve in curves.items() if (s := _next(now, name, sorted(curve)))]
        fitting = [(s, total - cost) for s in options if (total := budget.cost(s)) <= budget.limit]
        if not fitting:
            return now
        now = max(fitting, key=lambda f: (_loss(now, curves) - _loss(f[0], curves)) / max(1, f[1]))[0]


def _loss(shape: StudentConfig, curves: Curves) -> float:
    """Estimate a shape's loss, up to a constant: the sum of the losses with each dimension cut alone."""
    return sum(curve[units_of(shape, name)] for name, curve in curves.items())


def _next(now: StudentConfig, name: str, order: list[int]) -> StudentConfig | None:
    """Return the shape with the next number of units of `order` in a dimension; None at the end of the order.

    Skips shapes that transformers' Llama refuses: `dim` must be a multiple of `heads`, whatever the width of a head.
    """
    for units in order[order.index(units_of(now, name)) + 1 :]:
        shape = with_units(now, name, units)
        if shape.dim % shape.heads == 0:
            return shape
    return None
