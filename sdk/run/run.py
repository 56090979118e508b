"""A run: its folder, its configuration, and what its stages left there.

RUN/config.json        the configuration
RUN/<stage>/           the outputs of a stage (`pocketrec.run.pipeline` lists the stages), and its stage.json
RUN/export/bundle/     the bundle
RUN/report/            report.html, and the summary.json that it was made from
RUN/gates.json         the quality gates of every export of the run's student
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pocketrec.config import load_config
from pocketrec.distill.config import RunConfig
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.files.atomic import FileState, atomic_write_text, file_state

if TYPE_CHECKING:
    from pocketrec.distill.data.catalogue import Catalogue
    from pocketrec.distill.data.splits import Split
    from pocketrec.distill.models.source_table import ItemSources
    from pocketrec.distill.models.student import Student
    from pocketrec.distill.semantic_ids.fusion import Sources
    from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
    from pocketrec.export.bundle import Measure
    from pocketrec.export.experts import BundleExperts
    from pocketrec.runtime.bundle.bundle import Manifest

CONFIG = "config.json"
# Weights of a trained model at its best validation, and the shape of a student; the names of `distill.training`, which
# would import torch.
BEST_WEIGHTS, SHAPE = "best.safetensors", "student.json"
CURVE, PRUNED = "curve.json", "prune.json"
BUNDLE, REPORT, SUMMARY, GATES = "bundle", "report.html", "summary.json", "gates.json"
RANKS = "ranks.safetensors"  # of the test targets, of the stages `baselines` and `export`
EVENTS, CATALOGUE, DATA_REPORT = "data/events.safetensors", "data/catalogue.json", "data/report.json"
TEXT_VECTORS, IMAGE_VECTORS = "text/vectors.npy", "data/images.npy"
CROWD, WORDS, FUSION = "experts/graph.safetensors", "experts/words.safetensors", "experts/fusion.json"
FUSION_FIT, PRIVACY = "experts/fit.json", "experts/privacy.json"
SIDS, CODEBOOKS, LABELS = "sids/sids.npy", "sids/codebooks.safetensors", "soft-labels/labels"
PACKAGES = ("numpy", "onnx", "onnxruntime", "polars", "scikit-learn", "torch", "transformers")

T = TypeVar("T")


class Run:
    """A run's folder and configuration. What stages left there is read at first use, and again only if it changed."""

    def __init__(self, folder: str | Path, config: RunConfig) -> None:
        """Take a folder, which need not exist yet, and its configuration."""
        self.folder, self.config = Path(folder), config
        self._read: dict[str, tuple[tuple[FileState | None, ...], Any]] = {}

    @classmethod
    def open(cls, folder: str | Path, settings: Iterable[str] = ()) -> Run:
        """Open the folder of a run that was begun before.

        :param settings: `section.name=value` strings that override the run's own configuration.
        :raises ConfigError: if the folder has no configuration, or a setting is wrong.
        """
        path = Path(folder) / CONFIG
        if not path.is_file():
            raise ConfigError(f"{folder} is not the folder of a run (no {CONFIG}); give the --out of `pocketrec train`")
        return cls(folder, load_config(path, settings))

    # --- stages ----------------------------------------------------------------------------------------

    @property
    def student_stage(self) -> str:
        """The stage that trains the student."""
        return "distill" if self.config.teacher.enabled else "student"

    @property
    def pruned_stage(self) -> str:
        """The last stage of the student before `preference`: `prune` where a target is set."""
        return "prune" if self.config.prune.wanted else self.student_stage

    @property
    def weights_stage(self) -> str:
        """The stage whose weights are exported."""
        return self.pruned_stage if self.config.preference.method == "none" else "preference"

    @property
    def start_stage(self) -> str:
        """The stage whose weights `pocketrec prune` starts from, whatever its target."""
        return self.student_stage if self.config.preference.method == "none" else "preference"

    @property
    def uses_influence(self) -> bool:
        """Whether SASRec selects the histories that the teacher LLM is trained on."""
        teacher = self.config.teacher
        return teacher.select < 1 and teacher.select_by == "influence" and self.config.sasrec.enabled

    @property
    def has_llm(self) -> bool:
        """Whether a teacher LLM is a member of the committee."""
        return self.config.teacher.enabled and "llm" in self.config.soft_labels.members

    # --- files -----------------------------------------------------------------------------------------

    @property
    def bundle(self) -> Path:
        """Folder of the bundle that the stage `export` writes."""
        return self.folder / "export" / BUNDLE

    @property
    def report(self) -> Path:
        """File of the report."""
        return self.folder / "report" / REPORT

    @property
    def split(self) -> Split:
        """Training histories, validation and test examples; of the stage `data`."""
        from pocketrec.distill.data.storage import load_split

        return self._once("split", lambda: load_split(self.folder / "data", self.config.data), EVENTS)

    @property
    def catalogue(self) -> Catalogue:
        """Ids, titles and texts of the items; of the stage `data`."""
        from pocketrec.distill.data.storage import load_catalogue

        return self._once("catalogue", lambda: load_catalogue(self.folder / "data"), CATALOGUE)

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue, as the stage `data` counted them."""
        return self._once("n_items", lambda: int(read_json(self.folder / DATA_REPORT)["items"]), DATA_REPORT)

    @property
    def ids(self) -> SemanticIds:
        """Semantic IDs of the items, with their codebooks; of the stage `sids`."""
        from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds

        return self._once("ids", lambda: SemanticIds.load(self.folder / "sids"), SIDS, CODEBOOKS)

    @property
    def sources(self) -> Sources:
        """Vectors that semantic IDs are built from: of texts, of training interactions, of images.

        Kept in memory only where a teacher LLM reads them again.
        """
        if self.has_llm:
            return self._once(
                "sources", self._item_sources, TEXT_VECTORS, IMAGE_VECTORS, EVENTS, f"sasrec/{BEST_WEIGHTS}"
            )
        return self._item_sources()

    @property
    def teacher_sources(self) -> ItemSources:
        """The same vectors and the semantic IDs, as a teacher LLM takes them."""
        from pocketrec.distill.models.source_table import ItemSources

        given, ids = self.sources, self.ids
        return ItemSources(given.text, given.collaborative, given.image, ids.rows, ids.codes)

    def student(self, stage: str, depth: int = 0) -> Student:
        """Read the student that a stage left: a new one each time, since training changes it.

        :param depth: its first layers only; 0: all.
        :raises TrainingError: if the stage has no student.
        """
        from pocketrec.distill.training.student_training import load_student

        return load_student(self.folder / stage, self.ids, depth)

    def experts(self) -> BundleExperts | None:
        """Crowd and words beside the student, of the stage `experts`; None if the configuration leaves them out."""
        if not self.config.experts.enabled:
            return None
        from pocketrec.export.experts import BundleExperts
        from pocketrec.runtime.experts.crowd import Crowd
        from pocketrec.runtime.experts.weights import FusionWeights
        from pocketrec.runtime.experts.words import Words

        words, weights = self.folder / WORDS, FusionWeights(**read_json(self.folder / FUSION))
        return BundleExperts(
            Crowd.load(self.folder / CROWD, self.n_items),
            Words.load(words, self.n_items) if words.exists() else None,
            weights,
        )

    @property
    def privacy(self) -> str:
        """One sentence on what the crowd's graph reveals of single people; empty if the run has no graph."""
        if not self.config.experts.enabled or not read_json(self.folder / FUSION)["crowd"]:
            return ""
        return str(read_json(self.folder / PRIVACY)["sentence"])

    def teachers(self) -> dict[str, Any]:
        """Test measures of the committee and of the teacher LLM: name → convention → measure → value."""
        if not self.config.teacher.enabled:
            return {}
        return dict(read_json(self.folder / "soft-labels" / "committee.json")["test"])

    def write_bundle(
        self,
        student: Student,
        out: Path,
        *,
        format: str = "onnx",
        quantize: str = "none",
        provenance: Mapping[str, Any] | None = None,
        measure: Measure | None = None,
        fused: bool = True,
    ) -> Manifest:
        """Write a student as a bundle with the run's items; parameters as for `export.bundle.write_bundle`.

        :param fused: with the run's experts, if it has any; False: the model alone.
        """
        from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle

        ids, catalogue, export = self.ids, self.catalogue, self.config.export
        items = BundleItems(ids.rows, catalogue.item_ids, catalogue.titles if export.titles else None, ids.sid_space)
        settings = BundleSettings(export.beam, export.branch_headroom, format, quantize)
        return write_bundle(out, student, items, settings, provenance, measure, self.experts() if fused else None)

    def _item_sources(self) -> Sources:
        from pocketrec.distill.semantic_ids.collaborative import collaborative_vectors
        from pocketrec.distill.semantic_ids.fusion import Sources
        from pocketrec.distill.semantic_ids.text_vectors import normalise

        text, sid, images = np.load(self.folder / TEXT_VECTORS), self.config.sid, self.folder / IMAGE_VECTORS
        if sid.collaborative_source == "sasrec":
            from pocketrec.distill.training.sasrec_training import load_sasrec

            history = self.config.evaluation.max_history
            sasrec = load_sasrec(self.folder / "sasrec", self.config.sasrec, len(text), history)
            collaborative = sasrec.item_vectors(self.split.train)
        else:
            collaborative = collaborative_vectors(
                self.split.train, len(text), dim=sid.collaborative_dim, window=sid.window, seed=sid.seed
            )
        return Sources(
            text=text if text.shape[1] else None,
            collaborative=collaborative,
            image=normalise(np.load(images)) if images.exists() else None,
        )

    def _once(self, name: str, read: Callable[[], T], *files: str) -> T:
        """Return what `read` made of some of the run's files, reading again only if one of them changed."""
        state = tuple(_state(self.folder / file) for file in files)
        if name not in self._read or self._read[name][0] != state:
            self._read[name] = state, read()
        value: T = self._read[name][1]
        return value


def versions() -> dict[str, str]:
    """Versions of pocketrec, Python and the packages that decide a run's numbers."""
    out = {"python": platform.python_version()}
    for name in ("pocketrec", *PACKAGES):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    atomic_write_text(path, json.dumps(content, indent=1) + "\n")


def _state(path: Path) -> FileState | None:
    try:
        return file_state(path.stat())
    except FileNotFoundError:
        return None
