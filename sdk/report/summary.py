"""The data of a run report: `RunSummary`, its typed parts, and its JSON form (RUN/report/summary.json).

`pocketrec.run.summary` fills it from what a run's stages left; `pocketrec.report.render` turns it into a page.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from pocketrec.runtime.errors import DataError

Scalar = str | int | float | bool | None


class Finding(TypedDict):
    """One kind of problem in the data: its code, its severity, the number of rows, and the rule applied to them."""

    code: str
    severity: str  # "error", "warning" or "ok"
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


# A call, since class syntax does not allow these keys.
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


# What a bundle of one format measures. agreement@10: share of the first row's ten items that this one also recommends.
# peak_mb: MiB of a whole process.
GateRow = TypedDict(
    "GateRow",
    {
        "artifact": str, "bytes": int, "recall@10": float, "ndcg@10": float, "agreement@10": float,
        "p50_ms": float, "peak_mb": float,
    },
)  # fmt: skip


class CodebookUse(TypedDict, total=False):
    """How the catalogue uses the codebooks. `use`, `entropy_bits` and `counts` have one entry per level.

    use: share of the codes that at least one item has. entropy_bits: at most log2(codes). counts: items per code,
    in descending order. moved, moved_share: items that did not get their nearest codes, so that IDs are unique.
    neighbour_agreement: share of nearest neighbours that quantisation keeps. collapsed: whether a level uses too few
    codes.
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
    """One recommended item; `hit`: it is the item that the user took next."""

    title: str
    score: float | None
    hit: bool


class Example(TypedDict):
    """A history (oldest item first), the item taken next, and what the student recommends."""

    history: Sequence[str]
    target: str | None
    recommended: Sequence[Recommended]


@dataclass(frozen=True)
class RunSummary:
    """Everything that the report shows, as plain data; an empty part leaves its section out.

    dataset: fact → value, and the findings of the data check under "findings".
    metrics: system → convention ("seen kept", "seen excluded") → measure → value. The first system is the
    exported bundle; the others are its parts, its teachers and the baselines. Known measures: recall@k, ndcg@k, mrr,
    coverage@10 (share of the catalogue that is recommended to anyone), popularity@10, invalid (share); others are shown
    after them.
    p_values: system → convention → two-sided p-value of the bundle's recall@10 against this system's.
    verdict: one line that says what won. left_out: sentences on committee members and experts without weight.
    shortfall: one line that says which simple baselines are better than the bundle, and what to try; empty: none.
    gates: measures of exports in other formats on validation users; the first row is the float32 model.
    seconds: stage → duration. next_command: a shell command to try next.
    """

    title: str
    dataset: Mapping[str, Scalar | Sequence[Finding]] = field(default_factory=dict)
    losses: Sequence[LossPoint] = field(default_factory=list)
    validation: Sequence[ValidationPoint] = field(default_factory=list)
    metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    p_values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    verdict: str = ""
    left_out: Sequence[str] = field(default_factory=list)
    shortfall: str = ""
    artifact: Artifact | None = None
    gates: Sequence[GateRow] = field(default_factory=list)
    semantic_ids: CodebookUse | None = None
    popularity_bias: PopularityBias | None = None
    examples: Sequence[Example] = field(default_factory=list)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    next_command: str = ""

    def __post_init__(self) -> None:
        """Check that every list of `popularity_bias` has one share per bin.

        :raises DataError: if one has not.
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
    """Return the summary as indented JSON. numpy scalars and arrays become numbers and lists; NaN and ±inf null.

    :raises DataError: if a value has no JSON form.
    """
    import msgspec

    try:
        return msgspec.json.format(msgspec.json.encode(summary, enc_hook=_plain), indent=2).decode() + "\n"
    except (TypeError, OverflowError) as error:
        raise DataError(f"The run summary cannot be written as JSON: {error}.") from error


def from_json(text: str | bytes) -> RunSummary:
    """Read what `to_json` wrote.

    :raises DataError: if the text is not JSON, or a part has the wrong type; the message names the place.
    """
    import msgspec

    try:
        return msgspec.json.decode(text, type=RunSummary)
    except msgspec.DecodeError as error:
        raise DataError(f"This is not a run summary: {error}. Run the report stage again to rewrite it.") from error


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy, without importing it
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
