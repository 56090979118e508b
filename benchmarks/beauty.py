r"""The table of docs/benchmarks.md from a finished run on Amazon Beauty.

    pocketrec train --config benchmarks/beauty.toml --out runs/beauty \
        --interactions DATA/interactions.csv.gz --items DATA/items.csv.gz
    python benchmarks/beauty.py runs/beauty

Rows of the run come from its exported files (through the runtime) and from its baselines; the share of invalid items
without the trie is measured here. Metrics of papers are listed as published.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from pocketrec.distill.evaluation.protocol import CONVENTIONS, evaluate
from pocketrec.distill.evaluation.student_ranker import StudentRanker, UnconstrainedRanker
from pocketrec.run.run import Run

# recall@10 and ndcg@10 as published: leave-one-out, full ranking; by the convention of the paper or rerun.
PAPERS = {
    "TIGER (Rajput et al. 2023)": ("seen kept", 0.0648, 0.0384),
    "RPG (Hou et al. 2025)": ("seen kept", 0.0809, 0.0464),
    "SASRec, sampled softmax, by others": ("seen excluded", 0.0921, 0.0531),
    "eSASRec, by others": ("seen excluded", 0.0928, 0.0523),
    "SASRec, full cross-entropy, reruns by others (history of 50, five seeds)": ("seen excluded", 0.0986, 0.0597),
}
MEASURES = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    result = collect(arguments.run)
    print(json.dumps(result) if arguments.json else table(result))


def collect(run: Path) -> dict:
    manifest = json.loads((run / "export/bundle/manifest.json").read_text())
    systems = {"student (exported bundle)": manifest["metrics"], **Run.open(run).teachers()}
    systems |= json.loads((run / "baselines/metrics.json").read_text())
    return {
        "systems": systems,
        "parameters": manifest["model"]["parameters"],
        "bytes": {name: entry["bytes"] for name, entry in manifest["files"].items()},
        "without the trie": without_trie(run),
    }


def without_trie(run: Path) -> dict:
    """Measure the checkpoint by an unconstrained beam of the same width on all test users."""
    opened = Run.open(run)
    student, ids = opened.student(opened.weights_stage), opened.ids
    ranker = UnconstrainedRanker(StudentRanker(student, ids.rows, opened.config.export.beam))
    measured = evaluate(ranker, opened.split.test, n_items=len(ids.rows), item_counts=None, list_length=10)
    return {name: value for name, value in measured.to_dict().items() if np.isfinite(value)}


def table(result: dict) -> str:
    lines = ["| system | " + " | ".join(f"{c}: {m}" for c in ("kept", "excluded") for m in MEASURES) + " |"]
    lines.append("|---" * (1 + 2 * len(MEASURES)) + "|")
    for name, by_convention in result["systems"].items():
        cells = [f"{by_convention[c][m]:.4f}" for c in CONVENTIONS for m in MEASURES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, (theirs, recall, ndcg) in PAPERS.items():
        published = {"recall@10": f"{recall:.4f}", "ndcg@10": f"{ndcg:.4f}"}
        cells = [published.get(m, "–") if c == theirs else "–" for c in CONVENTIONS for m in MEASURES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    student = result["systems"]["student (exported bundle)"]["seen kept"]
    lines += [
        "",
        f"parameters: {result['parameters']:,}; bundle: {sum(result['bytes'].values()):,} bytes",
        f"invalid items: {student['invalid']:.4f} with the trie, {result['without the trie']['invalid']:.4f} without",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
