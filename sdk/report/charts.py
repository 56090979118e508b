"""Geometry of the report's charts: numbers in, SVG coordinates out.

`pocketrec.report.figures` decides what is drawn, the template draws it. Pure, and free of markup and of
colours, so that the style sheet can give a chart other colours in dark mode, on paper and on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 10.0, 34.0  # margins, in the chart's own units
MAX_POINTS = 240  # of one line; more would not be seen
NAME_WIDTH = 130.0  # of a point's name, about
MAX_DOTS = 100  # a longer line has no labels to point at


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis; `anchor` is the part of the label that stands there, as SVG names it."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Dot:
    """A point of a line; `label` shows when it is pointed at. Only a marked one is seen otherwise.

    name: text that stands beside it, on the side that `anchor` leaves free, `drop` below the point; "": none.
    """

    x: float
    y: float
    label: str
    marked: bool
    name: str = ""
    anchor: str = "start"
    drop: float = 0.0


@dataclass(frozen=True)
class Line:
    """A path and its dots. `hue` numbers its colour; None is what the data is compared with."""

    hue: int | None
    path: str
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True)
class Bar:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Chart:
    """One SVG. `description` says in words what the picture shows, for those who cannot see it."""

    description: str
    width: float
    height: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_label: str = ""
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    area: str = ""
    hue: int = 0  # of bars and area

    @property
    def left(self) -> float:
        """Left edge of the plotting area."""
        return LEFT

    @property
    def right(self) -> float:
        """Right edge of the plotting area."""
        return self.width - RIGHT

    @property
    def bottom(self) -> float:
        """Lower edge of the plotting area."""
        return self.height - BOTTOM


@dataclass(frozen=True)
class Series:
    """Points of one line, x ascending; `marked` is the one to stand out."""

    label: str
    hue: int
    points: Sequence[Point]
    marked: Point | None = None


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


def line_chart(
    series: Sequence[Series],
    description: str,
    *,
    x_label: str = "epoch",
    width: float = 440.0,
    height: float = 240.0,
    from_zero: bool = False,
    steps: int = 4,
) -> Chart:
    """Draw lines over common axes; the horizontal one starts at 0 and ends at a whole number.

    :param series: each with at least one point.
    :param from_zero: whether the vertical axis starts at 0 even if no value is near it.
    :param steps: at most this many steps on the vertical axis.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x = make_axis(0, max(1, math.ceil(max(xs))), LEFT, width - RIGHT, count=6, whole=True)
    y = make_axis(min(ys + [0.0] * from_zero), max(ys), height - BOTTOM, TOP, count=steps, snap=True)
    lines = tuple(
        Line(one.hue, _path([(x(a), y(b)) for a, b in one.points]), tuple(_dots(one, x, y))) for one in series
    )
    return Chart(description, width, height, x.ticks, y.ticks, x_label, lines)


def dot_chart(points: Sequence[tuple[str, Point]], description: str, *, x_label: str, hue: int = 0) -> Chart:
    """Draw named points. The horizontal axis starts at 0; the vertical one shows their range and some room.

    :param points: (name, (x, y)), at least one; the first is drawn as what the others are compared with.
    """
    width, height = 640.0, 300.0
    ys = [b for _, (_, b) in points]
    room = max(0.02 * max(ys), 0.25 * (max(ys) - min(ys)))
    x = make_axis(0, max(a for _, (a, _) in points), LEFT, width - RIGHT, count=6, snap=True)
    y = make_axis(max(0.0, min(ys) - room), max(ys) + room, height - BOTTOM, TOP, count=5, snap=True)
    dots: list[Dot] = []
    for name, (a, b) in points:
        anchor = "start" if x(a) < width * 0.7 else "end"
        dots.append(Dot(x(a), y(b), f"{name}: {a:.3g}, {b:.4g}", True, name, anchor, _free(dots, x(a), y(b))))
    flat = Line(None, _path([(x.start, dots[0].y), (x.end, dots[0].y)]))
    return Chart(description, width, height, x.ticks, y.ticks, x_label, (flat, Line(hue, "", tuple(dots))))


def rank_chart(counts: Sequence[int], top: float, even: float, description: str, *, hue: int = 0) -> Chart:
    """Draw how often each code is used, most used first, above a line where all would be used alike.

    :param counts: items per code, descending; at least one code.
    :param top: highest value of the vertical axis, so that levels compare.
    :param even: items per code if all were used alike.
    """
    width, height = 300.0, 190.0
    x = make_axis(0, len(counts), LEFT, width - RIGHT, count=4, whole=True)
    y = make_axis(0, max(top, 1), height - BOTTOM, TOP, count=5, snap=True, whole=True)
    heights = [n for _, n in thin([(0.0, float(n)) for n in counts])]
    wide = len(counts) / len(heights)
    steps = [(x((i + side) * wide), y(n)) for i, n in enumerate(heights) for side in (0, 1)]
    area = _path([(x(0), y(0)), *steps, (x(len(counts)), y(0))]) + "Z"
    flat = Line(None, _path([(x(0), y(even)), (x(len(counts)), y(even))]))
    return Chart(description, width, height, x.ticks, y.ticks, "codes, most used first", (flat,), area=area, hue=hue)


def share_chart(
    shares: Sequence[float],
    reference: Sequence[float],
    labels: Sequence[str],
    top: float,
    description: str,
    *,
    x_label: str,
    hue: int = 0,
) -> Chart:
    """Draw a bar per bin and, as a stepped line, the share to compare it with.

    :param shares: share per bin, 0-1.
    :param reference: as long as `shares`.
    :param labels: of the bins; long ones stand below the first and the last bar only.
    :param top: highest share of any chart drawn beside this one.
    """
    width, height = 300.0, 180.0
    y = make_axis(0, max(top, 0.01) * 100, height - BOTTOM, TOP, count=5, snap=True)
    slot = (width - RIGHT - LEFT) / len(shares)
    edges = [round(LEFT + slot * i, 1) for i in range(len(shares) + 1)]
    bars = tuple(
        Bar(
            round(left + slot * 0.12, 1),
            y(share * 100),
            round(slot * 0.76, 1),
            round(y(0) - y(share * 100), 1),
            f"{label}: {share:.1%}",
        )
        for left, share, label in zip(edges, shares, labels, strict=False)
    )
    steps = [(e, y(r * 100)) for i, r in enumerate(reference) for e in edges[i : i + 2]]
    percent = tuple(Tick(tick.at, f"{tick.label}\N{NO-BREAK SPACE}%") for tick in y.ticks)
    return Chart(
        description,
        width,
        height,
        _bin_ticks(labels, edges),
        percent,
        x_label,
        (Line(None, _path(steps)),),
        bars,
        hue=hue,
    )


def _dots(series: Series, x: Axis, y: Axis) -> Iterator[Dot]:
    if len(series.points) > MAX_DOTS:
        return
    for point in series.points:
        a, b = point
        marked = point == series.marked or len(series.points) == 1
        yield Dot(x(a), y(b), f"{series.label}, epoch {a:.3g}: {b:.4g}", marked)


def _free(dots: Sequence[Dot], x: float, y: float) -> float:
    """How far below its point a name must stand not to run into those of other points."""
    taken = [dot.y + dot.drop for dot in dots if abs(dot.x - x) < NAME_WIDTH]
    # Each of the others can be in the way of two places, 14 apart, so one of these is free.
    places = range(14, 14 * (2 * len(dots) + 2), 14)
    return next(d for d in places if all(abs(y + d - other) >= 13 for other in taken))


def _bin_ticks(labels: Sequence[str], edges: Sequence[float]) -> tuple[Tick, ...]:
    if len(labels) == 1 or max(map(len, labels)) <= 3:
        middles = ((a + b) / 2 for a, b in pairwise(edges))
        return tuple(Tick(round(at, 1), label) for at, label in zip(middles, labels, strict=False))
    return Tick(edges[0], labels[0], "start"), Tick(edges[-1], labels[-1], "end")


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
