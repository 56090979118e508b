"""A trained student, and its way into a bundle of any format, past the gates."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketrec.config import load_config
from pocketrec.distill.config import RunConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.run.run_bundle import write_run_bundle
from pocketrec.run.run_files import GATES, PRUNED, WEIGHTS, read_json, start_stage, versions, weights_stage, write_text
from pocketrec.runtime.errors import DataError

if TYPE_CHECKING:
    from pocketrec.distill.models.student import Student
    from pocketrec.export.bundle import Measured
    from pocketrec.export.formats import Format
    from pocketrec.export.quality_gates import Gate

QUESTIONS = 4000  # validation users that the gates ask
MAX_DROP = 0.02  # share of ndcg@10 that an export may lose


@dataclass(frozen=True)
class Exported:
    """A bundle, and what it and its siblings measured; the first gate is the float32 model's."""

    bundle: Path
    gates: tuple[Gate, ...]


class TrainedStudent:
    """The student of a finished run, or of a checkpoint that `pocketrec prune` left.

    start: the student before pruning, where it was pruned; the gates compare with it.
    """

    def __init__(self, run: Path, config: RunConfig, student: Student, start: Student | None = None) -> None:
        """Take what `load` read."""
        self.run, self.config, self.student, self.start = run, config, student, start

    @classmethod
    def load(cls, path: str | Path) -> TrainedStudent:
        """Read the student of a run's folder or of a pruned checkpoint.

        :raises DataError: if it holds no trained student.
        """
        from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
        from pocketrec.distill.training.student_training import load_student

        folder = Path(path)
        if (folder / PRUNED).is_file() and not (folder / "config.json").exists():
            run, weights = (folder / read_json(folder / PRUNED)["run"]).resolve(), folder
        else:
            run, weights = folder, None
        if not (run / "config.json").is_file():
            raise DataError(f"{run} is no folder of a run (no config.json); give the --out of `pocketrec train`")
        if "model_type" in read_json(run / "config.json"):
            raise DataError(f"{run} is a model of transformers, no run; give the --index of its items, too")
        config = load_config(run / "config.json")
        weights, before = weights or run / weights_stage(config), run / start_stage(config)
        if not (weights / WEIGHTS).is_file():
            raise DataError(f"{weights} holds no trained weights; finish the run with `pocketrec train` first")
        ids, depth = SemanticIds.load(run / "sids"), config.export.depth
        student, pruned = load_student(weights, ids, depth), (weights / PRUNED).exists() or config.prune.wanted
        start = load_student(before, ids) if pruned and (before / WEIGHTS).exists() else None
        return cls(run, config, student, start)

    def export(
        self,
        out: str | Path,
        format: str | None = None,
        quantize: str | None = None,
        preset: str | None = None,
        *,
        max_drop: float = MAX_DROP,
        questions: int = QUESTIONS,
        compare: bool = False,
        progress: Progress = SILENT,
    ) -> Exported:
        """Write a bundle, measure its files beside the float32 model's, and refuse it if it lost too much.

        :param out: the bundle's folder; an older one is replaced when the new one has passed.
        :param format, quantize, preset: a row of `export.formats.FORMATS`; float32 ONNX if left out.
        :param max_drop: share of ndcg@10 that it may lose.
        :param questions: validation users that are asked; 0: all.
        :param compare: measure every other format beside it, too.
        :raises ConfigError: on an unknown format.
        :raises ExportError: if it lost more; nothing takes the name `out` then.
        """
        from pocketrec.export.formats import FORMATS, find_format

        wanted = find_format(format, quantize, preset)
        others = [row for row in FORMATS if row != wanted and (compare or row == FORMATS[0])]
        gates: list[Gate] = []
        with tempfile.TemporaryDirectory() as place:
            bundles = [(row.artifact, Path(place) / row.artifact.replace(" ", "-")) for row in others]
            for row, (_, folder) in zip(others, bundles, strict=True):
                self._write(folder, row, self.student)
            if self.start is not None:
                bundles.insert(0, ("onnx none, before pruning", Path(place) / "before-pruning"))
                self._write(bundles[0][1], FORMATS[0], self.start)

            def measure(path: Path) -> Measured:
                gates.extend(self._gates([*bundles, (wanted.artifact, path)], max_drop, questions, progress))
                return self._measured(path, gates, progress)

            self._write(Path(out), wanted, self.student, measure)
        self._note(gates, questions)
        return Exported(Path(out), tuple(gates))

    def _gates(
        self, bundles: Sequence[tuple[str, Path]], max_drop: float, questions: int, progress: Progress
    ) -> list[Gate]:
        from pocketrec.distill.data.storage import load_catalogue, load_split
        from pocketrec.distill.evaluation.protocol import sample
        from pocketrec.export.quality_gates import measure_gates, refuse_losses

        asked = sample(load_split(self.run / "data", self.config.data).valid, questions)
        found = measure_gates(bundles, load_catalogue(self.run / "data").item_ids, asked, progress)
        refuse_losses([found[0], found[-1]], max_drop)
        return found

    def _measured(self, path: Path, gates: Sequence[Gate], progress: Progress) -> Measured:
        from pocketrec.distill.data.storage import load_catalogue, load_split
        from pocketrec.export.bundle import Measured
        from pocketrec.export.measure import measure_bundle

        split, ids = load_split(self.run / "data", self.config.data), load_catalogue(self.run / "data").item_ids
        rows = [{k: v for k, v in gate.to_dict().items() if not k.startswith(("p50", "peak"))} for gate in gates]
        return Measured(measure_bundle(path, ids, split, self.config.evaluation, progress), rows)

    def _write(self, folder: Path, row: Format, student: Student, measure: Any = None) -> None:
        write_run_bundle(
            self.run, self.config, student, folder, format=row.name, quantize=row.quantize,
            provenance=self._provenance(), measure=measure,
        )  # fmt: skip

    def _provenance(self) -> dict[str, Any]:
        """That of the run's own bundle, where it has one."""
        manifest = self.run / "export" / "bundle" / "manifest.json"
        return dict(read_json(manifest)["provenance"]) if manifest.exists() else {"versions": versions()}

    def _note(self, gates: Sequence[Gate], questions: int) -> None:
        """Keep the rows for the run's report, beside those of other exports asked the same, and draw it again."""
        from pocketrec.report.render import from_json, to_json, write_report

        path, summary = self.run / GATES, self.run / "report" / "summary.json"
        before: dict[str, Any] = read_json(path) if path.exists() else {"questions": questions, "rows": []}
        rows = {row["artifact"]: row for row in before["rows"] if before["questions"] == questions}
        first, *rest = (gate.to_dict() for gate in gates)
        kept = {name: row for name, row in rows.items() if name != first["artifact"]}
        kept |= {row["artifact"]: row for row in rest}
        merged: list[Any] = [first, *kept.values()]
        write_text(path, json.dumps({"questions": questions, "rows": merged}, indent=1))
        if summary.exists():
            shown = replace(from_json(summary.read_bytes()), gates=merged)
            write_text(summary, to_json(shown).rstrip())
            write_report(shown, self.run / "report" / "report.html")
