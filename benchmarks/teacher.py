r"""What the teacher LLM brings: pretrained against random weights, and chosen against random histories.

    pocketrec train --config benchmarks/beauty-teacher.toml --out runs/beauty-teacher \
        --interactions DATA/interactions.csv.gz --items DATA/items.csv.gz
    python benchmarks/teacher.py runs/beauty-teacher --out teachers.json

Takes data, text vectors, semantic IDs and SASRec from the finished run, trains a teacher for every row and seed, and
measures it on a fixed sample of test cases, seen items kept and excluded. "Of the data" means that the other histories
are removed from everything that the teacher is trained on, also from the initial vectors of its items; "chosen" means
that it is fine-tuned on that share (DEALRec), while SASRec and the initial vectors are from all histories. Rows that
are in the output file are not trained again, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from pocketrec.cli.console import RichProgress
from pocketrec.config import load_config
from pocketrec.distill.config import RunConfig
from pocketrec.distill.data.splits import Split
from pocketrec.distill.evaluation.protocol import CONVENTIONS, evaluate, sample
from pocketrec.distill.models.presets import apply_preset
from pocketrec.distill.models.teacher import Teacher, TeacherRanker
from pocketrec.distill.progress import Progress
from pocketrec.distill.training.history_selection import select_histories
from pocketrec.distill.training.sasrec_training import load_sasrec
from pocketrec.distill.training.teacher_training import history_scores, new_teacher, save_selection, train_teacher
from pocketrec.run.run import Run, write_json

# name: (pretrained, share of the data, share chosen, chosen by, epochs)
ROWS: dict[str, tuple[bool, float, float, str, int]] = {
    "pretrained, 5 % of the data": (True, 0.05, 1.0, "random", 12),
    "random weights, 5 % of the data": (False, 0.05, 1.0, "random", 12),
    "2 % chosen by influence and effort": (True, 1.0, 0.02, "influence", 12),
    "2 % chosen at random": (True, 1.0, 0.02, "random", 12),
    "5 % chosen by influence and effort": (True, 1.0, 0.05, "influence", 12),
    "5 % chosen at random": (True, 1.0, 0.05, "random", 12),
    "random weights, all data": (False, 1.0, 1.0, "random", 3),
    "pretrained, all data": (True, 1.0, 1.0, "random", 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("teachers.json"), help="results; continued if it exists")
    parser.add_argument("--work", type=Path, default=Path("teachers"), help="folder of checkpoints and scores")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--users", type=int, default=4000, help="test cases, drawn with seed 0; 0: all")
    arguments = parser.parse_args()
    config = load_config(arguments.run / "config.json")
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    progress = RichProgress(Console(stderr=True))
    for seed in arguments.seeds:
        for name in arguments.rows:
            key = f"{name} / seed {seed}"
            if key not in results:
                bench = Bench(arguments.run, arguments.work, config, seed, arguments.users, progress)
                results[key] = bench.row(name)
                write_json(arguments.out, results)
    print(table(results))


class Bench:
    """Trains and measures the teachers of one seed."""

    def __init__(self, run: Path, work: Path, config: RunConfig, seed: int, users: int, progress: Progress) -> None:
        self.run, self.work, self.seed, self.users, self.progress = run, work, seed, users, progress
        self.config, self.history = config, config.evaluation.max_history
        opened = Run(run, config)
        self.split, self.sources, self.n_items = opened.split, opened.teacher_sources, opened.n_items

    def row(self, name: str) -> dict[str, Any]:
        """Train, measure, and forget the weights."""
        pretrained, share, select, chosen_by, epochs = ROWS[name]
        train = msgspec.structs.replace(
            self.config.teacher.train, epochs=epochs, seed=self.seed, patience=epochs,
            validate_every=1 if epochs < 6 else 3,
        )  # fmt: skip
        teacher = msgspec.structs.replace(
            self.config.teacher, enabled=True, pretrained=pretrained, select=select, train=train
        )
        split, folder = self.split, self.work / re.sub(r"\W+", "-", f"{name} seed {self.seed}")
        begun = time.monotonic()
        if share < 1:
            split = replace(split, train=select_histories(split.train, share, None, seed=self.seed))
        chosen = split.train
        if select < 1:
            scores = self.scores() if chosen_by == "influence" else None
            chosen = select_histories(chosen, select, scores, seed=self.seed)
            save_selection(chosen, folder)
        model, state = train_teacher(split, self.sources, self.n_items, teacher, self.history, folder, self.progress)
        out: dict[str, Any] = {
            "histories": int((chosen.lengths > 0).sum()),
            "events": int(chosen.lengths.sum()),
            "train_seconds": round(state.seconds, 1),
            "best_epoch": state.best_epoch,
            "validations": state.validations,
        }
        out |= measure(model, self.split, self.n_items, self.users)
        out["seconds"] = round(time.monotonic() - begun, 1)
        shutil.rmtree(folder)
        return out

    def scores(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """DEALRec's scores per event, made once and shared by the rows."""
        path = self.work / f"scores-{self.seed}.npy"
        if not path.exists():
            surrogate = load_sasrec(self.run / "sasrec", self.config.sasrec, self.n_items, self.history)
            model: Teacher = new_teacher(
                apply_preset(self.config.teacher), self.split.train, self.sources, self.n_items, self.history, self.work
            )
            np.save(path, history_scores(self.split.train, model, surrogate, self.seed, self.progress))
        return np.load(path)


def measure(model: Teacher, split: Split, n_items: int, users: int) -> dict[str, Any]:
    """Measure a teacher on test cases, by both conventions."""
    ranker, cases = TeacherRanker(model), sample(split.test, users)
    out = {}
    for convention, exclude in CONVENTIONS.items():
        found = evaluate(ranker, cases, n_items=n_items, item_counts=None, exclude_seen=exclude).to_dict()
        out[convention] = {name: found[name] for name in ("recall@10", "ndcg@10")}
    return out


def table(results: dict[str, Any]) -> str:
    """A row a result."""
    columns = [(c, m) for c in CONVENTIONS for m in ("recall@10", "ndcg@10")]
    lines = ["| teacher | events | training s | " + " | ".join(f"{c}: {m}" for c, m in columns) + " |"]
    lines.append("|---" * (3 + len(columns)) + "|")
    for key, row in results.items():
        cells = " | ".join(f"{row[c][m]:.4f}" for c, m in columns)
        lines.append(f"| {key} | {row['events']:,} | {row['train_seconds']:.0f} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
