"""The path of the data as resumable stages: from a log and a catalogue to a bundle and a report.

    data → text → sids ──→ student ────────────────────────┬→ export → report
             └──→ teacher ─┬→ soft-labels → distill (or) ──┤
                  sasrec ──┴→ baselines ───────────────────┘

A student with a pruning target then passes `prune`; one with a preference method then passes `preference`.

A stage reads files of the stages before it and writes its own to RUN/<stage>/. `pocketrec.run.stages` decides which
stages are skipped; `pocketrec.run.stage_work` does their work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.config import config_to_dict
from pocketrec.distill.config import RunConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.processes import Processes
from pocketrec.run.measured import ALONE, convention_of_run, measured_systems, p_values, what_won
from pocketrec.run.prune import prune_sections, uses_labels
from pocketrec.run.run import (
    BEST_WEIGHTS,
    BUNDLE,
    CATALOGUE,
    CONFIG,
    CROWD,
    CURVE,
    EVENTS,
    FUSION,
    FUSION_FIT,
    LABELS,
    PRIVACY,
    PRUNED,
    REPORT,
    SHAPE,
    SIDS,
    SUMMARY,
    TEXT_VECTORS,
    Run,
    read_json,
    write_json,
)
from pocketrec.run.shortfall import Shortfall, run_shortfall
from pocketrec.run.stage_work import StageWork
from pocketrec.run.stages import FileHashes, Stage, StageRunner, StageStatus
from pocketrec.runtime.bundle.manifest import SCHEMA_VERSION
from pocketrec.runtime.errors import ConfigError, DataError


@dataclass(frozen=True)
class RunResult:
    """What a finished run gives.

    metrics: measures of the exported bundle by convention. alone, baselines, teachers: the same by name of the system;
    alone: of the student and the experts in the bundle, each by itself, empty for a bundle without experts; teachers is
    empty for a run without a teacher. systems: all of them, by the names of the report. verdict: one line that says
    what won. shortfall: simple baselines that are better than the bundle, and what to try; None: there are none.
    privacy: a sentence on what the bundle reveals of single people; may be empty. seconds: duration of this call.
    """

    run: Path
    bundle: Path
    report: Path
    metrics: dict[str, Any]
    alone: dict[str, Any]
    baselines: dict[str, Any]
    teachers: dict[str, Any]
    systems: dict[str, Any]
    verdict: str
    privacy: str
    shortfall: Shortfall | None
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

        :param run: folder of the run; created, or resumed if it is there.
        :param interactions: the log: a file, or a folder of files.
        :param items: the catalogue; None: the items of the log, known only by their ids.
        :param config: from `pocketrec.config.load_config`.
        :param progress: told about all long work.
        :param processes: where several work on the run; None: as `accelerate launch` says, if it started this process.
        :raises DataError: if an input file does not exist.
        """
        self._run, self.folder, self.config = Run(run, config), Path(run), config
        self.inputs = Path(interactions), Path(items) if items else None
        self.processes = processes or Processes.launched()
        hashes = FileHashes()
        external = {name: _input_hash(hashes, path) for name, path in self._outside().items()}
        external["bundle schema"] = str(SCHEMA_VERSION)  # a bundle that an older pocketrec wrote is exported again
        work = StageWork(self._run, self.inputs, progress, external, self.processes)
        self.runner = StageRunner(
            self.folder, self._stages(work, external), config_to_dict(config), external, self.processes, hashes
        )

    def status(self) -> list[StageStatus]:
        """Return the state of every stage: done, to do, or changed since it was done."""
        return self.runner.status()

    def read_data(self, on_stage: Callable[[Stage, bool], None] = lambda s, skipped: None) -> None:
        """Run the stage `data` alone, unless it is done."""
        self.runner.run(None, on_stage, last="data")

    def run(
        self, start: str | None = None, on_stage: Callable[[Stage, bool], None] = lambda s, skipped: None
    ) -> RunResult:
        """Run every stage that is not done, and return the results and where they are.

        :param start: run this stage and all after it from scratch, done or not.
        :param on_stage: called with each stage before it runs, and whether it is skipped.
        :raises PocketRecError: if a stage refuses its inputs; finished stages are kept, and the next call resumes.
        """
        begun = time.monotonic()
        run = self._run
        if self.processes.main:
            run.folder.mkdir(parents=True, exist_ok=True)
            write_json(run.folder / CONFIG, config_to_dict(self.config))
        self.runner.run(start, on_stage)
        metrics, systems = read_json(run.bundle / "manifest.json")["metrics"], measured_systems(run)
        return RunResult(
            run=run.folder,
            bundle=run.bundle,
            report=run.report,
            metrics={convention: metrics[convention] for convention in metrics if convention != ALONE},
            alone=metrics.get(ALONE, {}),
            baselines=read_json(run.folder / "baselines" / "metrics.json"),
            teachers=run.teachers(),
            systems=systems,
            verdict=what_won(systems, p_values(run), convention_of_run(run)),
            privacy=run.privacy,
            shortfall=run_shortfall(run, systems),
            seconds=round(time.monotonic() - begun, 1),
        )

    def _outside(self) -> dict[str, Path]:
        """Files from outside the run, by the names that stages give them in `needs`."""
        interactions, items = self.inputs
        images, encoder = self.config.data.images, Path(self.config.text.encoder)
        named = {"interactions": interactions, "items": items, "images": Path(images) if images else None}
        if encoder.exists():  # a path, not the name of an encoder
            named["encoder"] = encoder
        return {name: path for name, path in named.items() if path is not None}

    def _stages(self, work: StageWork, external: Mapping[str, str]) -> list[Stage]:
        outside = tuple(name for name in ("interactions", "items", "images") if name in external)
        encoder = ("encoder",) if "encoder" in external else ()
        sasrec = (f"sasrec/{BEST_WEIGHTS}",) if self.config.sasrec.enabled else ()
        train_sasrec = [Stage("sasrec", "train SASRec", ("sasrec", "data", "evaluation"), (EVENTS,),
                              (BEST_WEIGHTS, CURVE), work.sasrec, together=True)] if sasrec else []  # fmt: skip
        sids_need = sasrec if self.config.sid.collaborative_source == "sasrec" else ()
        if self.config.sid.collaborative_source == "sasrec" and not sasrec:
            raise ConfigError("sid.collaborative_source is sasrec, but sasrec.enabled is false; change one of them")
        training = self._training(work)
        student = tuple(f"{training[-1].name}/{name}" for name in (BEST_WEIGHTS, SHAPE))
        curve = f"{training[-1].name}/{CURVE}"
        experts = (CROWD, FUSION) if self.config.experts.enabled else ()
        return [
            Stage("data", "read, clean and check the log and the catalogue", ("data",), outside,
                  ("events.safetensors", "catalogue.json", "report.json"), work.data),
            Stage("text", "encode item texts", ("text",), (CATALOGUE, *encoder), ("vectors.npy",), work.text),
            *(train_sasrec if sids_need else []),
            Stage("sids", "learn codebooks, give every item a semantic ID", ("sid", "data"),
                  (EVENTS, TEXT_VECTORS, *sids_need), ("codebooks.safetensors", "sids.npy", "quality.json"), work.sids),
            *([] if sids_need else train_sasrec),
            *training,
            Stage("baselines", "fit and measure the baselines", ("sasrec", "data", "evaluation"),
                  (EVENTS, CATALOGUE, *sasrec), ("metrics.json",), work.baselines),
            *([Stage("experts", "build crowd and words, fit their weights", ("experts", "export", "data"),
                     (EVENTS, CATALOGUE, SIDS, *student),
                     tuple(Path(file).name for file in (CROWD, FUSION, FUSION_FIT, PRIVACY)), work.experts)]
              if self.config.experts.enabled else []),
            Stage("export", "write the bundle and measure it through the runtime",
                  ("export", "evaluation", "student", "data", "recipe.max_bytes"),
                  (EVENTS, CATALOGUE, SIDS, *student, *experts, "bundle schema"), (BUNDLE,), work.export),
            Stage("report", "write the report", (),
                  (f"export/{BUNDLE}/manifest.json", "baselines/metrics.json", curve),
                  (REPORT, SUMMARY), lambda folder: work.report(folder, self.runner.seconds())),
        ]  # fmt: skip

    def _training(self, work: StageWork) -> list[Stage]:
        """Return the stages that make the student; the last one writes the weights that are exported."""
        if self.config.teacher.enabled:
            stages = self._teaching(work)
        else:
            stages = [Stage("student", "train the student", ("student", "train", "data"), (EVENTS, SIDS),
                            (BEST_WEIGHTS, SHAPE, CURVE), work.student, together=True)]  # fmt: skip
        if self.config.prune.wanted:
            labels = (LABELS,) if uses_labels(self.config) else ()
            needs = (EVENTS, SIDS, *_student_files(stages), *labels)
            stages.append(Stage("prune", "prune the student", prune_sections(self.config), needs,
                                (BEST_WEIGHTS, SHAPE, CURVE, PRUNED), work.prune, together=True))  # fmt: skip
        if self.config.preference.method != "none":
            needs = (EVENTS, SIDS, *_student_files(stages))
            stages.append(Stage("preference", "refine the student, kept if better", ("preference", "student", "data"),
                                needs, (BEST_WEIGHTS, SHAPE, CURVE), work.preference, together=True))  # fmt: skip
        return stages

    def _teaching(self, work: StageWork) -> list[Stage]:
        """Return the stages between semantic IDs and export when there is a teacher."""
        members = self.config.soft_labels.members
        needs, first = [EVENTS], []
        if "llm" in members:
            surrogate = (f"sasrec/{BEST_WEIGHTS}",) if self._run.uses_influence else ()
            first = [Stage("teacher", "train the teacher LLM", ("teacher", "sid", "data", "evaluation"),
                           (EVENTS, TEXT_VECTORS, SIDS, *surrogate), (BEST_WEIGHTS, CURVE), work.teacher,
                           together=True)]  # fmt: skip
            needs.append(f"teacher/{BEST_WEIGHTS}")
        if "sasrec" in members:
            if not self.config.sasrec.enabled:
                raise ConfigError("soft_labels.members names sasrec, but sasrec.enabled is false; change one of them")
            needs.append(f"sasrec/{BEST_WEIGHTS}")
            folds = tuple(f"fold-{fold}/{BEST_WEIGHTS}" for fold in range(self.config.soft_labels.sasrec_folds))
            if len(folds) > 1:
                first.append(Stage("sasrec-folds", "train SASRec without each fold of users",
                                   ("sasrec", "data", "evaluation", "soft_labels.sasrec_folds"), (EVENTS,),
                                   folds, work.sasrec_folds, together=True))  # fmt: skip
                needs += [f"sasrec-folds/{name}" for name in folds]
        sections = ["soft_labels", "teacher", "sasrec", "data", "evaluation"]
        if self.config.distill.companions:
            if not self.config.experts.enabled:
                raise ConfigError(
                    "distill.companions is above 0, but the bundle has no experts that the student could rely on; "
                    "set experts.enabled=true, or distill.companions=0"
                )
            sections.append("distill.companions")
        if self.config.distill.companions or "words" in members:
            needs.append(CATALOGUE)
            sections.append("experts")
        start = (f"teacher/{BEST_WEIGHTS}",) if self.config.distill.start == "teacher" else ()
        return [
            *first,
            Stage("soft-labels", "fit the committee, write its labels", tuple(sections), tuple(needs),
                  ("committee.json", "labels"), work.soft_labels, together=True),
            Stage("distill", "distil the student", ("student", "train", "data", "distill", "soft_labels.returns"),
                  (EVENTS, SIDS, LABELS, *start), (BEST_WEIGHTS, SHAPE, CURVE), work.distill, together=True),
        ]  # fmt: skip


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measures with seen items kept (the papers' convention), and the others under "seen excluded"."""
    return {**metrics["seen kept"], "seen excluded": metrics["seen excluded"]}


def _student_files(stages: list[Stage]) -> list[str]:
    """The weights and the shape that the last of the stages writes."""
    return [f"{stages[-1].name}/{name}" for name in (BEST_WEIGHTS, SHAPE)]


def _input_hash(hashes: FileHashes, path: Path) -> str:
    if not path.exists():
        raise DataError(f"{path} does not exist; give the path of a file, or of a folder of files")
    return hashes.of(path)
