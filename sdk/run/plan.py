"""The plan of a run: the settings that follow from the data's size, and the time that its stages should take.

The sizes are known once the log is read, so the stage `data` runs first. A setting of the user wins over the recipe.
RUN/plan.json keeps what the choice was made from; a run that is resumed on another machine keeps its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.config import config_of, config_to_dict, nested
from pocketrec.distill.config import RunConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.forecast import Machine, machine_speed, on_this_machine, reference_seconds
from pocketrec.recipe import Case, does_not_fit, recipe
from pocketrec.run.pipeline import Pipeline
from pocketrec.run.run import CATALOGUE, DATA_REPORT, EVENTS, read_json, write_json
from pocketrec.run.stages import Stage
from pocketrec.sizes import DataFacts, bundle_parts, student_parameters

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    reasons: sentences on the settings that follow from the data; empty without a recipe. parameters: of the student,
    about. expected_bytes: of the bundle, about. expected: seconds of every stage on this machine, about; of stages
    that are done as well.
    """

    pipeline: Pipeline
    facts: DataFacts
    reasons: tuple[str, ...]
    parameters: int
    expected_bytes: int
    expected: Mapping[str, float]

    def seconds_left(self) -> float:
        """Expected seconds of the stages that are not done."""
        todo = (status.name for status in self.pipeline.status() if status.state != "done")
        return sum(self.expected.get(name, 0.0) for name in todo)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan for JSON."""
        return {
            "data": asdict(self.facts), "reasons": list(self.reasons), "parameters": self.parameters,
            "bytes": self.expected_bytes, "seconds": {name: round(s, 1) for name, s in self.expected.items()},
        }  # fmt: skip


def make_plan(
    run: str | Path,
    interactions: str | Path,
    items: str | Path | None,
    given: Mapping[str, Any],
    progress: Progress = SILENT,
    on_stage: Callable[[Stage, bool], None] = lambda s, skipped: None,
) -> Plan:
    """Read the data (the stage `data`, unless it is done), and settle the configuration of the other stages.

    :param run: folder of the run; created when needed.
    :param given: the user's own settings, section → name → value, as `pocketrec.config.given_settings` reads them.
    :raises ConfigError: if a setting is wrong, or the bundle cannot have at most `recipe.max_bytes`.
    :raises DataError: if the data cannot be read.
    """
    own = config_of(given)
    before = Pipeline(run, interactions, items, own, progress)
    before.read_data(on_stage)
    facts = read_facts(Path(run), own)
    machine = _machine(Path(run), facts)
    config, reasons = _settle(own, given, facts, machine)
    pipeline = Pipeline(run, interactions, items, config, progress, before.processes)
    speed = machine_speed(machine) if before.processes.main else 1.0
    plan = Plan(
        pipeline, facts, reasons, student_parameters(config.student, config.sid, facts.items),
        sum(bundle_parts(config, facts).values()),
        on_this_machine(reference_seconds(config, facts), machine, speed),
    )  # fmt: skip
    if before.processes.main:
        write_json(Path(run) / PLAN, {"machine": asdict(machine), **plan.to_dict()})
    return plan


def read_facts(run: Path, config: RunConfig) -> DataFacts:
    """Read the data's size from what the stage `data` left."""
    from pocketrec.distill.data.storage import load_histories

    report, catalogue = read_json(run / DATA_REPORT), read_json(run / CATALOGUE)
    histories = load_histories((run / EVENTS).parent)
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    distinct = len(np.unique(user * np.int64(report["items"]) + histories.events()))
    return DataFacts(
        users=len(histories),
        items=int(report["items"]),
        events=len(user),
        text_bytes=_utf8(catalogue["texts"]),
        name_bytes=_utf8(catalogue["titles"]) + _utf8(catalogue["item_ids"]),
        repeats=round(1 - distinct / max(1, len(user)), 4),
    )


def changed_settings(config: RunConfig) -> list[str]:
    """Return the settings that differ from their defaults, as `section.name=value`."""
    usual = _flat(config_to_dict(RunConfig()))
    return [f"{name}={value}" for name, value in _flat(config_to_dict(config)).items() if value != usual[name]]


def _settle(
    own: RunConfig, given: Mapping[str, Any], facts: DataFacts, machine: Machine
) -> tuple[RunConfig, tuple[str, ...]]:
    """The recipe's settings below the user's own; and the recipe's reasons."""
    size, max_bytes = own.recipe.size, own.recipe.max_bytes
    config = own
    reasons: tuple[str, ...] = ()
    if size != "none":
        teacher = own.teacher.enabled if "enabled" in given.get("teacher", {}) else True
        chosen = recipe(Case(facts, machine, size, max_bytes, teacher, given))
        config, reasons = config_of(given, nested(chosen.settings)), chosen.reasons
    if max_bytes is not None and not config.prune.wanted and sum(bundle_parts(config, facts).values()) > max_bytes:
        raise does_not_fit(config, facts, max_bytes)
    return config, reasons


def _machine(run: Path, facts: DataFacts) -> Machine:
    """The machine that the run was planned on before, if its data is the same; else this one."""
    if (run / PLAN).exists():
        noted = read_json(run / PLAN)
        if noted["data"] == asdict(facts):
            return Machine(**noted["machine"])
    return Machine.here()


def _utf8(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in tree.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return out
