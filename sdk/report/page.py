"""What the run report says: every table and sentence of the page, made from a `RunSummary`.

The template only lays it out; the charts come from `pocketrec.report.figures`, the overview from
`pocketrec.report.overview`. Pure. A section is on the page exactly if the summary has content for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pocketrec.report.figures import Figure, bias_figures, codebook_figures, gate_figures, training_figures
from pocketrec.report.overview import Headline, headlines, verdict
from pocketrec.report.text import MINUS, NBSP, NONE, duration, fact, label, number, percent, setting, size

if TYPE_CHECKING:
    from pocketrec.report.summary import CodebookUse, GateRow, PopularityBias, RunSummary

COMPARED = "recall@10"  # the measure of `RunSummary.p_values`
DEFAULT_CONVENTION = "seen excluded"  # as in an app, so the headlines show it

# measure → (heading, kind). score, share: higher is better, the best is bold, and shares are compared in percentage
# points. percent, number: no value is bold.
MEASURES = {
    "recall@5": ("Recall@5", "score"),
    "recall@10": ("Recall@10", "score"),
    "ndcg@5": ("NDCG@5", "score"),
    "ndcg@10": ("NDCG@10", "score"),
    "mrr": ("MRR", "score"),
    "coverage@10": ("Coverage@10", "share"),
    "popularity@10": ("Popularity@10", "number"),
    "invalid": ("Invalid", "percent"),
}

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cell:
    """A measured value, whether it is the best of its column, and its difference from the bundle's."""

    text: str
    best: bool = False
    delta: str = ""


@dataclass(frozen=True)
class MetricTable:
    """Systems under one convention: (name, whether it is the exported bundle, a cell per heading)."""

    convention: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, bool, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Meter:
    """A labelled bar; `share` of the full width, 0-1. own: it belongs to the exported bundle."""

    label: str
    text: str
    share: float
    own: bool = False


@dataclass(frozen=True)
class Page:
    """Everything that the template needs. sections: id → heading of the sections to show, in their order."""

    summary: RunSummary
    sections: Mapping[str, str]
    verdict: str
    standing: str
    headlines: tuple[Headline, ...]
    tables: tuple[MetricTable, ...]
    training: tuple[Figure, ...]
    id_facts: Pairs
    id_levels: tuple[tuple[int, str, str], ...]  # level, codes in use, entropy
    id_figures: tuple[Figure, ...]
    coverage: tuple[Meter, ...]
    bias_figures: tuple[Figure, ...]
    bias_rows: tuple[tuple[str, tuple[str, ...]], ...]
    gate_figures: tuple[Figure, ...]
    gate_rows: tuple[tuple[str, tuple[str, ...]], ...]
    facts: Pairs
    files: tuple[Meter, ...]
    timings: tuple[Meter, ...]
    settings: tuple[tuple[str, Pairs], ...]


def build_page(summary: RunSummary) -> Page:
    """Make the page of a summary."""
    ids, bias = summary.semantic_ids or {}, summary.popularity_bias
    conventions = _conventions(summary)
    files = (summary.artifact or {}).get("files", {})
    large = tuple(headlines(summary, conventions))
    training = tuple(training_figures(summary))
    coverage = tuple(_coverage(summary, conventions))
    sections: dict[str, tuple[str, object]] = {
        "overview": ("Overview", large),
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
        verdict=verdict(summary, conventions),
        standing=summary.verdict,
        headlines=large,
        tables=tuple(_metric_table(summary, convention) for convention in conventions),
        training=training,
        id_facts=tuple(_id_facts(ids)),
        id_levels=tuple(_id_levels(ids)),
        id_figures=tuple(codebook_figures(ids)),
        coverage=coverage,
        bias_figures=tuple(bias_figures(bias)) if bias else (),
        bias_rows=tuple(_bias_rows(bias)) if bias else (),
        gate_figures=tuple(gate_figures(summary.gates)) if summary.gates else (),
        gate_rows=tuple(_gate_rows(summary.gates)),
        facts=tuple((label(name), fact(name, value)) for name, value in summary.dataset.items() if name != "findings"),
        files=_meters(files, size),
        timings=_meters({label(stage): took for stage, took in summary.seconds.items()}, duration),
        settings=tuple(_settings(summary.configuration)),
    )


def _conventions(summary: RunSummary) -> list[str]:
    found = dict.fromkeys(convention for values in summary.metrics.values() for convention in values)
    return sorted(found, key=lambda convention: convention != DEFAULT_CONVENTION)


# --- tables --------------------------------------------------------------------------------------------


def _metric_table(summary: RunSummary, convention: str) -> MetricTable:
    student = next(iter(summary.metrics))
    systems = {name: by[convention] for name, by in summary.metrics.items() if convention in by}
    found = {measure for values in systems.values() for measure in values}
    measures = {m: MEASURES[m] for m in MEASURES if m in found}
    measures |= {m: (label(m), "number") for m in sorted(found - set(MEASURES))}
    rows = []
    for name, values in systems.items():
        cells = []
        for measure, (_, kind) in measures.items():
            best = max((v for other in systems.values() if (v := other.get(measure)) is not None), default=None)
            beside = None if name == student else systems.get(student, {}).get(measure)
            p = summary.p_values.get(name, {}).get(convention) if measure == COMPARED else None
            cells.append(_cell(values.get(measure), kind, best, beside, p))
        rows.append((label(name), name == student, tuple(cells)))
    return MetricTable(convention, tuple(heading for heading, _ in measures.values()), tuple(rows))


def _cell(value: float | None, kind: str, best: float | None, student: float | None, p: float | None = None) -> Cell:
    if value is None:
        return Cell(NONE)
    if kind == "score":
        delta = "" if student is None else f"{value - student:+.4f}"
        if delta and p is not None:
            delta += f", p{NBSP}<{NBSP}.001" if p < 0.001 else f", p{NBSP}={NBSP}{p:.3f}".replace("0.", ".")
        return Cell(f"{value:.4f}", value == best, delta.replace("-", MINUS))
    if kind == "share":
        delta = "" if student is None else f"{(value - student) * 100:+.1f}{NBSP}pt"
        return Cell(percent(value), value == best, delta.replace("-", MINUS))
    return Cell(percent(value) if kind == "percent" else number(value))


def _id_facts(ids: CodebookUse) -> Iterator[tuple[str, str]]:
    if "levels" in ids and "codes" in ids:
        yield "Levels × codes", f"{ids['levels']} × {number(ids['codes'])}"
    if "moved" in ids:
        share = f" ({percent(ids['moved_share'])})" if "moved_share" in ids else ""
        yield "Items moved to make IDs unique", number(ids["moved"]) + share
    if "neighbour_agreement" in ids:
        yield "Neighbours kept by quantisation", percent(ids["neighbour_agreement"])


def _id_levels(ids: CodebookUse) -> Iterator[tuple[int, str, str]]:
    use, entropy = ids.get("use", ()), ids.get("entropy_bits", ())
    limit = f" of {math.log2(ids['codes']):.3g}" if "codes" in ids else ""
    for i in range(max(len(use), len(entropy))):
        bits = f"{entropy[i]:.2f}{limit}{NBSP}bits" if i < len(entropy) else NONE
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
    """Yield (section, rows of dotted name and value); settings outside a section come first."""
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
