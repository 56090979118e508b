"""What the run report says: every table and sentence of the page, made from a `RunSummary`.

Between `pocketrec.report.render`, which holds the summary and writes the file, and the template, which only lays
it out; the charts come from `pocketrec.report.figures`. Pure. A section is on the page exactly if the
summary has something for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pocketrec.report.figures import Figure, bias_figures, codebook_figures, gate_figures, training_figures
from pocketrec.report.text import (
    MINUS,
    NBSP,
    NONE,
    change,
    duration,
    fact,
    label,
    number,
    percent,
    setting,
    size,
)

if TYPE_CHECKING:
    from pocketrec.report.render import Artifact, GateRow, PopularityBias, RunSummary, SemanticIds

DEFAULT_CONVENTION = "seen excluded"  # what an app does, so what the headline shows

# measure → (heading, kind). score and share: higher is better, and a share is compared in points; percent and
# plain: the best is not marked.
MEASURES = {
    "recall@5": ("Recall@5", "score"),
    "recall@10": ("Recall@10", "score"),
    "ndcg@5": ("NDCG@5", "score"),
    "ndcg@10": ("NDCG@10", "score"),
    "mrr": ("MRR", "score"),
    "coverage@10": ("Coverage@10", "share"),
    "popularity@10": ("Popularity@10", "plain"),
    "invalid": ("Invalid", "percent"),
}

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Headline:
    """One large number. `trend` is "up", "down" or "" and colours the first line of `context`."""

    label: str
    value: str
    context: tuple[str, ...] = ()
    trend: str = ""


@dataclass(frozen=True)
class Cell:
    """A measured value, whether it is the best of its column, and how far from the student's."""

    text: str
    best: bool = False
    delta: str = ""


@dataclass(frozen=True)
class MetricTable:
    """Systems under one convention: (name, whether it is the student, a cell per heading)."""

    convention: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, bool, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Meter:
    """A labelled bar; `share` of the full width, 0-1. `own`: it is the student's."""

    label: str
    text: str
    share: float
    own: bool = False


@dataclass(frozen=True)
class Page:
    """Everything the template needs; `sections` holds id → heading of those to show, in their order."""

    summary: RunSummary
    sections: Mapping[str, str]
    verdict: str
    headlines: tuple[Headline, ...]
    tables: tuple[MetricTable, ...]
    training: tuple[Figure, ...]
    id_facts: Pairs
    id_levels: tuple[tuple[int, str, str], ...]  # level, codes in use, entropy
    id_figures: tuple[Figure, ...]
    coverage: tuple[Meter, ...]
    bias: tuple[Figure, ...]
    bias_rows: tuple[tuple[str, tuple[str, ...]], ...]
    gates: tuple[Figure, ...]
    gate_rows: tuple[tuple[str, tuple[str, ...]], ...]
    facts: Pairs
    files: tuple[Meter, ...]
    timings: tuple[Meter, ...]
    settings: tuple[tuple[str, Pairs], ...]


def build_page(summary: RunSummary) -> Page:
    """Work out the page."""
    ids, bias = summary.semantic_ids or {}, summary.popularity_bias
    conventions = _conventions(summary)
    files = (summary.artifact or {}).get("files", {})
    headlines = tuple(_headlines(summary, conventions))
    training = tuple(training_figures(summary))
    coverage = tuple(_coverage(summary, conventions))
    sections: dict[str, tuple[str, object]] = {
        "overview": ("Overview", headlines),
        "next": ("Try next", summary.next_command),
        "quality": ("Quality", conventions),
        "training": ("Training", training),
        "codebooks": ("Semantic IDs", ids),
        "catalogue": ("Catalogue", coverage or bias),
        "examples": ("Examples", summary.examples),
        "data": ("Data", summary.dataset),
        "formats": ("Formats", summary.gates),
        "bundle": ("Bundle", files),
        "timings": ("Time", summary.seconds),
        "configuration": ("Configuration", summary.configuration),
        "versions": ("Versions", summary.versions),
        "seeds": ("Seeds", summary.seeds),
    }
    return Page(
        summary=summary,
        sections={name: heading for name, (heading, content) in sections.items() if content},
        verdict=_verdict(summary, conventions),
        headlines=headlines,
        tables=tuple(_metric_table(summary, convention) for convention in conventions),
        training=training,
        id_facts=tuple(_id_facts(ids)),
        id_levels=tuple(_id_levels(ids)),
        id_figures=tuple(codebook_figures(ids)),
        coverage=coverage,
        bias=tuple(bias_figures(bias)) if bias else (),
        bias_rows=tuple(_bias_rows(bias)) if bias else (),
        gates=tuple(gate_figures(summary.gates)) if summary.gates else (),
        gate_rows=tuple(_gate_rows(summary.gates)),
        facts=tuple((label(name), fact(name, value)) for name, value in summary.dataset.items() if name != "findings"),
        files=_meters(files, size),
        timings=_meters({label(stage): took for stage, took in summary.seconds.items()}, duration),
        settings=tuple(_settings(summary.configuration)),
    )


def _conventions(summary: RunSummary) -> list[str]:
    found = dict.fromkeys(convention for values in summary.metrics.values() for convention in values)
    return sorted(found, key=lambda convention: convention != DEFAULT_CONVENTION)


# --- overview ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Standing:
    """The student's value of a measure under a convention, and the best of the others, if there are any."""

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


def _verdict(summary: RunSummary, conventions: Sequence[str]) -> str:
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


def _headlines(summary: RunSummary, conventions: Sequence[str]) -> Iterator[Headline]:
    for measure in ("recall@10", "ndcg@10"):
        standings = list(_standings(summary, measure, conventions))
        if standings:
            yield _quality_headline(MEASURES[measure][0], standings[0], standings[1:])
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


# --- tables --------------------------------------------------------------------------------------------


def _metric_table(summary: RunSummary, convention: str) -> MetricTable:
    student = next(iter(summary.metrics))
    systems = {name: by[convention] for name, by in summary.metrics.items() if convention in by}
    found = {measure for values in systems.values() for measure in values}
    measures = {m: MEASURES[m] for m in MEASURES if m in found}
    measures |= {m: (label(m), "plain") for m in sorted(found - set(MEASURES))}
    rows = []
    for name, values in systems.items():
        cells = []
        for measure, (_, kind) in measures.items():
            best = max((v for other in systems.values() if (v := other.get(measure)) is not None), default=None)
            beside = None if name == student else systems.get(student, {}).get(measure)
            cells.append(_cell(values.get(measure), kind, best, beside))
        rows.append((label(name), name == student, tuple(cells)))
    return MetricTable(convention, tuple(heading for heading, _ in measures.values()), tuple(rows))


def _cell(value: float | None, kind: str, best: float | None, student: float | None) -> Cell:
    if value is None:
        return Cell(NONE)
    if kind == "score":
        delta = "" if student is None else f"{value - student:+.4f}"
        return Cell(f"{value:.4f}", value == best, delta.replace("-", MINUS))
    if kind == "share":
        delta = "" if student is None else f"{(value - student) * 100:+.1f}{NBSP}pt"
        return Cell(percent(value), value == best, delta.replace("-", MINUS))
    return Cell(percent(value) if kind == "percent" else number(value))


def _id_facts(ids: SemanticIds) -> Iterator[tuple[str, str]]:
    if "levels" in ids and "codes" in ids:
        yield "Levels × codes", f"{ids['levels']} × {number(ids['codes'])}"
    if "moved" in ids:
        share = f" ({percent(ids['moved_share'])})" if "moved_share" in ids else ""
        yield "Items moved to make IDs unique", number(ids["moved"]) + share
    if "neighbour_agreement" in ids:
        yield "Neighbours kept by quantisation", percent(ids["neighbour_agreement"])


def _id_levels(ids: SemanticIds) -> Iterator[tuple[int, str, str]]:
    use, entropy = ids.get("use", ()), ids.get("entropy_bits", ())
    most = f" of {math.log2(ids['codes']):.3g}" if "codes" in ids else ""
    for i in range(max(len(use), len(entropy))):
        bits = f"{entropy[i]:.2f}{most}{NBSP}bits" if i < len(entropy) else NONE
        yield i + 1, percent(use[i]) if i < len(use) else NONE, bits


def _coverage(summary: RunSummary, conventions: Sequence[str]) -> Iterator[Meter]:
    convention = next(iter(conventions), "")
    for i, (name, by_convention) in enumerate(summary.metrics.items()):
        value = by_convention.get(convention, {}).get("coverage@10")
        if value is not None:
            yield Meter(label(name), percent(value), min(max(value, 0.0), 1.0), own=i == 0)


def _bias_rows(bias: PopularityBias) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "Catalogue", tuple(map(percent, bias["catalogue"]))
    yield "Training interactions", tuple(map(percent, bias["interactions"]))
    for name, shares in bias["recommended"].items():
        yield label(name), tuple(map(percent, shares))


def _gate_rows(gates: Sequence[GateRow]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for gate in gates:
        first = gates[0]["ndcg@10"]
        lost = NONE if gate is gates[0] or not first else f"{gate['ndcg@10'] / first - 1:+.1%}".replace("-", MINUS)
        yield (
            gate["artifact"],
            (
                size(gate["bytes"]), f"{gate['recall@10']:.4f}", f"{gate['ndcg@10']:.4f}", lost,
                percent(gate["agreement@10"]), f"{gate['p50_ms']:.3g}{NBSP}ms", f"{gate['peak_mb']:,.0f}{NBSP}MB",
            ),
        )  # fmt: skip


def _meters(values: Mapping[str, float], write: Callable[[float], str]) -> tuple[Meter, ...]:
    top = max(values.values(), default=0) or 1
    return tuple(Meter(name, write(value), value / top) for name, value in values.items())


def _settings(configuration: Mapping[str, Any]) -> Iterator[tuple[str, Pairs]]:
    """Yield (group, rows of dotted name and value); what stands outside a group comes first."""
    if loose := {name: value for name, value in configuration.items() if not isinstance(value, Mapping)}:
        yield "run", tuple(_flat(loose))
    for name, value in configuration.items():
        if isinstance(value, Mapping):
            yield name, tuple(_flat(value))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, setting(value)
