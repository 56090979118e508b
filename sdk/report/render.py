"""The run report: what a run did and how good its bundle is, as one HTML file.

At the end of the path of the data: the pipeline fills a `RunSummary` from what its stages left in the run's
folder. Promises: the file needs no network, script or font; text that came from user data is escaped; a
part of the summary that is missing leaves its section out; a report rebuilt from the summary's JSON is the
same file, byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from pocketrec.report.page import build_page
from pocketrec.report.text import filters
from pocketrec.runtime.errors import DataError, MissingExtraError

Scalar = str | int | float | bool | None


class Finding(TypedDict):
    """One kind of trouble found in the data: its code, how bad, in how many rows, and the rule applied."""

    code: str
    severity: str  # "error", "warning" or "info"
    count: int
    what: str
    rule: str


class LossPoint(TypedDict):
    """Training loss after one optimiser step. A loss that was not finite is None."""

    model: str
    step: int
    epoch: float
    loss: float | None
    learning_rate: float | None


# Not a class, because of the keys' names.
ValidationPoint = TypedDict(
    "ValidationPoint",
    {"model": str, "epoch": float, "recall@10": float | None, "ndcg@10": float | None},
)


class Artifact(TypedDict, total=False):
    """The bundle: bytes of every file, parameters, latency of one call in ms, peak memory in MB."""

    files: Mapping[str, int]
    parameters: int | None
    p50_ms: float | None
    p95_ms: float | None
    rss_mb: float | None


# Not a class, because of the keys' names. agreement@10: with the first row's ten; peak_mb: MiB of a whole process.
GateRow = TypedDict(
    "GateRow",
    {
        "artifact": str, "bytes": int, "recall@10": float, "ndcg@10": float, "agreement@10": float,
        "p50_ms": float, "peak_mb": float,
    },
)  # fmt: skip


class SemanticIds(TypedDict, total=False):
    """How the catalogue fills the codebooks. `use`, `entropy_bits`, `counts` have one entry per level.

    use: share of the codes that some item has. entropy_bits: at most log2(codes). counts: items per code,
    most first. moved, moved_share: items that uniqueness took off their nearest codes. neighbour_agreement:
    share of nearest neighbours that survive quantisation. collapsed: whether a level uses too few codes.
    """

    levels: int
    codes: int
    use: Sequence[float]
    entropy_bits: Sequence[float]
    counts: Sequence[Sequence[int]]
    moved: int
    moved_share: float
    neighbour_agreement: float
    collapsed: bool


class PopularityBias(TypedDict):
    """Shares by popularity bin, each list as long as `bins` and summing to 1; `recommended` is per system."""

    bins: Sequence[str]
    catalogue: Sequence[float]
    interactions: Sequence[float]
    recommended: Mapping[str, Sequence[float]]


class Recommended(TypedDict):
    """One recommended item; `hit` says that it is the one the user took next."""

    title: str
    score: float | None
    hit: bool


class Example(TypedDict):
    """A history (oldest first), the item taken after it, and what the student recommends for it."""

    history: Sequence[str]
    target: str | None
    recommended: Sequence[Recommended]


@dataclass(frozen=True)
class RunSummary:
    """Everything the report shows, as plain data; an empty part means that the run has nothing to say there.

    dataset: fact → value, and under "findings" what the data check found.
    metrics: system → convention ("seen kept", "seen excluded") → measure → value. The first system is the
    exported bundle, the others are its baselines. Known measures: recall@k, ndcg@k, mrr, coverage@10 (share
    of the catalogue recommended to anybody), popularity@10, invalid (share); others are shown after them.
    gates: what exports in other formats measure on validation questions; the first row is the float32 model.
    seconds: stage → seconds it took. next_command: what to try next, a shell line.
    """

    title: str
    dataset: Mapping[str, Scalar | Sequence[Finding]] = field(default_factory=dict)
    losses: Sequence[LossPoint] = field(default_factory=list)
    validation: Sequence[ValidationPoint] = field(default_factory=list)
    metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    artifact: Artifact | None = None
    gates: Sequence[GateRow] = field(default_factory=list)
    semantic_ids: SemanticIds | None = None
    popularity_bias: PopularityBias | None = None
    examples: Sequence[Example] = field(default_factory=list)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    next_command: str = ""

    def __post_init__(self) -> None:
        """Refuse shares that do not belong to a bin.

        :raises DataError: a list of `popularity_bias` is not as long as its bins.
        """
        if self.popularity_bias is None:
            return
        bias, bins = self.popularity_bias, len(self.popularity_bias["bins"])
        shares = {"catalogue": bias["catalogue"], "interactions": bias["interactions"], **bias["recommended"]}
        for name, values in shares.items():
            if len(values) != bins or not bins:
                raise DataError(
                    f"popularity_bias has {bins} bins, but {len(values)} shares for {name!r}: "
                    "give one share per bin, or leave popularity_bias out."
                )


def to_json(summary: RunSummary) -> str:
    """Return the summary as indented JSON. numpy scalars and arrays become plain; NaN and ±inf become null.

    :raises DataError: a value has no JSON form.
    """
    import msgspec

    try:
        return msgspec.json.format(msgspec.json.encode(summary, enc_hook=_plain), indent=2).decode() + "\n"
    except (TypeError, OverflowError) as error:
        raise DataError(f"The run summary cannot be written as JSON: {error}.") from error


def from_json(text: str | bytes) -> RunSummary:
    """Read what `to_json` wrote.

    :raises DataError: the text is not JSON, or a part has another shape; the message names the place.
    """
    import msgspec

    try:
        return msgspec.json.decode(text, type=RunSummary)
    except msgspec.DecodeError as error:
        raise DataError(f"This is not a run summary: {error}. Run the report stage again to rewrite it.") from error


def render_report(summary: RunSummary) -> str:
    """Return the report as one HTML document, the same for the same summary.

    :raises DataError: a part of the summary has the wrong shape.
    :raises MissingExtraError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError(
            "The run report needs jinja2, which is not installed: pip install 'pocketrec[train]'"
        ) from error
    environment = Environment(
        loader=PackageLoader("pocketrec"),
        autoescape=True,  # for every template, whatever its name ends in
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters())
    page = build_page(from_json(to_json(summary)))  # through JSON: checked, plain, and as a rebuilt report sees it
    return environment.get_template("report.html.jinja").render(page=page)


def write_report(summary: RunSummary, path: Path) -> None:
    """Write the report to `path`, all of it or nothing; an older report stays until the new one is complete.

    :raises DataError: a part of the summary has the wrong shape.
    :raises MissingExtraError: jinja2 is not installed.
    """
    html = render_report(summary)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(html, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy, without importing it
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is not plain data")
