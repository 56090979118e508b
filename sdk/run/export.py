"""A trained student as a bundle of any format, refused if it lost too much quality."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketrec.distill.progress import SILENT, Progress
from pocketrec.run.run import BEST_WEIGHTS, CONFIG, GATES, PRUNED, SUMMARY, Run, read_json, versions, write_json
from pocketrec.runtime.errors import DataError, ExportError
from pocketrec.runtime.files.atomic import atomic_write_text

if TYPE_CHECKING:
    from pocketrec.distill.evaluation.kept_ranks import KeptRanks
    from pocketrec.distill.models.student import Student
    from pocketrec.export.bundle import Measured
    from pocketrec.export.formats import Format
    from pocketrec.export.quality_gates import QualityGate

MEASURES_BYTES = 4096  # that the manifest and the model card grow by once the bundle is measured
QUESTIONS = 4000  # validation users that quality gates are measured on
MAX_DROP = 0.02  # as `pocketrec.export.quality_gates.MAX_DROP`, which would import torch


@dataclass(frozen=True)
class Exported:
    """A bundle and the quality gates that it passed: the first row is the float32 model, the last the bundle."""

    bundle: Path
    gates: tuple[QualityGate, ...]


class TrainedStudent:
    """The student of a finished run, or of a checkpoint of `pocketrec prune`.

    start: the student before pruning, if it was pruned; the gates then compare with it.
    """

    def __init__(self, run: Run, student: Student, start: Student | None = None) -> None:
        """Take what `load` read."""
        self.run, self.student, self.start = run, student, start

    @classmethod
    def load(cls, path: str | Path) -> TrainedStudent:
        """Read the student of a run's folder, or of a pruned checkpoint.

        :raises DataError: if the folder has no trained student.
        """
        from pocketrec.distill.training.student_training import load_student

        folder = Path(path)
        if (folder / PRUNED).is_file() and not (folder / CONFIG).exists():
            place, weights = (folder / read_json(folder / PRUNED)["run"]).resolve(), folder
        else:
            place, weights = folder, None
        if not (place / CONFIG).is_file():
            raise DataError(f"{place} is not the folder of a run (no {CONFIG}); give the --out of `pocketrec train`")
        if "model_type" in read_json(place / CONFIG):
            raise DataError(f"{place} is a model of transformers, not a run; give the --index of its items as well")
        run = Run.open(place)
        weights = weights or place / run.weights_stage
        if not (weights / BEST_WEIGHTS).is_file():
            raise DataError(f"{weights} has no {BEST_WEIGHTS}; finish the run with `pocketrec train` first")
        student = load_student(weights, run.ids, run.config.export.depth)
        pruned = (weights / PRUNED).exists() or run.config.prune.wanted
        start = run.student(run.start_stage) if pruned and (place / run.start_stage / BEST_WEIGHTS).exists() else None
        return cls(run, student, start)

    def write(
        self, out: Path, provenance: Mapping[str, Any], kept: KeptRanks | None = None, progress: Progress = SILENT
    ) -> None:
        """Write the float32 bundle of a run, measured on the test users; there is nothing to compare it with.

        :param kept: gets the ranks of all targets.
        :raises ExportError: if it has more bytes than the run's `recipe.max_bytes`.
        """
        from pocketrec.export.formats import FORMATS

        def measure(path: Path) -> Measured:
            check_bytes(path, self.run.config.recipe.max_bytes)
            return self._measured(path, (), kept, progress)

        self._write(out, FORMATS[0], self.student, measure, provenance)

    def export(
        self,
        out: str | Path,
        format: str | None = None,
        quantize: str | None = None,
        preset: str | None = None,
        *,
        max_drop: float = MAX_DROP,
        questions: int = QUESTIONS,
        strict: bool = False,
        compare: bool = False,
        provenance: Mapping[str, Any] | None = None,
        kept: KeptRanks | None = None,
        progress: Progress = SILENT,
    ) -> Exported:
        """Write a bundle and measure its files beside those of the float32 model.

        :param out: the bundle's folder; an older bundle is replaced once the new one has passed.
        :param format: a format of `export.formats.FORMATS`; None: ONNX.
        :param quantize: how its weights are stored; None: float32.
        :param preset: a family of processors; None: any.
        :param max_drop: share of ndcg@10 that it may lose.
        :param questions: number of validation users to measure on; 0: all.
        :param strict: refuse it also if there are too few questions to tell whether it lost more than `max_drop`.
        :param provenance: for the manifest; None: that of the run's own bundle.
        :param kept: gets the ranks of all test targets.
        :param compare: measure every other format as well.
        :raises ConfigError: on an unknown format.
        :raises ExportError: if the bundle lost significantly more than `max_drop`
            (`pocketrec.export.quality_gates.judge`), or has more bytes than the run's `recipe.max_bytes`; nothing is
            written to `out` then.
        """
        from pocketrec.export.formats import FORMATS, find_format

        wanted = find_format(format, quantize, preset)
        others = [row for row in FORMATS if row != wanted and (compare or row == FORMATS[0])]
        gates: list[QualityGate] = []
        with tempfile.TemporaryDirectory() as place:
            bundles = [(row.artifact, Path(place) / row.artifact.replace(" ", "-")) for row in others]
            for row, (_, folder) in zip(others, bundles, strict=True):
                self._write(folder, row, self.student)
            if self.start is not None:
                bundles.insert(0, ("onnx none, before pruning", Path(place) / "before-pruning"))
                self._write(bundles[0][1], FORMATS[0], self.start)

            def measure(path: Path) -> Measured:
                check_bytes(path, self.run.config.recipe.max_bytes)
                rows = [*bundles, (wanted.artifact, path)]
                gates.extend(self._gates(rows, max_drop, questions, strict, progress))
                return self._measured(path, gates, kept, progress)

            self._write(Path(out), wanted, self.student, measure, provenance)
        self._note(gates, questions)
        return Exported(Path(out), tuple(gates))

    def _gates(
        self,
        bundles: Sequence[tuple[str, Path]],
        max_drop: float,
        questions: int,
        strict: bool,
        progress: Progress,
    ) -> list[QualityGate]:
        from pocketrec.distill.evaluation.protocol import sample
        from pocketrec.export.quality_gates import measure_quality_gates, refuse_losses

        users = sample(self.run.split.valid, questions)
        found = measure_quality_gates(bundles, self.run.catalogue.item_ids, users, progress, max_drop)
        refuse_losses([found[0], found[-1]], max_drop, strict)
        return found

    def _measured(
        self, path: Path, gates: Sequence[QualityGate], kept: KeptRanks | None, progress: Progress
    ) -> Measured:
        from pocketrec.export.bundle import Measured
        from pocketrec.export.measure import measure_bundle

        run = self.run
        rows = [{k: v for k, v in gate.to_dict().items() if not k.startswith(("p50", "peak"))} for gate in gates]
        metrics = measure_bundle(path, run.catalogue.item_ids, run.split, run.config.evaluation, progress, kept)
        return Measured(metrics, rows)

    def _write(
        self,
        folder: Path,
        row: Format,
        student: Student,
        measure: Any = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        origin = self._provenance() if provenance is None else provenance
        self.run.write_bundle(
            student, folder, format=row.name, quantize=row.quantize, provenance=origin, measure=measure
        )

    def _provenance(self) -> dict[str, Any]:
        """The provenance of the run's own bundle, if it has one."""
        manifest = self.run.bundle / "manifest.json"
        return dict(read_json(manifest)["provenance"]) if manifest.exists() else {"versions": versions()}

    def _note(self, gates: Sequence[QualityGate], questions: int) -> None:
        """Add the gates to those of earlier exports measured on the same users, and write the run's report again."""
        from pocketrec.report.render import write_report
        from pocketrec.report.summary import from_json, to_json

        path, summary = self.run.folder / GATES, self.run.report.with_name(SUMMARY)
        before: dict[str, Any] = read_json(path) if path.exists() else {"questions": questions, "rows": []}
        rows = {row["artifact"]: row for row in before["rows"] if before["questions"] == questions}
        first, *rest = (gate.to_dict() for gate in gates)
        kept = {name: row for name, row in rows.items() if name != first["artifact"]}
        kept |= {row["artifact"]: row for row in rest}
        merged: list[Any] = [first, *kept.values()]
        write_json(path, {"questions": questions, "rows": merged})
        if summary.exists():
            shown = replace(from_json(summary.read_bytes()), gates=merged)
            atomic_write_text(summary, to_json(shown))
            write_report(shown, self.run.report)


def check_bytes(bundle: Path, limit: int | None) -> None:
    """Refuse a bundle that is larger than allowed.

    :param limit: of all its files; None: no limit.
    :raises ExportError: naming the files and their sizes.
    """
    from pocketrec.export.measure import bundle_bytes

    files = bundle_bytes(bundle)
    total = sum(files.values()) + MEASURES_BYTES
    if limit is not None and total > limit:
        listed = ", ".join(f"{name} {size:,}" for name, size in sorted(files.items(), key=lambda row: -row[1]))
        raise ExportError(
            f"the bundle has {total:,} bytes, more than the {limit:,} of recipe.max_bytes: {listed}; allow more, or "
            "set a smaller student.dim, experts.neighbours or experts.terms"
        )
