"""What each stage of a run does; `sdk.pipeline` says when.

Every method takes its stage's own folder, reads what earlier stages left, and writes its outputs there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketrec.config import config_to_dict
from pocketrec.distill.config import RunConfig
from pocketrec.distill.progress import Progress
from pocketrec.processes import Processes
from pocketrec.run.run_bundle import write_run_bundle
from pocketrec.run.run_files import (
    BUNDLE,
    CURVE,
    REPORT,
    influence_wanted,
    pruned_stage,
    student_stage,
    versions,
    weights_stage,
    write_text,
)
from pocketrec.run.run_sources import item_sources, teacher_sources

if TYPE_CHECKING:
    from pocketrec.distill.data.splits import Split
    from pocketrec.distill.models.teacher import Teacher
    from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
    from pocketrec.distill.training.trainer import LoopState


class StageWork:
    """The stages of one run as methods."""

    def __init__(
        self,
        run: Path,
        inputs: tuple[Path, Path | None],
        config: RunConfig,
        progress: Progress,
        external: Mapping[str, str],
        processes: Processes,
    ) -> None:
        """Prepare.

        :param inputs: the log, and the catalogue where there is one.
        :param external: hashes of the files from outside the run.
        """
        self.folder, self.inputs, self.config = run, inputs, config
        self.progress, self.external, self.processes = progress, external, processes

    def data(self, folder: Path) -> None:
        """Read, clean and check the log and the catalogue."""
        from pocketrec.distill.data.load import load_dataset
        from pocketrec.distill.data.storage import save_dataset

        dataset = load_dataset(*self.inputs, self.config.data, self.progress)
        save_dataset(dataset, folder)

    def text(self, folder: Path) -> None:
        """Encode item texts; an array without columns where there are none."""
        from pocketrec.distill.data.storage import load_catalogue
        from pocketrec.distill.semantic_ids.text_vectors import encode_texts

        texts = load_catalogue(self.folder / "data").texts
        none = self.config.text.encoder == "none" or not any(texts)
        vectors = (
            np.zeros((len(texts), 0), np.float32) if none else encode_texts(texts, self.config.text, self.progress)
        )
        np.save(folder / "vectors.npy", vectors)

    def sids(self, folder: Path) -> None:
        """Learn codebooks, give every item a semantic ID."""
        from pocketrec.distill.semantic_ids.semantic_ids import build_semantic_ids

        build_semantic_ids(item_sources(self.folder, self.config), self.config.sid, self.progress).save(folder)

    def student(self, folder: Path) -> None:
        """Train the student on hard labels."""
        from pocketrec.distill.training.student_training import train_student

        split, ids = self._split(), self._ids()
        state = train_student(split, ids, self.config.student, self.config.train, folder, self.progress)
        self._save_curve(folder, state)

    def sasrec(self, folder: Path) -> None:
        """Train SASRec."""
        from pocketrec.distill.training.sasrec_training import train_sasrec

        split, history = self._split(), self.config.evaluation.max_history
        _, state = train_sasrec(split, self._n_items(), self.config.sasrec, history, folder, self.progress)
        self._save_curve(folder, state)

    def sasrec_folds(self, folder: Path) -> None:
        """Train SASRec without each fold of users."""
        from pocketrec.distill.training.sasrec_training import train_sasrec_folds

        config, history = self.config, self.config.evaluation.max_history
        folds = config.soft_labels.sasrec_folds
        train_sasrec_folds(self._split(), self._n_items(), config.sasrec, history, folds, folder, self.progress)

    def teacher(self, folder: Path) -> None:
        """Train the teacher LLM."""
        from pocketrec.distill.training.sasrec_training import load_sasrec
        from pocketrec.distill.training.teacher_training import train_teacher

        split, history, surrogate = self._split(), self.config.evaluation.max_history, None
        if influence_wanted(self.config):
            surrogate = load_sasrec(self.folder / "sasrec", self.config.sasrec, self._n_items(), history)
        _, state = train_teacher(
            split, teacher_sources(self.folder, self.config), self._n_items(), self.config.teacher, history, folder,
            self.progress, surrogate,
        )  # fmt: skip
        self._save_curve(folder, state)

    def soft_labels(self, folder: Path) -> None:
        """Fit the committee, measure it, write its labels."""
        from pocketrec.distill.committee.labelling import write_labels

        split, n_items = self._split(), self._n_items()
        shares = self.processes.rank, self.processes.world
        members = self._members(split, n_items)
        summary = write_labels(members, split, n_items, self.config, folder, self.progress, shares)
        self._note(folder / "committee.json", summary)

    def distill(self, folder: Path) -> None:
        """Distil the student."""
        from pocketrec.distill.committee.labelling import labelled
        from pocketrec.distill.committee.soft_labels import SoftLabels
        from pocketrec.distill.training.student_training import train_student

        split, ids, layers = self._split(), self._ids(), None
        if self.config.distill.start == "teacher":
            layers = self._load_teacher().layers()
        split = replace(split, train=labelled(split.train, self.config.soft_labels))
        labels = SoftLabels(self.folder / "soft-labels" / "labels", split.train)
        state = train_student(
            split, ids, self.config.student, self.config.train, folder, self.progress, labels, self.config.distill,
            layers,
        )  # fmt: skip
        self._save_curve(folder, state)

    def prune(self, folder: Path) -> None:
        """Prune the student."""
        from pocketrec.run.prune import prune_run

        start = self.folder / student_stage(self.config)
        prune_run(self.folder, start, self.config, folder, self.progress, self.processes)

    def preference(self, folder: Path) -> None:
        """Refine the student by preferences; its start comes through where validation did not improve."""
        from pocketrec.distill.training.preference import refine
        from pocketrec.distill.training.student_training import load_student, save_student

        config, ids = self.config, self._ids()
        start = load_student(self.folder / pruned_stage(config), ids)
        refined, result = refine(start, self._split(), ids, config.preference, folder, self.progress)
        if self.processes.main:
            save_student(refined, folder)
        self._note(folder / CURVE, result)

    def baselines(self, folder: Path) -> None:
        """Fit and measure the baselines."""
        from pocketrec.distill.evaluation.protocol import measure_baselines
        from pocketrec.distill.training.sasrec_training import load_sasrec

        config, n_items = self.config, self._n_items()
        history = config.evaluation.max_history
        sasrec = load_sasrec(self.folder / "sasrec", config.sasrec, n_items, history) if config.sasrec.enabled else None
        metrics = measure_baselines(self._split(), n_items, sasrec, config.evaluation, self.progress)
        write_text(folder / "metrics.json", json.dumps(metrics, indent=1))

    def _members(self, split: Split, n_items: int) -> dict[str, Any]:
        """The committee's members, trained."""
        from pocketrec.distill.committee.committee import cross_fitted_graph
        from pocketrec.distill.committee.labelling import labelled
        from pocketrec.distill.training.sasrec_training import cross_fitted_sasrec, load_sasrec

        config, history = self.config, self.config.evaluation.max_history
        folds, copies = config.soft_labels.sasrec_folds, labelled(split.train, config.soft_labels)
        out: dict[str, Any] = {}
        for name in config.soft_labels.members:
            if name == "llm":
                out[name] = self._load_teacher()
            elif name == "sasrec":
                whole = load_sasrec(self.folder / "sasrec", config.sasrec, n_items, history)
                parts = self.folder / "sasrec-folds"
                out[name] = cross_fitted_sasrec(whole, parts, split, config.sasrec, folds, copies)
            else:
                out[name] = cross_fitted_graph(split.train, n_items, config.soft_labels.folds, labelled=copies)
        return out

    def _load_teacher(self) -> Teacher:
        from pocketrec.distill.training.teacher_training import load_teacher

        return load_teacher(
            self.folder / "teacher", self.config.teacher, teacher_sources(self.folder, self.config), self._n_items()
        )

    def _split(self) -> Split:
        from pocketrec.distill.data.storage import load_split

        return load_split(self.folder / "data", self.config.data)

    def _ids(self) -> SemanticIds:
        from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds

        return SemanticIds.load(self.folder / "sids")

    def _n_items(self) -> int:
        from pocketrec.distill.data.storage import load_catalogue

        return len(load_catalogue(self.folder / "data").item_ids)

    def export(self, folder: Path) -> None:
        """Write the bundle and measure it through the runtime."""
        from pocketrec.distill.data.storage import load_catalogue
        from pocketrec.distill.training.student_training import load_student
        from pocketrec.export.bundle import Measured
        from pocketrec.export.measure import measure_bundle

        split, item_ids = self._split(), load_catalogue(self.folder / "data").item_ids
        student = load_student(self.folder / weights_stage(self.config), self._ids(), self.config.export.depth)
        write_run_bundle(
            self.folder,
            self.config,
            student,
            folder / BUNDLE,
            quantize=self.config.export.quantize,
            provenance=self._provenance(split.rule),
            measure=lambda path: Measured(measure_bundle(path, item_ids, split, self.config.evaluation, self.progress)),
        )

    def report(self, folder: Path, seconds: Mapping[str, float]) -> None:
        """Write the report.

        :param seconds: what each stage of the run took.
        """
        from pocketrec.report.render import to_json, write_report
        from pocketrec.run.summary import summarise

        summary = summarise(self.folder, self.config, seconds)
        write_text(folder / "summary.json", to_json(summary))
        write_report(summary, folder / REPORT)

    def _provenance(self, rule: str) -> dict[str, Any]:
        """How to make this bundle again. No time and no path: the same inputs give the same bytes."""
        config = config_to_dict(self.config)
        sections = ["data", "text", "sid", "student", "train", "teacher"]
        if self.config.teacher.enabled:
            sections += ["soft_labels", "distill", "preference", "sasrec"]
        if self.config.prune.wanted:
            sections.append("prune")
        return {
            "interactions_sha256": self.external["interactions"],
            "items_sha256": self.external.get("items", ""),
            "split": rule,
            "config": {name: config[name] for name in sections},
            "versions": versions(),
        }

    def _save_curve(self, folder: Path, state: LoopState) -> None:
        self._note(folder / CURVE, {"losses": state.losses, "validations": state.validations})

    def _note(self, path: Path, content: Any) -> None:
        """Write JSON, once for all processes."""
        if self.processes.main:
            write_text(path, json.dumps(content, indent=1))
