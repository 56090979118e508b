"""What each stage of a run does; `pocketrec.run.pipeline` says in which order.

Every method takes its stage's folder, reads what earlier stages wrote, and writes its outputs there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketrec.config import config_to_dict
from pocketrec.distill.progress import Progress
from pocketrec.processes import Processes
from pocketrec.run.models import committee_members, companions_of, crowd_of, load_run_sasrec, load_run_teacher, words_of
from pocketrec.run.run import (
    BUNDLE,
    CROWD,
    CURVE,
    FUSION,
    FUSION_FIT,
    LABELS,
    PRIVACY,
    RANKS,
    REPORT,
    SUMMARY,
    WORDS,
    Run,
    versions,
    write_json,
)
from pocketrec.runtime.files.atomic import atomic_write_text

if TYPE_CHECKING:
    from pocketrec.distill.training.trainer import LoopState

FUSION_CASES = 4000  # validation users that the experts' weights are fitted on


class StageWork:
    """The stages of one run as methods."""

    def __init__(
        self,
        run: Run,
        inputs: tuple[Path, Path | None],
        progress: Progress,
        external: Mapping[str, str],
        processes: Processes,
    ) -> None:
        """Prepare.

        :param inputs: the log, and the catalogue where there is one.
        :param external: hashes of the files from outside the run, by name.
        """
        self.run, self.config, self.inputs = run, run.config, inputs
        self.progress, self.external, self.processes = progress, external, processes
        self.max_history = run.config.evaluation.max_history

    def data(self, folder: Path) -> None:
        """Read, clean and check the log and the catalogue."""
        from pocketrec.distill.data.load import load_dataset
        from pocketrec.distill.data.storage import save_dataset

        save_dataset(load_dataset(*self.inputs, self.config.data, self.progress), folder)

    def text(self, folder: Path) -> None:
        """Encode item texts; an array without columns where there are none."""
        from pocketrec.distill.semantic_ids.text_vectors import encode_texts

        texts = self.run.catalogue.texts
        if self.config.text.encoder == "none" or not any(texts):
            vectors = np.zeros((len(texts), 0), np.float32)
        else:
            vectors = encode_texts(texts, self.config.text, self.progress)
        np.save(folder / "vectors.npy", vectors)

    def sids(self, folder: Path) -> None:
        """Learn codebooks, give every item a semantic ID."""
        from pocketrec.distill.semantic_ids.semantic_ids import build_semantic_ids

        build_semantic_ids(self.run.sources, self.config.sid, self.progress).save(folder)

    def student(self, folder: Path) -> None:
        """Train the student on hard labels."""
        from pocketrec.distill.training.student_training import train_student

        config = self.config
        state = train_student(self.run.split, self.run.ids, config.student, config.train, folder, self.progress)
        self._save_curve(folder, state)

    def sasrec(self, folder: Path) -> None:
        """Train SASRec."""
        from pocketrec.distill.training.sasrec_training import train_sasrec

        _, state = train_sasrec(
            self.run.split, self.run.n_items, self.config.sasrec, self.max_history, folder, self.progress
        )
        self._save_curve(folder, state)

    def sasrec_folds(self, folder: Path) -> None:
        """Train SASRec without each fold of users."""
        from pocketrec.distill.training.sasrec_training import train_sasrec_folds

        run, folds = self.run, self.config.soft_labels.sasrec_folds
        train_sasrec_folds(
            run.split, run.n_items, self.config.sasrec, self.max_history, folds, folder, self.progress
        )  # fmt: skip

    def teacher(self, folder: Path) -> None:
        """Train the teacher LLM."""
        from pocketrec.distill.training.teacher_training import train_teacher

        run = self.run
        surrogate = load_run_sasrec(self.run) if run.uses_influence else None
        _, state = train_teacher(
            run.split, run.teacher_sources, run.n_items, self.config.teacher, self.max_history, folder,
            self.progress, surrogate,
        )  # fmt: skip
        self._save_curve(folder, state)

    def soft_labels(self, folder: Path) -> None:
        """Fit the committee, measure it, write its labels."""
        from pocketrec.distill.committee.labelling import write_labels

        run, shares = self.run, (self.processes.rank, self.processes.world)
        members, left_out = committee_members(run)
        companions = companions_of(run) if self.config.distill.companions else None
        summary = write_labels(
            members, run.split, run.n_items, self.config, folder, self.progress, shares, companions
        )  # fmt: skip
        summary["left_out"] |= left_out
        self._note(folder / "committee.json", summary)

    def distill(self, folder: Path) -> None:
        """Distil the student."""
        from pocketrec.distill.committee.labelling import labelled
        from pocketrec.distill.committee.soft_labels import SoftLabels
        from pocketrec.distill.evaluation.validation import fitting_convention
        from pocketrec.distill.training.student_training import train_student

        run, config = self.run, self.config
        layers = load_run_teacher(self.run).layers() if config.distill.start == "teacher" else None
        split = replace(run.split, train=labelled(run.split.train, config.soft_labels))
        labels = SoftLabels(run.folder / LABELS, split.train)
        state = train_student(
            split, run.ids, config.student, config.train, folder, self.progress, labels, config.distill, layers,
            None if config.soft_labels.returns else fitting_convention(split.valid),
        )  # fmt: skip
        self._save_curve(folder, state)

    def prune(self, folder: Path) -> None:
        """Prune the student."""
        from pocketrec.run.prune import prune_run

        start = self.run.folder / self.run.student_stage
        prune_run(self.run, start, folder, self.progress, self.processes)

    def preference(self, folder: Path) -> None:
        """Refine the student by preferences; it stays as it was where validation did not improve."""
        from pocketrec.distill.training.preference import refine
        from pocketrec.distill.training.student_training import save_student

        run = self.run
        start = run.student(run.pruned_stage)
        refined, result = refine(start, run.split, run.ids, self.config.preference, folder, self.progress)
        if self.processes.main:
            save_student(refined, folder)
        self._note(folder / CURVE, {**result, **self._selection()})

    def baselines(self, folder: Path) -> None:
        """Fit and measure the baselines."""
        from pocketrec.distill.evaluation.kept_ranks import KeptRanks
        from pocketrec.distill.evaluation.protocol import measure_baselines

        run, kept = self.run, KeptRanks()
        sasrec = load_run_sasrec(run) if self.config.sasrec.enabled else None
        metrics = measure_baselines(
            run.split, run.n_items, sasrec, self.config.evaluation, self.progress, kept, run.catalogue.texts
        )
        write_json(folder / "metrics.json", metrics)
        kept.save(folder / RANKS)

    def experts(self, folder: Path) -> None:
        """Build crowd and words, and fit their weights beside the student on validation."""
        from pocketrec.distill.evaluation.protocol import sample
        from pocketrec.distill.experts.privacy import revealed
        from pocketrec.export.experts import BundleExperts
        from pocketrec.export.fusion import fit_fusion
        from pocketrec.runtime.recommender import Recommender

        run = self.run
        crowd, words = crowd_of(run, run.split.train), words_of(run)
        with tempfile.TemporaryDirectory() as place:
            bundle = Path(place) / BUNDLE
            run.write_bundle(run.student(run.weights_stage, self.config.export.depth), bundle, fused=False)
            with Recommender.load(bundle) as alone:
                cases = sample(run.split.valid, FUSION_CASES)
                fitted = fit_fusion(alone, BundleExperts(crowd, words), run.catalogue.item_ids, cases, self.progress)
        crowd.save(folder / Path(CROWD).name)
        if words is not None:
            words.save(folder / Path(WORDS).name)
        write_json(folder / Path(FUSION).name, asdict(fitted.weights))
        write_json(folder / Path(FUSION_FIT).name, fitted.record())
        reveals = revealed(run.split.train, crowd, self.config.experts.min_users)
        write_json(folder / Path(PRIVACY).name, {**asdict(reveals), "sentence": reveals.sentence})

    def export(self, folder: Path) -> None:
        """Write the bundle and measure it through the runtime."""
        from pocketrec.distill.evaluation.kept_ranks import KeptRanks
        from pocketrec.run.export import TrainedStudent

        run, settings, kept = self.run, self.config.export, KeptRanks()
        student = TrainedStudent(run, run.student(run.weights_stage, settings.depth))
        provenance, out = self._provenance(run.split.rule), folder / BUNDLE
        if settings.quantize == "none":
            student.write(out, provenance, kept, self.progress)
        else:  # the gate compares it with float32
            student.export(out, "onnx", settings.quantize, provenance=provenance, kept=kept, progress=self.progress)
        kept.save(folder / RANKS)

    def report(self, folder: Path, seconds: Mapping[str, float]) -> None:
        """Write the report.

        :param seconds: duration of each stage of the run.
        """
        from pocketrec.report.render import write_report
        from pocketrec.report.summary import to_json
        from pocketrec.run.summary import summarise

        summary = summarise(self.run, seconds)
        atomic_write_text(folder / SUMMARY, to_json(summary))
        write_report(summary, folder / REPORT)

    def _provenance(self, rule: str) -> dict[str, Any]:
        """How to make this bundle again. No time and no path: the same inputs give the same bytes."""
        config = config_to_dict(self.config)
        sections = ["data", "text", "sid", "student", "train", "teacher"]
        if self.config.teacher.enabled:
            sections += ["soft_labels", "distill", "preference", "sasrec"]
        if self.config.prune.wanted:
            sections.append("prune")
        if self.config.experts.enabled:
            sections.append("experts")
        return {
            "interactions_sha256": self.external["interactions"],
            "items_sha256": self.external.get("items", ""),
            "split": rule,
            "config": {name: config[name] for name in sections},
            "versions": versions(),
        }

    def _save_curve(self, folder: Path, state: LoopState) -> None:
        self._note(folder / CURVE, {"losses": state.losses, "validations": state.validations, **self._selection()})

    def _selection(self) -> dict[str, Any]:
        """How models of this run are selected on validation."""
        from pocketrec.distill.evaluation.validation import selection_record

        return {"selection": selection_record(self.run.split)}

    def _note(self, path: Path, content: Any) -> None:
        """Write JSON, from the main process only."""
        if self.processes.main:
            write_json(path, content)
