"""The charts of reports and benchmarks as geometry: numbers in, SVG coordinates out.

`pocketrec.report.figures` and `pocketrec.bench.bench_plot` decide what is drawn; `templates/charts.html.jinja` draws
it. Pure, and without markup or colours: style sheets give a chart other colours in dark mode, on paper and on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pocketrec.report.axes import Axis, Point, Tick, make_axis, thin

LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 10.0, 34.0  # margins, in the chart's own units
NAME_WIDTH = 130.0  # of a point's name, about
MAX_DOTS = 100  # a longer line has no labels to point at
BAR, GAP = 20.0, 12.0  # of bars that lie one below the other


@dataclass(frozen=True)
class Dot:
    """A point of a line. label: shown while the pointer is on it. marked: visible without the pointer, too.

    name: text beside the point, on the side that `anchor` leaves free, `drop` below it; "": none.
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
    """A path and its dots. hue: number of its colour; None: a reference that the data is compared with."""

    hue: int | None
    path: str
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True)
class Bar:
    """A filled rectangle. label: shown while the pointer is on it. text: beside its right end."""

    x: float
    y: float
    width: float
    height: float
    label: str
    hue: int = 0
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """One SVG. description: says in words what the picture shows, for readers who cannot see it.

    margins: left, right, top, bottom. hue: colour of the area. sideways: the bars lie, so the horizontal axis has the
    grid.
    """

    description: str
    width: float
    height: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_label: str = ""
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    area: str = ""
    hue: int = 0
    title: str = ""
    margins: tuple[float, float, float, float] = (LEFT, RIGHT, TOP, BOTTOM)
    sideways: bool = False

    @property
    def left(self) -> float:
        """Left edge of the plotting area."""
        return self.margins[0]

    @property
    def right(self) -> float:
        """Right edge of the plotting area."""
        return self.width - self.margins[1]

    @property
    def top(self) -> float:
        """Upper edge of the plotting area."""
        return self.margins[2]

    @property
    def bottom(self) -> float:
        """Lower edge of the plotting area."""
        return self.height - self.margins[3]


@dataclass(frozen=True)
class Series:
    """Points of one line, x ascending. marked: the point that stands out."""

    label: str
    hue: int
    points: Sequence[Point]
    marked: Point | None = None


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
    """Draw named points. The horizontal axis starts at 0; the vertical axis covers their range with a margin.

    :param points: (name, (x, y)), at least one; a reference line goes through the first.
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
    """Draw how many items each code has, in descending order, and a line at the mean.

    :param counts: items per code, descending; at least one code.
    :param top: highest value of the vertical axis, the same for all levels.
    :param even: mean number of items per code.
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
    :param labels: of the bins; if they are long, only the first and the last are shown.
    :param top: highest share in any of the charts that are shown side by side.
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
            hue,
        )
        for left, share, label in zip(edges, shares, labels, strict=False)
    )
    steps = [(e, y(r * 100)) for i, r in enumerate(reference) for e in edges[i : i + 2]]
    percent = tuple(Tick(tick.at, f"{tick.label}\N{NO-BREAK SPACE}%") for tick in y.ticks)
    return Chart(
        description, width, height, _bin_ticks(labels, edges), percent, x_label, (Line(None, _path(steps)),), bars
    )


def log_bar_chart(rows: Sequence[tuple[str, float, int]], description: str, *, title: str) -> Chart:
    """Draw bars that lie one below the other on a logarithmic axis, with their names and values beside them.

    :param rows: (name, value above 0, hue), at least one.
    """
    values = [value for _, value, _ in rows]
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    margins, width = (190.0, 90.0, 34.0, 40.0), 800.0
    left, right, top, bottom = margins
    scale = Axis(low, high, left, width - right, ())
    bars, names = [], []
    for place, (name, value, hue) in enumerate(rows):
        y, wide = top + place * (BAR + GAP), max(2.0, scale(math.log10(value)) - left)
        bars.append(Bar(left, y, round(wide, 1), BAR, f"{name}: {value:.4g}", hue, f"{value:.2f}"))
        names.append(Tick(y + BAR / 2, name))
    ticks = tuple(Tick(scale(power), f"{10.0**power:g}") for power in range(low, high + 1))
    height = top + len(rows) * (BAR + GAP) + bottom
    return Chart(
        description, width, height, ticks, tuple(names), bars=tuple(bars), title=title, margins=margins, sideways=True
    )


def _dots(series: Series, x: Axis, y: Axis) -> Iterator[Dot]:
    if len(series.points) > MAX_DOTS:
        return
    for point in series.points:
        a, b = point
        marked = point == series.marked or len(series.points) == 1
        yield Dot(x(a), y(b), f"{series.label}, epoch {a:.3g}: {b:.4g}", marked)


def _free(dots: Sequence[Dot], x: float, y: float) -> float:
    """Return how far below its point a name must be placed so that it does not overlap other names."""
    taken = [dot.y + dot.drop for dot in dots if abs(dot.x - x) < NAME_WIDTH]
    # Each of the other names can block two places, 14 apart, so one of these is free.
    places = range(14, 14 * (2 * len(dots) + 2), 14)
    return next(d for d in places if all(abs(y + d - other) >= 13 for other in taken))


def _bin_ticks(labels: Sequence[str], edges: Sequence[float]) -> tuple[Tick, ...]:
    if len(labels) == 1 or max(map(len, labels)) <= 3:
        middles = ((a + b) / 2 for a, b in pairwise(edges))
        return tuple(Tick(round(at, 1), label) for at, label in zip(middles, labels, strict=False))
    return Tick(edges[0], labels[0], "start"), Tick(edges[-1], labels[-1], "end")


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
