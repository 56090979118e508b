"""Measure a finished run's systems again on its test cases, nothing trained: baselines, SASRec, committee, bundle.

    python benchmarks/remeasure.py RUN --out remeasured.json

For runs that an older version measured: it excluded the newest items of a history alone. RUN has SASRec and a committee
of SASRec and the graph; nothing is written to it. Prints a table and the paired differences of the bundle (bootstrap
over test users, two-sided p).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from pocketrec.distill.committee.committee import Committee, CommitteeWeights
from pocketrec.distill.committee.members import cross_fitted_graph
from pocketrec.distill.evaluation.kept_ranks import KeptRanks
from pocketrec.distill.evaluation.protocol import CONVENTIONS, measure, measure_baselines
from pocketrec.distill.models.item_model import ItemRanker
from pocketrec.distill.training.sasrec_training import load_sasrec
from pocketrec.export.measure import BundleRanker
from pocketrec.run.run import Run
from pocketrec.runtime.recommender import Recommender

MEASURES = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("remeasured.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run.open(arguments.run)
    systems, kept = remeasured(run)
    differences = {
        f"{name}, {convention}, {measure}": found.__dict__
        for name in list(systems)[1:]
        for convention in CONVENTIONS
        for measure in ("recall@10", "ndcg@10")
        if (found := kept.difference("bundle", name, convention, measure))
    }
    arguments.out.write_text(json.dumps({"systems": systems, "bundle minus": differences}, indent=1) + "\n")
    print(table(systems))
    for name, found in differences.items():
        print(
            f"bundle minus {name}: {found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}], p {found['p']:.4f}"
        )


def remeasured(run: Run) -> tuple[dict[str, Any], KeptRanks]:
    """Return system → convention → measure → value, the bundle first, and the ranks of all targets."""
    split, n_items, evaluation, kept = run.split, run.n_items, run.config.evaluation, KeptRanks()
    systems: dict[str, Any] = {}
    for name, experts in (("bundle", True), ("student alone", False)):
        with Recommender.load(run.bundle, experts=experts) as recommender:
            ranker = BundleRanker(recommender, run.catalogue.item_ids)
            systems |= measure({name: ranker}, split, n_items, evaluation, kept=kept)
    sasrec = load_sasrec(run.folder / "sasrec", run.config.sasrec, n_items, evaluation.max_history)
    systems |= measure_baselines(split, n_items, sasrec, evaluation, kept=kept, texts=run.catalogue.texts)
    weights = CommitteeWeights(**json.loads((run.folder / "soft-labels/committee.json").read_text())["weights"])
    graph = cross_fitted_graph(split.train, n_items, run.config.soft_labels.folds, labelled=split.train)
    committee = ItemRanker(Committee({"sasrec": sasrec, "graph": graph}, weights), evaluation.max_history)
    systems |= measure({"committee": committee}, split, n_items, evaluation, kept=kept)
    return systems, kept


def table(systems: dict[str, Any]) -> str:
    lines = ["| system | " + " | ".join(f"{c}: {m}" for c in ("kept", "excluded") for m in MEASURES) + " |"]
    lines.append("|---" * (1 + 2 * len(MEASURES)) + "|")
    for name, by_convention in systems.items():
        cells = [f"{by_convention[c][m]:.4f}" for c in CONVENTIONS for m in MEASURES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
