"""What a run measured on the test split, system by system, and the sentence that says what won."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pocketrec.run.run import FUSION_FIT, RANKS, Run, read_json

ALONE = "alone"  # key of a manifest's measures that holds those of the bundle's parts
NBSP = "\u00a0"  # keeps a number and its sign on one line
GRAPH_AND_WORDS = "graph and words"  # the baseline
CONVENTION, MEASURE = "seen excluded", "recall@10"  # as in an app
CHANCE = 0.05  # from this p-value on, the sentence says that a difference may be chance
OTHERS = ("student alone", GRAPH_AND_WORDS, "committee")  # systems that the sentence names, if they were measured


def bundle_name(manifest: Mapping[str, Any]) -> str:
    """Name a bundle by its parts: "student (exported bundle)", or "crowd + words + student" with experts."""
    fusion = manifest.get("fusion") or {}
    experts = [name for name in ("crowd", "words") if fusion.get(name)]
    return " + ".join([*experts, "student"]) if experts else "student (exported bundle)"


def measured_systems(run: Run) -> dict[str, Any]:
    """Measures by system, convention and name: the exported bundle first, then its parts, teachers and baselines."""
    manifest = read_json(run.bundle / "manifest.json")
    metrics = dict(manifest["metrics"])
    alone = metrics.pop(ALONE, {})
    return {
        bundle_name(manifest): metrics,
        **{f"{name} alone": by_convention for name, by_convention in alone.items()},
        **run.teachers(),
        **read_json(run.folder / "baselines" / "metrics.json"),
    }


def left_out(run: Run) -> list[str]:
    """Say which members of the committee and which experts got no weight, and why; and what else the fits noted."""
    found = []
    committee = run.folder / "soft-labels" / "committee.json"
    if run.config.teacher.enabled and committee.exists():
        reasons = read_json(committee).get("left_out", {})
        found += [f"The committee leaves out {name}: {reason}." for name, reason in reasons.items()]
    if run.config.experts.enabled and (run.folder / FUSION_FIT).exists():
        found += read_json(run.folder / FUSION_FIT)["notes"]
    return found


def p_values(run: Run) -> dict[str, dict[str, float]]:
    """Two-sided p-values of the bundle's recall@10 against other systems, by system and convention.

    From a paired bootstrap over test users (see `distill.evaluation.metrics.paired_difference`). Systems whose ranks
    were not kept are left out.
    """
    from pocketrec.distill.evaluation.kept_ranks import KeptRanks

    kept = KeptRanks.load(run.folder / "baselines" / RANKS, run.bundle.parent / RANKS)
    out: dict[str, dict[str, float]] = {}
    systems = measured_systems(run)
    for system in list(systems)[1:]:
        for convention in systems[system]:
            found = kept.difference("bundle", system.removesuffix(" alone"), convention, MEASURE)
            if found is not None:
                out.setdefault(system, {})[convention] = found.p
    return out


def convention_of_run(run: Run) -> str:
    """Return the convention that counts for a run's people (see `distill.evaluation.validation`)."""
    from pocketrec.distill.evaluation.validation import convention_of

    return convention_of(run.split.valid)


def what_won(systems: Mapping[str, Any], p: Mapping[str, Mapping[str, float]], convention: str = CONVENTION) -> str:
    """Say in one line how the bundle stands beside the student alone, graph and words, and the committee.

    :param systems: as `measured_systems` gives them. p: as `p_values` gives them.
    :param convention: by which they are compared; `convention_of_run` gives a run's own.
    :return: for example "crowd + words + student: recall@10 .1121, 27 % above student alone (p < .001)".
    """
    name, *rest = systems
    own = systems[name][convention][MEASURE]

    def value_of(system: str) -> float:
        return float(systems[system].get(convention, {}).get(MEASURE) or 0.0)

    clauses = []
    named = [other for other in OTHERS if other in rest]
    best = max((other for other in rest if other not in OTHERS), key=value_of, default="")
    if best and all(value_of(best) > value_of(other) for other in named):
        named.append(best)  # it is ahead of all that the sentence names otherwise
    for other in named:
        value = value_of(other)
        if value > 0:
            clauses.append(_clause(own, value, other, p.get(other, {}).get(convention)))
    text = f"{name}: {MEASURE} {_decimal(own)} ({convention})"
    return f"{text}, {', '.join(clauses)}" if clauses else text


def _clause(own: float, value: float, other: str, p: float | None) -> str:
    change = round(100 * (own / value - 1))
    chance = "" if p is None else f" (p{NBSP}<{NBSP}.001)" if p < 0.001 else f" (p{NBSP}={NBSP}{_decimal(p, 3)})"
    if p is not None and p >= CHANCE:
        chance = f" (p{NBSP}={NBSP}{_decimal(p, 3)}: may be chance)"
    if change == 0:
        return f"level with {other}{chance}"
    return f"{abs(change)}{NBSP}% {'above' if change > 0 else 'below'} {other}{chance}"


def _decimal(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}".removeprefix("0")
