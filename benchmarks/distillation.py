r"""The ablation of distillation: each loss alone and all together, over several seeds.

    pocketrec train --config benchmarks/beauty-teacher.toml --out runs/beauty-teacher \
        --interactions DATA/interactions.csv.gz --items DATA/items.csv.gz
    python benchmarks/distillation.py runs/beauty-teacher --seeds 0 1 2 --out ablation.json

Takes semantic IDs and soft labels from the finished run, trains a student for every row and seed, exports it, and
measures the exported files through the runtime, on validation and on test, seen items kept and excluded. Rows say what
differs from the run's own `[distill]`. Those that stand in the output file are not trained again, so an interrupted run
goes on. Rows with features need a run whose `soft_labels.features` is 2; they are left out otherwise, and the output
says so.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from pocketrec.config import load_config
from pocketrec.console import RichProgress
from pocketrec.distill.config import RunConfig
from pocketrec.distill.progress import Progress
from pocketrec.distill.recipes import CONVENTIONS, load_student, train_student
from pocketrec.distill.semantic_ids import SemanticIds
from pocketrec.distill.soft_labels import SoftLabels
from pocketrec.distill.splits import Sequences, Split
from pocketrec.distill.store import load_catalogue, load_split
from pocketrec.distill.student import Student
from pocketrec.distill.teaching import labelled
from pocketrec.export.bundle import write_bundle
from pocketrec.export.measure import evaluate_bundle
from pocketrec.run_files import write_text
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run with a teacher")
    parser.add_argument("--out", type=Path, default=Path("ablation.json"), help="results; gone on with if it is there")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
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
        for name in arguments.rows:
            key = f"{name} / seed {seed} / users {arguments.users} / epochs {config.train.epochs}"
            if key not in results:
                results[key] = run_row(arguments.run, config, ROWS[name], seed, arguments.users, progress)
                write_text(arguments.out, json.dumps(results, indent=1))
    print(table(results))


def run_row(
    run: Path, config: RunConfig, weights: dict[str, Any] | None, seed: int, users: float, progress: Progress
) -> dict[str, Any]:
    """Train, export and measure one student; validation and test, both conventions."""
    split, ids = load_split(run / "data", config.data), SemanticIds.load(run / "sids")
    histories = labelled(split.train, config.soft_labels) if weights else split.train
    labels = SoftLabels(run / "soft-labels/labels", histories) if weights else None
    settings = msgspec.structs.replace(config.distill, **weights) if weights else None
    if settings and (settings.cosine or settings.norm) and labels and not labels.features:
        return {"left out": "the run's soft labels hold no features"}
    train = msgspec.structs.replace(config.train, seed=seed)
    cut = Split(part(histories, users), split.valid, split.test, split.rule)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        state = train_student(cut, ids, config.student, train, place, progress, labels, settings)
        student = load_student(place, ids)
        measured = exported_scores(run, config, student, ids, split, place, progress)
    return {"seconds": round(state.seconds, 1), "best_epoch": state.best_epoch, **measured}


def exported_scores(
    run: Path, config: RunConfig, student: Student, ids: SemanticIds, split: Split, place: Path, progress: Progress
) -> dict[str, Any]:
    """Export a student into a folder and measure the files through the runtime."""
    catalogue, out = load_catalogue(run / "data"), {}
    write_bundle(
        place / "bundle", student, ids.rows, catalogue.item_ids, None, ids.sid_space,
        beam=config.export.beam, headroom=config.export.branch_headroom, provenance={},
    )  # fmt: skip
    with Recommender.load(place / "bundle") as recommender:
        for name, questions in (("valid", split.valid), ("test", split.test)):
            for convention, exclude in CONVENTIONS.items():
                found = evaluate_bundle(
                    recommender, catalogue.item_ids, questions, exclude_seen=exclude, progress=progress
                )
                out[f"{name}, {convention}"] = {m: found[m] for m in ("recall@10", "ndcg@10")}
    return out


def part(train: Sequences, share: float) -> Sequences:
    """Draw a share of the histories; the labels know them by their events."""
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
