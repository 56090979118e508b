r"""The ablation of distillation: each loss alone and all together, over several seeds.

    pocketrec train --config benchmarks/beauty-teacher.toml --out runs/beauty-teacher \
        --interactions DATA/interactions.csv.gz --items DATA/items.csv.gz
    python benchmarks/distillation.py runs/beauty-teacher --seeds 0 1 2 --out ablation.json

Takes semantic IDs and soft labels from the finished run, trains a student for every row and seed, exports it, and
measures the exported files through the runtime, on validation and on test, seen items kept and excluded. Rows say what
differs from the run's own `[distill]`. Rows that are in the output file are not trained again, so an interrupted run
resumes. Rows with features need a run whose `soft_labels.features` is 2; otherwise they are left out, and the output
says so.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from pocketrec.cli.console import RichProgress
from pocketrec.config import load_config
from pocketrec.distill.committee.labelling import labelled
from pocketrec.distill.committee.soft_labels import SoftLabels
from pocketrec.distill.config import RunConfig
from pocketrec.distill.data.splits import Sequences, Split
from pocketrec.distill.data.storage import load_catalogue, load_split
from pocketrec.distill.evaluation.protocol import CONVENTIONS, sample
from pocketrec.distill.models.student import Student
from pocketrec.distill.progress import Progress
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.distill.training.preference import refine
from pocketrec.distill.training.student_training import load_student, train_student
from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle
from pocketrec.export.measure import evaluate_bundle
from pocketrec.run.run import write_json
from pocketrec.runtime.recommender import Recommender

FEATURES = {"cosine": 1.0, "norm": 0.1}  # SLMRec's weights
ROWS: dict[str, dict[str, Any] | None] = {
    "no teacher": None,
    "soft, along the true prefix": {"hard": 0.3, "soft": 0.7, "sampled": 0, "temperature": 1.0},
    "soft, sampled prefixes, T = 1": {"hard": 0.3, "soft": 0.7, "temperature": 1.0},
    "soft, sampled prefixes": {"hard": 0.3, "soft": 0.7},
    "soft alone, sampled prefixes": {"hard": 0.0, "soft": 1.0},
    "intermediate": {"hard": 1.0, "soft": 0.0, "intermediate": 1.0},
    "cosine": {"hard": 1.0, "soft": 0.0, "cosine": 1.0},
    "norm": {"hard": 1.0, "soft": 0.0, "norm": 0.1},
    "all": {"hard": 0.3, "soft": 0.7, "intermediate": 0.3, **FEATURES},
}
BASE = "soft, sampled prefixes"  # what the preference stages start from
REFINED = {
    "then S-DPO": {"method": "s-dpo", "learning_rate": 1e-5},
    "then GRPO": {"method": "grpo", "learning_rate": 1e-4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run with a teacher")
    parser.add_argument("--out", type=Path, default=Path("ablation.json"), help="results; continued if it exists")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, *REFINED], default=[*ROWS, *REFINED], metavar="ROW")
    parser.add_argument("--work", type=Path, default=Path("ablation"), help="folder of checkpoints")
    parser.add_argument("--questions", type=int, default=0, help="sample of validation and of test users; 0: all")
    parser.add_argument("--epochs", type=int, help="of every student; default: the run's")
    parser.add_argument("--users", type=float, default=1.0, help="share of training histories (drawn with seed 0)")
    arguments = parser.parse_args()
    config = load_config(arguments.run / "config.json")
    if arguments.epochs:
        train = msgspec.structs.replace(config.train, epochs=arguments.epochs)
        config = msgspec.structs.replace(config, train=train)
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    progress = RichProgress(Console(stderr=True))
    for seed in arguments.seeds:
        bench = Bench(arguments.run, arguments.work, config, seed, arguments.users, arguments.questions, progress)
        for name in arguments.rows:
            key = f"{name} / {bench.about}"
            if key not in results:
                results[key] = bench.refined(name) if name in REFINED else bench.trained(name)
                write_json(arguments.out, results)
    print(table(results))


class Bench:
    """Trains, exports and measures the students of one seed."""

    def __init__(
        self, run: Path, work: Path, config: RunConfig, seed: int, users: float, questions: int, progress: Progress
    ) -> None:
        self.run, self.work, self.config, self.progress = run, work, config, progress
        self.seed, self.users, self.questions = seed, users, questions
        self.split, self.ids = load_split(run / "data", config.data), SemanticIds.load(run / "sids")
        self.about = f"seed {seed} / users {users} / epochs {config.train.epochs}"

    def trained(self, name: str) -> dict[str, Any]:
        """A student trained with a row's losses."""
        weights, config = ROWS[name], self.config
        histories = labelled(self.split.train, config.soft_labels) if weights is not None else self.split.train
        labels = SoftLabels(self.run / "soft-labels/labels", histories) if weights is not None else None
        settings = msgspec.structs.replace(config.distill, **weights) if weights is not None else None
        if settings and (settings.cosine or settings.norm) and labels and not labels.features:
            return {"left out": "the run's soft labels hold no features"}
        train = msgspec.structs.replace(config.train, seed=self.seed)
        cut, folder = replace(self.split, train=part(histories, self.users)), self.folder(name)
        state = train_student(cut, self.ids, config.student, train, folder, self.progress, labels, settings)
        out = {"seconds": round(state.seconds, 1), "best_epoch": state.best_epoch}
        return out | self.measured(load_student(folder, self.ids))

    def refined(self, name: str) -> dict[str, Any]:
        """The student of `BASE`, which must be trained before, after a preference stage."""
        method = REFINED[name]
        train = msgspec.structs.replace(
            self.config.preference.train, seed=self.seed, learning_rate=method["learning_rate"]
        )
        preference = msgspec.structs.replace(self.config.preference, method=method["method"], train=train)
        start = load_student(self.folder(BASE), self.ids)
        cut = replace(self.split, train=part(self.split.train, self.users))
        student, result = refine(start, cut, self.ids, preference, self.folder(name), self.progress)
        return {"kept": result["kept"]} | self.measured(student)

    def folder(self, name: str) -> Path:
        """Return the folder of a row's checkpoints."""
        return self.work / re.sub(r"\W+", "-", f"{name} {self.about}")

    def measured(self, student: Student) -> dict[str, Any]:
        """Export a student and measure the exported files; validation and test, both conventions."""
        cases = {"valid": sample(self.split.valid, self.questions), "test": sample(self.split.test, self.questions)}
        with tempfile.TemporaryDirectory() as place:
            return exported_scores(
                self.run, self.config, student, self.ids, replace(self.split, **cases), Path(place), self.progress
            )


def exported_scores(
    run: Path, config: RunConfig, student: Student, ids: SemanticIds, split: Split, place: Path, progress: Progress
) -> dict[str, Any]:
    """Export a student into a folder and measure the files through the runtime."""
    catalogue, out = load_catalogue(run / "data"), {}
    items = BundleItems(ids.rows, catalogue.item_ids, None, ids.sid_space)
    write_bundle(place / "bundle", student, items, BundleSettings(config.export.beam, config.export.branch_headroom))
    with Recommender.load(place / "bundle") as recommender:
        for name, cases in (("valid", split.valid), ("test", split.test)):
            for convention, exclude in CONVENTIONS.items():
                found = evaluate_bundle(recommender, catalogue.item_ids, cases, exclude_seen=exclude, progress=progress)
                out[f"{name}, {convention}"] = {m: found[m] for m in ("recall@10", "ndcg@10")}
    return out


def part(train: Sequences, share: float) -> Sequences:
    """Draw a share of the histories; soft labels are found by events, so they fit."""
    if share >= 1:
        return train
    chosen = np.random.default_rng(0).permutation(len(train))[: round(share * len(train))]
    return train.take(np.sort(chosen))


def table(results: dict[str, Any]) -> str:
    """Mean and spread (largest less smallest) over seeds."""
    columns = [f"{p}, {c}" for p in ("valid", "test") for c in CONVENTIONS]
    lines = ["| losses | seeds | " + " | ".join(f"{c}: {m}" for c in columns for m in ("recall@10", "ndcg@10")) + " |"]
    lines.append("|---" * (2 + 2 * len(columns)) + "|")
    groups: dict[str, list[dict[str, Any]]] = {}
    for key, row in results.items():
        groups.setdefault(key.partition(" / ")[0], []).append(row)
    for name, rows in groups.items():
        done = [row for row in rows if "left out" not in row]
        values = [[row[c][m] for row in done] for c in columns for m in ("recall@10", "ndcg@10")] if done else []
        cells = [f"{np.mean(v):.4f} ± {np.ptp(v):.4f}" for v in values]
        lines.append(f"| {name} | {len(done)} | " + " | ".join(cells or [rows[0].get("left out", "")]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
