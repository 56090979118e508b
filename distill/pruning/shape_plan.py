"""Deals a budget out over a student's dimensions: which shape pruning is to end in.

First each dimension alone is cut, in useful steps, to see what that does to the loss (`loss_curves`): units go by
their scores, nothing is trained. Then, as long as the shape is over budget, the step is taken that adds the least loss
for each parameter (or byte) it saves (`plan_shape`). A step is one layer, one key-value group with its heads,
`multiple` channels of width, feed-forward or decoder, or an eighth of that in columns of the pair table. Last, since
the final step may have saved more than was asked for, steps are taken back, those that mend the most for what they
cost first, while they fit. Ties go to the dimension that stands first in `gates.DIMENSIONS`, so the same student gives
the same shape.

Sums of scores would say what to cut without trying, but do not compare between dimensions: what a unit of score cost in
loss differed up to 23 times between a student's dimensions (docs/decisions/0012-pruning.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.pruning.masks import DIMENSIONS, Gates, units_of
from pocketrec.distill.pruning.removal import with_units
from pocketrec.runtime.errors import ConfigError

PAIR_SHARE = 8  # the pair table is narrow, and its steps are this many times smaller

Curves = Mapping[str, Mapping[int, float]]  # dimension → units kept → loss, nats a position


@dataclass(frozen=True)
class Budget:
    """What a shape may cost at most: `limit` in `unit`s ("parameters" or "bytes"), as `cost` counts them."""

    limit: int
    unit: str
    cost: Callable[[StudentConfig], int]


def close(gates: Tensor, scores: Tensor, kept: float) -> Tensor:
    """Return gates [rows, units] of which every row keeps so many, the best; a closed one stays closed.

    :param kept: a fraction beyond a whole number is the gate of the best unit that is not kept whole.
    """
    whole = int(kept)
    out = torch.zeros_like(gates)
    for row, (gate, score) in enumerate(zip(gates, scores, strict=True)):
        order = torch.where(gate > 0, score, -1.0).argsort(descending=True, stable=True)
        out[row, order[:whole]] = 1.0
        out[row, order[whole : whole + 1]] = kept - whole
    return out


def steps(shape: StudentConfig, dimension: str, multiple: int) -> list[int]:
    """Numbers of units that a dimension may keep, falling, the whole first."""
    whole = units_of(shape, dimension)
    step = {"layers": 1, "heads": 1, "pair_dim": max(1, multiple // PAIR_SHARE)}.get(dimension, multiple)
    return [whole, *range((whole - 1) // step * step, 0, -step)]


def loss_curves(
    shape: StudentConfig,
    scores: Gates,
    dimensions: Sequence[str],
    multiple: int,
    loss: Callable[[Gates], float],
    advance: Callable[[], None] = lambda: None,
) -> Curves:
    """Measure the loss with each dimension cut alone.

    :param scores: of every unit, float [rows, units] by dimension; the lowest go first.
    :param loss: of the student behind gates, nats a position.
    :param advance: called after each measurement.
    """
    whole = {name: torch.ones_like(score) for name, score in scores.items()}
    curves: dict[str, dict[int, float]] = {}
    for name in (n for n in DIMENSIONS if n in dimensions and n in scores):
        curves[name] = {}
        for units in steps(shape, name, multiple):
            curves[name][units] = loss({**whole, name: close(whole[name], scores[name], units)})
            advance()
    return curves


def plan_shape(shape: StudentConfig, curves: Curves, budget: Budget) -> StudentConfig:
    """Return the shape to prune to.

    :param curves: of the dimensions that may be cut, as `loss_curves` measures them.
    :raises ConfigError: if even the smallest shape is over budget.
    """
    now = shape
    while (cost := budget.cost(now)) > budget.limit:
        options = [s for name, curve in curves.items() if (s := _next(now, name, sorted(curve, reverse=True)))]
        saving = [(s, cost - budget.cost(s)) for s in options]
        ratios = [((_loss(s, curves) - _loss(now, curves)) / saved, s) for s, saved in saving if saved > 0]
        if not ratios:
            raise ConfigError(
                f"prune: the smallest student that {', '.join(curves) or 'no dimension'} can give has {cost:,} "
                f"{budget.unit}, over the {budget.limit:,} asked for; allow more dimensions (prune.dimensions), "
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
    """Estimate a shape's loss as if what the cuts add simply summed up (less a constant)."""
    return sum(curve[units_of(shape, name)] for name, curve in curves.items())


def _next(now: StudentConfig, name: str, order: list[int]) -> StudentConfig | None:
    """The shape with the next number of units in an order; None at its end.

    Skips what transformers' Llama refuses: its width must be a multiple of its heads, whatever their width.
    """
    for units in order[order.index(units_of(now, name)) + 1 :]:
        shape = with_units(now, name, units)
        if shape.dim % shape.heads == 0:
            return shape
    return None
