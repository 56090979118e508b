"""The path of the data as resumable stages: from a log and a catalogue to a bundle and a report.

    data → text → sids ──→ student ────────────────────────┬→ export → report
             └──→ teacher ─┬→ soft-labels → distill (or) ──┤
                  sasrec ──┴→ baselines ───────────────────┘

Where a target is set, `prune` comes behind the student; where a method is, `preference` behind that.

Each stage reads files of the stages before it and leaves its own in RUN/<stage>/; `sdk.stages` decides what to skip.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.config import config_to_dict
from pocketrec.distill.config import RunConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.processes import Processes
from pocketrec.run.run_files import (
    BUNDLE,
    CURVE,
    PRUNED,
    REPORT,
    SHAPE,
    WEIGHTS,
    influence_wanted,
    read_json,
    read_teachers,
    write_text,
)
from pocketrec.run.stage_work import StageWork
from pocketrec.run.stages import Stage, StageRunner, StageStatus, hash_path
from pocketrec.runtime.errors import ConfigError, DataError


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    metrics: measures of the exported bundle by convention. baselines, teachers: the same by name; teachers is empty
    for a run without one.
    """

    run: Path
    bundle: Path
    report: Path
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    teachers: dict[str, Any]
    seconds: float


class Pipeline:
    """Trains and exports; finished stages whose inputs are unchanged are skipped."""

    def __init__(
        self,
        run: str | Path,
        interactions: str | Path,
        items: str | Path | None,
        config: RunConfig,
        progress: Progress = SILENT,
        processes: Processes | None = None,
    ) -> None:
        """Prepare a run.

        :param run: folder of the run; created, or continued if it is there.
        :param interactions: the log: a file, or a folder of parts.
        :param items: the catalogue; None: the items of the log, known by their ids alone.
        :param config: from `pocketrec.config.load_config`.
        :param progress: told about all long work.
        :param processes: where several work on the run; None: what `accelerate launch` says, if it started this.
        :raises DataError: if an input file does not exist.
        """
        self.folder, self.config, self.progress = Path(run), config, progress
        self.interactions, self.items = Path(interactions), Path(items) if items else None
        external = {"interactions": _file_hash(self.interactions)}
        if self.items:
            external["items"] = _file_hash(self.items)
        if config.data.images:
            external["images"] = _file_hash(Path(config.data.images))
        encoder = Path(config.text.encoder)
        if encoder.exists():
            external["encoder"] = _file_hash(encoder)
        self.processes = processes or Processes.launched()
        stages = self._stages(external)
        self.runner = StageRunner(self.folder, stages, config_to_dict(config), external, self.processes)

    def status(self) -> list[StageStatus]:
        """Tell of every stage whether it is done, to do, or overtaken by a change."""
        return self.runner.status()

    def run(
        self, start: str | None = None, on_stage: Callable[[Stage, bool], None] = lambda s, skipped: None
    ) -> RunResult:
        """Run what is not done and return where everything lies.

        :param start: begin at this stage even if it is done.
        :param on_stage: told of each stage before it runs, and whether it is skipped.
        :raises PocketRecError: whatever a stage refuses; what is finished stays, and the next run goes on from there.
        """
        begun = time.monotonic()
        if self.processes.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / "config.json", json.dumps(config_to_dict(self.config), indent=1))
        self.runner.run(start, on_stage)
        bundle = self.folder / "export" / BUNDLE
        metrics = read_json(bundle / "manifest.json")["metrics"]
        return RunResult(
            run=self.folder,
            bundle=bundle,
            report=self.folder / "report" / REPORT,
            metrics=metrics,
            baselines=read_json(self.folder / "baselines" / "metrics.json"),
            teachers=read_teachers(self.folder) if self.config.teacher.enabled else {},
            seconds=round(time.monotonic() - begun, 1),
        )

    def _stages(self, external: Mapping[str, str]) -> list[Stage]:
        work = StageWork(
            self.folder, (self.interactions, self.items), self.config, self.progress, external, self.processes
        )
        outside = [name for name in ("interactions", "items", "images") if name in external]
        encoder = ("encoder",) if "encoder" in external else ()
        events, catalogue, sids = "data/events.safetensors", "data/catalogue.json", "sids/sids.npy"
        sasrec = (f"sasrec/{WEIGHTS}",) if self.config.sasrec.enabled else ()
        training = self._training(work, events, sids)
        student = tuple(f"{training[-1].name}/{name}" for name in (WEIGHTS, SHAPE))
        curve = f"{training[-1].name}/{CURVE}"
        return [
            Stage("data", "read, clean and check the log and the catalogue", ("data",), tuple(outside),
                  ("events.safetensors", "catalogue.json", "report.json"), work.data),
            Stage("text", "encode item texts", ("text",), (catalogue, *encoder), ("vectors.npy",), work.text),
            Stage("sids", "learn codebooks, give every item a semantic ID", ("sid", "data"),
                  (events, "text/vectors.npy"), ("codebooks.safetensors", "sids.npy", "quality.json"), work.sids),
            *([Stage("sasrec", "train SASRec", ("sasrec", "data", "evaluation"), (events,),
                     (WEIGHTS, CURVE), work.sasrec, together=True)] if sasrec else []),
            *training,
            Stage("baselines", "fit and measure the baselines", ("sasrec", "data", "evaluation"), (events, *sasrec),
                  ("metrics.json",), work.baselines),
            Stage("export", "write the bundle and measure it through the runtime",
                  ("export", "evaluation", "student", "data"), (events, catalogue, sids, *student),
                  (BUNDLE,), work.export),
            Stage("report", "write the report", (),
                  (f"export/{BUNDLE}/manifest.json", "baselines/metrics.json", curve),
                  (REPORT, "summary.json"), lambda folder: work.report(folder, self.runner.seconds())),
        ]  # fmt: skip

    def _training(self, work: StageWork, events: str, sids: str) -> list[Stage]:
        """The stages that make the student; the last one leaves its weights."""
        if self.config.teacher.enabled:
            stages = self._teaching(work, events, sids)
        else:
            stages = [Stage("student", "train the student", ("student", "train", "data"), (events, sids),
                            (WEIGHTS, SHAPE, CURVE), work.student, together=True)]  # fmt: skip
        if self.config.prune.wanted:
            stages.append(self._pruning(work, events, sids, stages[-1].name))
        if self.config.preference.method != "none":
            stages.append(
                Stage("preference", "refine the student, kept if better", ("preference", "student", "data"),
                      (events, sids, *(f"{stages[-1].name}/{name}" for name in (WEIGHTS, SHAPE))),
                      (WEIGHTS, SHAPE, CURVE), work.preference, together=True)
            )  # fmt: skip
        return stages

    def _pruning(self, work: StageWork, events: str, sids: str, before: str) -> Stage:
        from pocketrec.run.prune import LABELS, sections, uses_labels

        needs = (events, sids, f"{before}/{WEIGHTS}", f"{before}/{SHAPE}")
        labels = (LABELS,) if uses_labels(self.config) else ()
        return Stage("prune", "prune the student", sections(self.config), (*needs, *labels),
                     (WEIGHTS, SHAPE, CURVE, PRUNED), work.prune, together=True)  # fmt: skip

    def _teaching(self, work: StageWork, events: str, sids: str) -> list[Stage]:
        """The stages between semantic IDs and export when there is a teacher."""
        members = self.config.soft_labels.members
        needs, first = [events], []
        if "llm" in members:
            text = "text/vectors.npy"
            surrogate = (f"sasrec/{WEIGHTS}",) if influence_wanted(self.config) else ()
            first = [Stage("teacher", "train the teacher LLM", ("teacher", "sid", "data", "evaluation"),
                           (events, text, sids, *surrogate), (WEIGHTS, CURVE), work.teacher,
                           together=True)]  # fmt: skip
            needs.append(f"teacher/{WEIGHTS}")
        if "sasrec" in members:
            if not self.config.sasrec.enabled:
                raise ConfigError("soft_labels.members names sasrec, but sasrec.enabled is false; change one of them")
            needs.append(f"sasrec/{WEIGHTS}")
            folds = tuple(f"fold-{fold}/{WEIGHTS}" for fold in range(self.config.soft_labels.sasrec_folds))
            if len(folds) > 1:
                first.append(Stage("sasrec-folds", "train SASRec without each fold of users",
                                   ("sasrec", "data", "evaluation", "soft_labels.sasrec_folds"), (events,),
                                   folds, work.sasrec_folds, together=True))  # fmt: skip
                needs += [f"sasrec-folds/{name}" for name in folds]
        sections = ("soft_labels", "teacher", "sasrec", "data", "evaluation")
        start = (f"teacher/{WEIGHTS}",) if self.config.distill.start == "teacher" else ()
        return [
            *first,
            Stage("soft-labels", "fit the committee, write its labels", sections, tuple(needs),
                  ("committee.json", "labels"), work.soft_labels, together=True),
            Stage("distill", "distil the student", ("student", "train", "data", "distill"),
                  (events, sids, "soft-labels/labels", *start),
                  (WEIGHTS, SHAPE, CURVE), work.distill, together=True),
        ]  # fmt: skip


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the papers' convention (seen items kept) flat, the other one beneath it, for `--json`."""
    return {**metrics["seen kept"], "seen excluded": metrics["seen excluded"]}


def _file_hash(path: Path) -> str:
    if not path.exists():
        raise DataError(f"{path} does not exist; give the path of a file or of a folder of parts")
    return hash_path(path)
