"""The overview at the top of the run report: one sentence on quality, and the large numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocketrec.report.text import MINUS, NBSP, change, label, number, percent, size

if TYPE_CHECKING:
    from pocketrec.report.summary import Artifact, RunSummary

HEADLINE_MEASURES = {"recall@10": "Recall@10", "ndcg@10": "NDCG@10"}


@dataclass(frozen=True)
class Headline:
    """One large number. `trend` is "up", "down" or "" and colours the first line of `context`."""

    label: str
    value: str
    context: tuple[str, ...] = ()
    trend: str = ""


@dataclass(frozen=True)
class _Standing:
    """The student's value of a measure under a convention, and the best other system, if there is any."""

    convention: str
    own: float
    rival: str = ""
    best: float | None = None


def _standings(summary: RunSummary, measure: str, conventions: Sequence[str]) -> Iterator[_Standing]:
    student = next(iter(summary.metrics), "")
    for convention in conventions:
        values = {name: by.get(convention, {}).get(measure) for name, by in summary.metrics.items()}
        known = {name: value for name, value in values.items() if value is not None}
        own = known.pop(student, None)
        if own is not None:
            rival = max(known, key=lambda name: known[name], default="")
            yield _Standing(convention, own, label(rival), known.get(rival))


def verdict(summary: RunSummary, conventions: Sequence[str]) -> str:
    """Say in one sentence how good the student is beside the best other system; empty without measures."""
    standing = next(_standings(summary, "recall@10", conventions), None)
    if standing is None:
        return ""
    text = (
        f"The next item is among the bundle’s ten recommendations for {percent(standing.own)} of the test "
        f"users ({standing.convention})"
    )
    if not standing.best:
        return f"{text}."
    difference = change(standing.own, standing.best).lstrip("+" + MINUS)
    if difference.startswith("±"):
        return f"{text}, as for the best of the others, {standing.rival}."
    more = "more" if standing.own > standing.best else "fewer"
    return f"{text}: {difference} {more} than for the best of the others, {standing.rival}."


def headlines(summary: RunSummary, conventions: Sequence[str]) -> Iterator[Headline]:
    """Yield the large numbers: quality, size, latency, coverage."""
    for measure, heading in HEADLINE_MEASURES.items():
        standings = list(_standings(summary, measure, conventions))
        if standings:
            yield _quality_headline(heading, standings[0], standings[1:])
    yield from _artifact_headlines(summary.artifact or {})
    student = next(iter(summary.metrics.values()), {}).get(next(iter(conventions), ""), {})
    if (coverage := student.get("coverage@10")) is not None:
        yield Headline("Catalogue recommended", percent(coverage), ("in the top 10 of at least one test user",))
    if (invalid := student.get("invalid")) is not None:
        yield Headline("Invalid recommendations", percent(invalid), ("items that are not in the catalogue",))


def _quality_headline(heading: str, first: _Standing, others: Sequence[_Standing]) -> Headline:
    context, trend = [], ""
    if first.best is not None:
        context.append(f"{change(first.own, first.best)} against {first.rival} ({first.best:.4f})".strip())
        trend = "up" if first.own > first.best else "down" if first.own < first.best else ""
    context += [f"{other.own:.4f} with {other.convention}" for other in others]
    return Headline(f"{heading}, {first.convention}", f"{first.own:.4f}", tuple(context), trend)


def _artifact_headlines(artifact: Artifact) -> Iterator[Headline]:
    if files := artifact.get("files"):
        parameters = artifact.get("parameters")
        context = [] if parameters is None else [f"{number(parameters)} parameters"]
        context.append("1 file" if len(files) == 1 else f"{len(files)} files")
        yield Headline("Size of the bundle", size(sum(files.values())), tuple(context))
    if (p50 := artifact.get("p50_ms")) is not None:
        p95, memory = artifact.get("p95_ms"), artifact.get("rss_mb")
        context = [] if p95 is None else [f"p95 {p95:.3g}{NBSP}ms"]
        context += [] if memory is None else [f"{memory:,.0f}{NBSP}MB of memory"]
        yield Headline("Latency, p50", f"{p50:.3g}{NBSP}ms", tuple(context))
