"""The charts of the run report: which there are, the data of each, and its description in words.

`pocketrec.report.charts` computes their coordinates. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocketrec.report.axes import Point, thin
from pocketrec.report.charts import Chart, Series, dot_chart, line_chart, rank_chart, share_chart
from pocketrec.report.text import label

if TYPE_CHECKING:
    from pocketrec.report.summary import CodebookUse, GateRow, LossPoint, PopularityBias, RunSummary, ValidationPoint

OWN, OTHER = 0, 5  # hues of the student, and of everything else


@dataclass(frozen=True)
class Legend:
    """The name of a line in a figure, and a remark on it."""

    hue: int
    name: str
    remark: str


@dataclass(frozen=True)
class Figure:
    """Charts under one heading. Legends are in the order of the first chart's lines."""

    title: str
    charts: tuple[Chart, ...]
    legends: tuple[Legend, ...] = ()


def training_figures(summary: RunSummary) -> Iterator[Figure]:
    """Yield a loss curve per model (with its learning rate) and validation curves of all models together."""
    models = dict.fromkeys([*(p["model"] for p in summary.losses), *(p["model"] for p in summary.validation)])
    hues = {name: hue for hue, name in enumerate(sorted(models, key=lambda name: name != "student"))}
    for name, hue in hues.items():
        yield from _loss_figure(name, hue, [point for point in summary.losses if point["model"] == name])
    yield from _validation_figure("Recall@10", hues, [(p, p["recall@10"]) for p in summary.validation])
    yield from _validation_figure("NDCG@10", hues, [(p, p["ndcg@10"]) for p in summary.validation])


def _loss_figure(model: str, hue: int, rows: Sequence[LossPoint]) -> Iterator[Figure]:
    name = label(model)
    losses = [(row["epoch"], loss) for row in rows if (loss := row["loss"]) is not None]
    rates = [(row["epoch"], rate) for row in rows if (rate := row["learning_rate"]) is not None]
    if not losses:
        return
    (first_epoch, first), (last_epoch, last) = losses[0], losses[-1]
    description = f"Training loss of {name}: {first:.4g} at epoch {first_epoch:.3g}, {last:.4g} at {last_epoch:.3g}."
    charts = [line_chart([Series(name, hue, thin(losses))], description)]
    if len({rate for _, rate in rates}) > 1:
        charts.append(
            line_chart(
                [Series("learning rate", OTHER, thin(rates))],
                f"Learning rate of {name}, at most {max(r for _, r in rates):.2g}, last {rates[-1][1]:.2g}.",
                x_label="learning rate by epoch",
                height=104,
                from_zero=True,
                steps=2,
            )
        )
    averaged = "; every point is a mean of neighbouring steps" if len(thin(losses)) < len(losses) else ""
    yield Figure(f"Training loss, {name}", tuple(charts), (Legend(hue, "loss", f"{last:.4g} at the end{averaged}"),))


def _validation_figure(
    measure: str, hues: dict[str, int], rows: Sequence[tuple[ValidationPoint, float | None]]
) -> Iterator[Figure]:
    lines: list[Series] = []
    legends: list[Legend] = []
    for model, hue in hues.items():
        points: list[Point] = [(p["epoch"], v) for p, v in rows if p["model"] == model and v is not None]
        if points:
            best = max(points, key=lambda point: point[1])
            lines.append(Series(label(model), hue, points, marked=best))
            legends.append(Legend(hue, label(model), f"best {best[1]:.4f} at epoch {best[0]:g}"))
    if lines:
        words = "; ".join(f"{legend.name} {legend.remark}" for legend in legends)
        chart = line_chart(lines, f"{measure} on validation by epoch: {words}.", from_zero=True, steps=5)
        yield Figure(f"Validation {measure}", (chart,), tuple(legends))


def codebook_figures(use: CodebookUse) -> Iterator[Figure]:
    """Yield a chart per level of the number of items per code."""
    counts = [level for level in use.get("counts", ()) if level]
    top = max((max(level) for level in counts), default=0)
    for i, level in enumerate(counts, start=1):
        used, even = sum(n > 0 for n in level), sum(level) / len(level)
        description = (
            f"Items per code at level {i}: {used} of {len(level)} codes are in use; the most used code has "
            f"{max(level)} items, the mean is {even:.3g}."
        )
        yield Figure(f"Level {i}", (rank_chart(level, top, even, description, hue=OWN),))


def bias_figures(bias: PopularityBias) -> Iterator[Figure]:
    """Yield a chart per system: how popular its recommendations are, beside the training interactions."""
    bins, taken, shares = bias["bins"], bias["interactions"], bias["recommended"]
    top = max([*taken, *(value for share in shares.values() for value in share)], default=0.0)
    order = "most" if taken[0] >= taken[-1] else "least"
    for i, (system, share) in enumerate(shares.items()):
        spread = ", ".join(f"bin {name} {value:.1%}" for name, value in zip(bins, share, strict=False))
        description = f"Recommendations of {label(system)} by popularity of the item: {spread}."
        x_label = f"items, {order} popular first"
        hue = OTHER if i else OWN
        yield Figure(label(system), (share_chart(share, taken, bins, top, description, x_label=x_label, hue=hue),))


def gate_figures(gates: Sequence[GateRow]) -> Iterator[Figure]:
    """Yield the quality of each exported format by its size."""
    points = [(gate["artifact"], (gate["bytes"] / 1e6, gate["ndcg@10"])) for gate in gates]
    words = "; ".join(f"{name} {x:.2f} MB, {y:.4f}" for name, (x, y) in points)
    chart = dot_chart(points, f"NDCG@10 on validation by megabytes: {words}.", x_label="megabytes of the bundle")
    yield Figure("NDCG@10 by size", (chart,))
