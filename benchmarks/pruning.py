r"""Pruning a distilled student, compared with other ways to a student of that size; over several seeds.

    pocketrec train --config benchmarks/beauty-teacher.toml --out runs/beauty-teacher \
        --interactions DATA/interactions.csv.gz --items DATA/items.csv.gz
    python benchmarks/pruning.py runs/beauty-teacher --ratio 0.2 --seeds 0 1 2 --out pruning.json

Rows: the run's student; the same pruned (Taylor scores, soft labels); a student of the pruned shape trained from
scratch on the same soft labels with the run's own `[train]`; pruned by magnitude, rotated or not, on hard labels only;
and pruned without rotation onto principal axes. Every student is exported, and its files are measured through the
runtime, on validation and on test, seen items kept and excluded. Rows that are in the output file are not trained
again, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from distillation import exported_scores, part, table
from rich.console import Console

from pocketrec.cli.console import RichProgress
from pocketrec.config import config_to_dict, load_config
from pocketrec.distill.committee.labelling import labelled
from pocketrec.distill.committee.soft_labels import SoftLabels
from pocketrec.distill.config import RunConfig, StudentConfig
from pocketrec.distill.data.splits import Split
from pocketrec.distill.models.student import Student
from pocketrec.distill.progress import Progress
from pocketrec.distill.pruning.prune import prune_student
from pocketrec.distill.training.student_training import load_student, train_student
from pocketrec.run.prune import budget, prune_settings
from pocketrec.run.run import Run, write_json

START, DIRECT = "start", "same shape, trained directly, soft labels"
PRUNED = "pruned: taylor, soft labels"
PRUNINGS: dict[str, dict[str, Any]] = {
    PRUNED: {},
    "pruned: magnitude, hard labels": {"criterion": "magnitude", "soft_labels": False, "rotate": False},
    "pruned: magnitude, hard labels, rotated": {"criterion": "magnitude", "soft_labels": False},
    "pruned: taylor, soft labels, not rotated": {"rotate": False},
}
ROWS = (START, PRUNED, DIRECT, *(name for name in PRUNINGS if name != PRUNED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run with a teacher")
    parser.add_argument("--out", type=Path, default=Path("pruning.json"), help="results; continued if it exists")
    parser.add_argument("--ratio", type=float, default=0.2, help="share of the parameters to keep")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW")
    parser.add_argument("--users", type=float, default=1.0, help="share of training histories (drawn with seed 0)")
    parser.add_argument("--set", nargs="+", default=[], metavar="A.B=C", help="settings over the run's")
    arguments = parser.parse_args()
    config = load_config(arguments.run / "config.json", [f"prune.ratio={arguments.ratio}", *arguments.set])
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    work = Work(arguments.run, config, arguments.users, RichProgress(Console(stderr=True)))
    for seed in arguments.seeds:
        for name in sorted(arguments.rows, key=ROWS.index):
            rest = [f"seed {seed}", f"ratio {arguments.ratio}", f"users {arguments.users}", *arguments.set]
            key = " / ".join([name, *rest])
            if key not in results:
                results[key] = work.row(name, seed, results.get(" / ".join([PRUNED, *rest])))
                write_json(arguments.out, results)
    print(table(results))


class Work:
    """The run whose student is pruned, read once."""

    def __init__(self, run: Path, config: RunConfig, users: float, progress: Progress) -> None:
        self.run, self.config, self.progress = run, config, progress
        opened = Run(run, config)
        self.split, self.ids = opened.split, opened.ids
        histories = labelled(self.split.train, config.soft_labels)
        self.labels = SoftLabels(run / "soft-labels/labels", histories)
        self.soft, self.hard = (replace(self.split, train=part(t, users)) for t in (histories, self.split.train))
        self.start = opened.student(opened.start_stage)

    def row(self, name: str, seed: int, pruned: dict[str, Any] | None) -> dict[str, Any]:
        """Make, export and measure one student.

        :param pruned: the row of the pruned student, whose shape is trained from scratch.
        """
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            if name == START:
                student, notes = self.start, {}
            elif name == DIRECT:
                if pruned is None:
                    return {"left out": f"needs the row {PRUNED!r}"}
                student, notes = self._direct(msgspec.convert(pruned["shape"], StudentConfig), seed, place)
            else:
                student, notes = self._pruned(PRUNINGS[name], seed, place)
            scores = exported_scores(self.run, self.config, student, self.ids, self.split, place, self.progress)
            size = (place / "bundle/model.safetensors").stat().st_size
        shape = config_to_dict(student.config)
        return {"parameters": student.parameters_count, "bytes": size, "shape": shape, **notes, **scores}

    def _pruned(self, settings: dict[str, Any], seed: int, place: Path) -> tuple[Student, dict[str, Any]]:
        config = msgspec.structs.replace(prune_settings(self.config), **settings)
        config = msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, seed=seed))
        data: tuple[Split, SoftLabels | None] = (self.soft, self.labels) if config.soft_labels else (self.hard, None)
        limit = budget(config, self.start, self.ids)
        student, result = prune_student(
            self.start, data[0], self.ids, config, limit, place / "pruning", self.progress, data[1], self.config.distill
        )
        parts = [part for part in (result.cutting, result.recovery) if part is not None]
        return student, {"seconds": round(sum(part.seconds for part in parts), 1)}

    def _direct(self, shape: StudentConfig, seed: int, place: Path) -> tuple[Student, dict[str, Any]]:
        train = msgspec.structs.replace(self.config.train, seed=seed)
        state = train_student(self.soft, self.ids, shape, train, place, self.progress, self.labels, self.config.distill)
        return load_student(place, self.ids), {"seconds": round(state.seconds, 1)}


if __name__ == "__main__":
    main()
