"""The path of the data as resumable stages: from a log and a catalogue to a bundle and a report.

    data → text → sids → student ─┬→ export → report
                 baselines ───────┘

Each stage reads files of the stages before it and leaves its own in RUN/<stage>/; `sdk.stages` decides what to skip.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.config import config_to_dict
from pocketrec.distill.config import RunConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import DataError
from pocketrec.stages import Stage, StageRunner, StageStatus, hash_path

logger = logging.getLogger(__name__)

BUNDLE = "bundle"
REPORT = "report.html"
PACKAGES = ("numpy", "onnx", "onnxruntime", "polars", "scikit-learn", "torch", "transformers")


@dataclass(frozen=True)
class RunResult:
    """What a run leaves. metrics: measures of the exported bundle by convention; baselines: the same by name."""

    run: Path
    bundle: Path
    report: Path
    metrics: dict[str, Any]
    baselines: dict[str, Any]
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
    ) -> None:
        """Prepare a run.

        :param run: folder of the run; created, or continued if it is there.
        :param interactions: the log: a file, or a folder of parts.
        :param items: the catalogue; None: the items of the log, known by their ids alone.
        :param config: from `pocketrec.config.load_config`.
        :param progress: told about all long work.
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
        self.runner = StageRunner(self.folder, self._stages(external), config_to_dict(config), external)

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
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = json.dumps(config_to_dict(self.config), indent=1)
        _write(self.folder / "config.json", settings)
        self.runner.run(start, on_stage)
        bundle = self.folder / "export" / BUNDLE
        metrics = _read(bundle / "manifest.json")["metrics"]
        return RunResult(
            run=self.folder,
            bundle=bundle,
            report=self.folder / "report" / REPORT,
            metrics=metrics,
            baselines=_read(self.folder / "baselines" / "metrics.json"),
            seconds=round(time.monotonic() - begun, 1),
        )

    def _stages(self, external: Mapping[str, str]) -> list[Stage]:
        outside = [name for name in ("interactions", "items", "images") if name in external]
        encoder = ("encoder",) if "encoder" in external else ()
        events, catalogue, sids = "data/events.safetensors", "data/catalogue.json", "sids/sids.npy"
        return [
            Stage("data", "read, clean and check the log and the catalogue", ("data",), tuple(outside),
                  ("events.safetensors", "catalogue.json", "report.json"), self._data),
            Stage("text", "encode item texts", ("text",), (catalogue, *encoder), ("vectors.npy",), self._text),
            Stage("sids", "learn codebooks, give every item a semantic ID", ("sid", "data"),
                  (events, "text/vectors.npy"), ("codebooks.safetensors", "sids.npy", "quality.json"), self._sids),
            Stage("student", "train the student", ("student", "train", "data", "teacher"), (events, sids),
                  ("best.safetensors", "curve.json"), self._student),
            Stage("baselines", "fit and measure the baselines", ("sasrec", "data", "evaluation"), (events,),
                  ("metrics.json", "curve.json"), self._baselines),
            Stage("export", "write the bundle and measure it through the runtime",
                  ("export", "evaluation", "student", "data"), (events, catalogue, sids, "student/best.safetensors"),
                  (BUNDLE,), self._export),
            Stage("report", "write the report", (),
                  (f"export/{BUNDLE}/manifest.json", "baselines/metrics.json", "student/curve.json"),
                  (REPORT, "summary.json"), self._report),
        ]  # fmt: skip

    def _data(self, folder: Path) -> None:
        from pocketrec.distill.data import load_dataset
        from pocketrec.distill.store import save_dataset

        dataset = load_dataset(self.interactions, self.items, self.config.data, self.progress)
        save_dataset(dataset, folder)

    def _text(self, folder: Path) -> None:
        from pocketrec.distill.store import load_catalogue
        from pocketrec.distill.text import encode_texts

        texts = load_catalogue(self.folder / "data").texts
        none = self.config.text.encoder == "none" or not any(texts)
        vectors = (
            np.zeros((len(texts), 0), np.float32) if none else encode_texts(texts, self.config.text, self.progress)
        )
        np.save(folder / "vectors.npy", vectors)

    def _sids(self, folder: Path) -> None:
        from pocketrec.distill.collaborative import collaborative_vectors
        from pocketrec.distill.item_space import Sources
        from pocketrec.distill.semantic_ids import build_semantic_ids
        from pocketrec.distill.store import load_split
        from pocketrec.distill.text import normalise

        text = np.load(self.folder / "text" / "vectors.npy")
        sid, train = self.config.sid, load_split(self.folder / "data", self.config.data).train
        collaborative = collaborative_vectors(
            train, len(text), dim=sid.collaborative_dim, window=sid.window, seed=sid.seed
        )
        images = self.folder / "data" / "images.npy"
        sources = Sources(
            text=text if text.shape[1] else None,
            collaborative=collaborative,
            image=normalise(np.load(images)) if images.exists() else None,
        )
        build_semantic_ids(sources, sid, self.progress).save(folder)

    def _student(self, folder: Path) -> None:
        from pocketrec.distill.recipes import train_student
        from pocketrec.distill.semantic_ids import SemanticIds
        from pocketrec.distill.store import load_split

        split = load_split(self.folder / "data", self.config.data)
        ids = SemanticIds.load(self.folder / "sids")
        state = train_student(split, ids, self.config.student, self.config.train, folder, self.progress)
        _write(folder / "curve.json", json.dumps({"losses": state.losses, "validations": state.validations}))

    def _baselines(self, folder: Path) -> None:
        from pocketrec.distill.recipes import measure_baselines
        from pocketrec.distill.store import load_catalogue, load_split

        split = load_split(self.folder / "data", self.config.data)
        n_items = len(load_catalogue(self.folder / "data").item_ids)
        metrics, curve = measure_baselines(
            split, n_items, self.config.sasrec, self.config.evaluation, folder, self.progress
        )
        _write(folder / "curve.json", json.dumps(curve))
        _write(folder / "metrics.json", json.dumps(metrics, indent=1))

    def _export(self, folder: Path) -> None:
        from pocketrec.distill.recipes import load_student
        from pocketrec.distill.semantic_ids import SemanticIds
        from pocketrec.distill.store import load_catalogue, load_split
        from pocketrec.export.bundle import write_bundle
        from pocketrec.export.measure import measure_bundle

        split = load_split(self.folder / "data", self.config.data)
        catalogue = load_catalogue(self.folder / "data")
        ids = SemanticIds.load(self.folder / "sids")
        student = load_student(self.folder / "student", self.config.student, ids)
        write_bundle(
            folder / BUNDLE,
            student,
            ids.rows,
            catalogue.item_ids,
            catalogue.titles if self.config.export.titles else None,
            ids.sid_space,
            beam=self.config.export.beam,
            headroom=self.config.export.branch_headroom,
            provenance=self._provenance(split.rule),
            measure=lambda path: measure_bundle(path, catalogue.item_ids, split, self.config.evaluation, self.progress),
        )

    def _report(self, folder: Path) -> None:
        from pocketrec.report import to_json, write_report
        from pocketrec.run_summary import summarise

        summary = summarise(self.folder, self.config, self.runner.seconds())
        _write(folder / "summary.json", to_json(summary))
        write_report(summary, folder / REPORT)

    def _provenance(self, rule: str) -> dict[str, Any]:
        """How to make this bundle again. No time and no path: the same inputs give the same bytes."""
        config = config_to_dict(self.config)
        return {
            "interactions_sha256": self.runner.external["interactions"],
            "items_sha256": self.runner.external.get("items", ""),
            "split": rule,
            "config": {name: config[name] for name in ("data", "text", "sid", "student", "train", "teacher")},
            "versions": versions(),
        }


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the papers' convention (seen items kept) flat, the other one beneath it, for `--json`."""
    return {**metrics["seen kept"], "seen excluded": metrics["seen excluded"]}


def versions() -> dict[str, str]:
    """Versions of pocketrec, Python and the packages that decide a run's numbers."""
    out = {"python": platform.python_version()}
    for name in ("pocketrec", *PACKAGES):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def _file_hash(path: Path) -> str:
    if not path.exists():
        raise DataError(f"{path} does not exist; give the path of a file or of a folder of parts")
    return hash_path(path)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)
