r"""A run's student in every GGUF format compared with ONNX float32, through the runtime, on all test cases.

    pip install 'pocketrec[gguf]'
    python benchmarks/gguf_formats.py runs/beauty-teacher --out gguf.json

Of each row: bytes, recall@10 and ndcg@10 with seen items kept and excluded, the share of cases whose ten items are
those of ONNX float32 (`same_items`: in any order, `same_list`: in the same order), and the median call in ms. Both
conventions count for the shares. Rows that are in the output file are not measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pocketrec.cli.console import RichProgress
from pocketrec.distill.data.splits import EvalSet
from pocketrec.distill.evaluation.metrics import metrics_from_ranks, ranks_of
from pocketrec.distill.evaluation.protocol import CONVENTIONS, sample
from pocketrec.distill.evaluation.ranking import ranked_lists
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.export.formats import FORMATS
from pocketrec.export.measure import BundleRanker, bundle_bytes
from pocketrec.run.run import Run, write_json
from pocketrec.runtime.recommender import Recommender

SHOWN = 10
ROWS = {row.artifact: row for row in FORMATS if row.name == "gguf" or row == FORMATS[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("gguf.json"), help="results; continued if it exists")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--questions", type=int, default=0, help="test users; 0: all")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    student = run.student(run.weights_stage)
    cases = sample(run.split.test, arguments.questions)
    progress = RichProgress(Console(stderr=True))
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    first: dict[str, NDArray[np.int32]] = {}
    for name in [FORMATS[0].artifact, *(row for row in arguments.rows if row != FORMATS[0].artifact)]:
        if name in results and name != FORMATS[0].artifact:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "bundle"
            run.write_bundle(student, folder, format=ROWS[name].name, quantize=ROWS[name].quantize)
            lists, row = measured(folder, run.catalogue.item_ids, cases, progress, name)
        first = first or lists
        results[name] = row | shares(first, lists)
        write_json(arguments.out, results)
    for name, row in results.items():
        print(name, row)


def measured(
    folder: Path, item_ids: tuple[str, ...], cases: EvalSet, progress: Progress, name: str
) -> tuple[dict[str, NDArray[np.int32]], dict[str, Any]]:
    """Return lists of ten, int32 [n, 10], of both conventions, and the row of their metrics."""
    lists, row = {}, {"bytes": sum(bundle_bytes(folder).values())}
    with Recommender.load(folder) as recommender, progress.track(f"measuring {name}", 2 * len(cases)) as advance:
        ranker = BundleRanker(recommender, item_ids)
        ranker.on_call = advance
        for convention, exclude in CONVENTIONS.items():
            lists[convention] = ranked_lists(
                ranker, cases, n_items=len(item_ids), exclude_seen=exclude, list_length=SHOWN, progress=SILENT,
            )  # fmt: skip
            found = metrics_from_ranks(ranks_of(lists[convention], cases.targets)).to_dict()
            row[convention] = {m: found[m] for m in ("recall@10", "ndcg@10")}
    return lists, row | {"p50_ms": round(float(np.median(ranker.milliseconds)), 3)}


def shares(first: dict[str, NDArray[np.int32]], lists: dict[str, NDArray[np.int32]]) -> dict[str, float]:
    """Return the share of lists that equal those of the first row."""
    ours, theirs = (np.concatenate([of[c] for c in CONVENTIONS]) for of in (lists, first))
    return {
        "same_items": round(float((np.sort(ours) == np.sort(theirs)).all(1).mean()), 5),
        "same_list": round(float((ours == theirs).all(1).mean()), 5),
    }


if __name__ == "__main__":
    main()
