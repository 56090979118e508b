"""Deals a budget out over a student's dimensions: from scores of its units to the shape that pruning is to end in.

The rule: as long as the shape is over budget, take the step that loses the least score for each parameter (or byte) it
saves, where a step is one layer, one key-value group with its heads, `multiple` channels of width, feed-forward or
decoder, or an eighth of that in columns of the pair table, the lowest-scored first. Then, since the last step may have
saved more than was asked for, take steps back, those of the highest score for what they cost first, while they fit.
Ties go to the dimension that stands first in `gates.DIMENSIONS`, so equal scores give equal shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.gates import DIMENSIONS, Gates, units_of
from pocketrec.distill.removal import with_units
from pocketrec.runtime.errors import ConfigError

PAIR_SHARE = 8  # the pair table is narrow, and its steps are this many times smaller


@dataclass(frozen=True)
class Budget:
    """What a shape may cost at most: `limit` in `unit`s ("parameters" or "bytes"), as `cost` counts them."""

    limit: int
    unit: str
    cost: Callable[[StudentConfig], int]


def plan_shape(
    shape: StudentConfig, scores: Gates, dimensions: Sequence[str], multiple: int, budget: Budget
) -> StudentConfig:
    """Return the shape to prune to.

    :param scores: of every unit, float [rows, units] by dimension; comparable between dimensions.
    :param dimensions: those that may be cut.
    :param multiple: widths stay multiples of this, or as they are.
    :raises ConfigError: if even the smallest shape is over budget.
    """
    plan = _Plan(
        shape, scores, [name for name in DIMENSIONS if name in dimensions and name in scores], multiple, budget
    )
    now = shape
    while budget.cost(now) > budget.limit:
        now = plan.step_down(now)
    while (back := plan.step_back(now)) is not None:
        now = back
    return now


class _Plan:
    def __init__(
        self, start: StudentConfig, scores: Gates, dimensions: list[str], multiple: int, budget: Budget
    ) -> None:
        self.start, self.dimensions, self.multiple, self.budget = start, dimensions, multiple, budget
        self.scores = {name: score.double().cpu() for name, score in scores.items()}

    def step_down(self, now: StudentConfig) -> StudentConfig:
        """Take the step that loses the least for what it saves."""
        cost, choices = self.budget.cost(now), []
        for name in self.dimensions:
            smaller = self._smaller(now, name)
            if smaller is not None and (saved := cost - self.budget.cost(smaller)) > 0:
                choices.append(((self.left(now) - self.left(smaller)) / saved, len(choices), smaller))
        if not choices:
            raise ConfigError(
                f"prune: the smallest student that the dimensions {', '.join(self.dimensions)} and the multiple "
                f"{self.multiple} give has {cost:,} {self.budget.unit}, over the {self.budget.limit:,} asked for; "
                "allow more dimensions (prune.dimensions), a lower prune.multiple, or more "
                f"{self.budget.unit}"
            )
        return min(choices)[2]

    def step_back(self, now: StudentConfig) -> StudentConfig | None:
        """Take back the step that gains the most for what it costs, of those that fit; None where none does."""
        cost, choices = self.budget.cost(now), []
        for name in self.dimensions:
            larger = self._larger(now, name)
            if larger is not None and (total := self.budget.cost(larger)) <= self.budget.limit:
                gain = (self.left(larger) - self.left(now)) / max(1, total - cost)
                choices.append((-gain, len(choices), larger))
        return min(choices)[2] if choices else None

    def left(self, shape: StudentConfig) -> float:
        """Score of the best units that a shape has room for."""
        total, layers = 0.0, range(shape.blocks)
        if "layers" in self.scores:
            layers = best_units(self.scores["layers"][0], shape.layers).tolist()
        for name, rows in self.scores.items():
            alive = rows[layers] if name in ("heads", "ffn") else rows
            total += sum(float(row[best_units(row, units_of(shape, name))].sum()) for row in alive)
        return total

    def _smaller(self, now: StudentConfig, name: str) -> StudentConfig | None:
        step = self._step(name)
        units = (units_of(now, name) - 1) // step * step
        while units > 0:
            shape = with_units(now, name, units)
            if _is_valid(shape):
                return shape
            units -= step
        return None

    def _larger(self, now: StudentConfig, name: str) -> StudentConfig | None:
        step, most = self._step(name), units_of(self.start, name)
        units = units_of(now, name)
        while units < most:
            units = min(most, units // step * step + step)
            shape = with_units(now, name, units)
            if _is_valid(shape):
                return shape
        return None

    def _step(self, name: str) -> int:
        return {"layers": 1, "heads": 1, "pair_dim": max(1, self.multiple // PAIR_SHARE)}.get(name, self.multiple)


def best_units(scores: Tensor, count: int) -> Tensor:
    """Places of the best scores, falling; of equals, the first."""
    return torch.argsort(scores, descending=True, stable=True)[:count]


def _is_valid(shape: StudentConfig) -> bool:
    """Whether transformers' Llama takes the shape: its width must be a multiple of its heads, whatever their width."""
    return shape.dim % shape.heads == 0
