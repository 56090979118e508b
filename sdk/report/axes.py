"""Axes of charts: scales from values to coordinates, with ticks at round numbers. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

MAX_POINTS = 240  # of one line; more would not be visible


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis; anchor: the point of the label that is placed there, as SVG names it."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Axis:
    """A linear scale from [low, high] to [start, end] with round ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[Tick, ...]

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value, to a tenth of a unit."""
        span = self.high - self.low
        return round(self.start + (value - self.low) / span * (self.end - self.start), 1)


def nice_step(span: float, count: int) -> float:
    """Return 1, 2 or 5 times a power of ten, the smallest that cuts `span` into at most `count` steps."""
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    return next((m * power for m in (1.0, 2.0, 5.0) if m * power >= raw * (1 - 1e-9)), 10.0 * power)


def make_axis(
    low: float,
    high: float,
    start: float,
    end: float,
    *,
    count: int = 4,
    snap: bool = False,
    whole: bool = False,
) -> Axis:
    """Lay out an axis.

    :param count: at most this many steps between ticks.
    :param snap: widen the range to whole steps, so that the outermost ticks are its ends.
    :param whole: ticks at whole numbers only.
    """
    if high <= low:  # one value: give it room on both sides
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    step = max(nice_step(high - low, count), 1.0 if whole else 0.0)
    slack = 1e-9 * (high - low)  # what rounding may have taken off a whole step
    if snap:
        low, high = math.floor((low + slack) / step) * step, math.ceil((high - slack) / step) * step
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil((low - slack) / step), math.floor((high + slack) / step)
    scale = Axis(low, high, start, end, ())
    style = "g" if decimals > 4 else f",.{decimals}f"
    ticks = tuple(Tick(scale(i * step), f"{round(i * step, decimals):{style}}") for i in range(first, last + 1))
    return Axis(low, high, start, end, ticks)


def thin(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """Return at most `limit` points: means of equal runs of neighbours."""
    if len(points) <= limit:
        return list(points)
    edges = [len(points) * i // limit for i in range(limit + 1)]
    runs = [points[a:b] for a, b in pairwise(edges)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]
