"""Says when an exported bundle is worse than a simple baseline: than which one, by how much, and what to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypedDict

from pocketrec.distill.config import RunConfig
from pocketrec.run.measured import convention_of_run
from pocketrec.run.run import CURVE, RANKS, Run, read_json

BASELINES: Final = ("popularity", "co-occurrence", "transition graph", "graph and words")  # nothing is trained for them
MEASURES: Final = ("recall@10", "ndcg@10")
Chance = Callable[[str, str], "float | None"]
"""(baseline, measure) -> two-sided p-value of the bundle's difference; None: not known."""


class Below(TypedDict):
    """A baseline that is better in a measure. percent: how far the bundle is below it. p: None if it is not known."""

    baseline: str
    measure: str
    bundle: float
    value: float
    percent: float
    p: float | None


class Shortfall(TypedDict):
    """The baselines that a bundle is below, what to try as settings or commands, and both in one line."""

    convention: str
    below: list[Below]
    to_try: list[str]
    text: str


def run_shortfall(run: Run, systems: Mapping[str, Any]) -> Shortfall | None:
    """Compare a finished run's bundle with the simple baselines, in the convention that its people call for.

    :param systems: as `measured_systems` gives them.
    :returns: None if it is nowhere below.
    """
    from pocketrec.distill.evaluation.kept_ranks import KeptRanks

    kept = KeptRanks.load(run.folder / "baselines" / RANKS, run.bundle.parent / RANKS)
    convention = convention_of_run(run)

    def chance(baseline: str, measure: str) -> float | None:
        found = kept.difference("bundle", baseline, convention, measure)
        return None if found is None else found.p

    found = baselines_above(systems, convention, chance)
    if not found:
        return None
    curve = run.folder / run.student_stage / CURVE
    validations = read_json(curve)["validations"] if curve.exists() else []
    to_try = remedies(run.config, [v[run.config.train.metric] for v in validations])
    text = f"The bundle is worse than simple baselines ({convention}): {_clauses(found)}. To try: {'; '.join(to_try)}."
    return {"convention": convention, "below": found, "to_try": to_try, "text": text}


def baselines_above(systems: Mapping[str, Any], convention: str, chance: Chance = lambda b, m: None) -> list[Below]:
    """Return the baselines that are better than the first system, each by the measure in which it is most.

    :param systems: system → convention → measure → value; the first is the bundle.
    """
    own = systems[next(iter(systems))].get(convention, {})
    out: list[Below] = []
    for name in BASELINES:
        values = systems.get(name, {}).get(convention, {})
        lost = {m: 1 - own[m] / values[m] for m in MEASURES if m in own and values.get(m, 0) > own[m]}
        if lost:
            measure = max(lost, key=lambda m: lost[m])
            out.append({
                "baseline": name, "measure": measure, "bundle": own[measure], "value": values[measure],
                "percent": round(100 * lost[measure], 1), "p": chance(name, measure),
            })  # fmt: skip
    return out


def remedies(config: RunConfig, scores: Sequence[float]) -> list[str]:
    """Return what may help, the most promising first.

    :param scores: of the student's validations, oldest first.
    """
    from pocketrec.distill.training.model_selection import newest_is_best, window_size

    out = []
    if not config.experts.enabled:
        out.append("--set experts.enabled=true (transitions and words beside the model)")
    if not config.teacher.enabled:
        out.append("--set teacher.enabled=true, or leave out --no-teacher (a committee teaches the student)")
    if scores and newest_is_best(scores, window_size(len(scores))):
        out.append(f"--set train.epochs={2 * config.train.epochs} (validation was still rising)")
    out.append("--size large (a larger student)")
    out.append("pocketrec data check (is the order of events right, do texts and items fit?)")
    return out


def _clauses(found: Sequence[Below]) -> str:
    return ", ".join(
        f"{b['percent']:g} % below {b['baseline']} in {b['measure']} ({_short(b['bundle'])} against "
        f"{_short(b['value'])}{_chance(b['p'])})"
        for b in sorted(found, key=lambda b: -b["percent"])
    )


def _chance(p: float | None) -> str:
    return "" if p is None else ", p < .001" if p < 0.001 else f", p = {_short(p, 3)}"


def _short(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}".removeprefix("0")
