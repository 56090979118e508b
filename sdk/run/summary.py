"""Collects what a run's stages left in its folder into the `RunSummary` that the report shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.config import config_to_dict
from pocketrec.distill.data.catalogue import Catalogue
from pocketrec.distill.data.splits import EvalSet
from pocketrec.distill.evaluation.protocol import item_counts
from pocketrec.export.measure import BundleRanker, bundle_bytes
from pocketrec.report.summary import Artifact, CodebookUse, Example, PopularityBias, RunSummary
from pocketrec.run.measured import convention_of_run, left_out, measured_systems, p_values, what_won
from pocketrec.run.run import CURVE, DATA_REPORT, GATES, Run, read_json, versions
from pocketrec.run.shortfall import run_shortfall
from pocketrec.runtime.recommender import Recommender

SAMPLED_USERS = 2_000
EXAMPLES = 6
EXAMPLE_HISTORY = 6  # items; examples are those whose history is nearest to this length, so that they can be read
BINS = 10


def summarise(run: Run, seconds: Mapping[str, float]) -> RunSummary:
    """Read a finished run; a sample of test users goes through its bundle for examples and latency.

    :param seconds: duration of each stage of the run.
    """
    config, split, catalogue, bundle = run.config, run.split, run.catalogue, run.bundle
    manifest = read_json(bundle / "manifest.json")
    losses, validation = _curves(run)
    counts = item_counts(split.train, run.n_items)
    gates = run.folder / GATES
    with Recommender.load(bundle) as recommender:
        ranker = BundleRanker(recommender, catalogue.item_ids)
        sample = split.test.take(np.sort(np.random.default_rng(0).permutation(len(split.test))[:SAMPLED_USERS]))
        ranked = ranker.rank(sample.histories, 10, exclude_seen=True)
        examples = _examples(recommender, sample, catalogue)
    p50, p95 = np.percentile(ranker.milliseconds, [50, 95])
    artifact: Artifact = {
        "files": bundle_bytes(bundle),
        "parameters": manifest["model"]["parameters"],
        "p50_ms": float(p50),
        "p95_ms": float(p95),
    }
    systems, p = measured_systems(run), p_values(run)
    return RunSummary(
        title=f"pocketrec: {run.folder.name}",
        dataset=_dataset(run),
        losses=losses,
        validation=validation,
        metrics=systems,
        p_values=p,
        verdict=what_won(systems, p, convention_of_run(run)),
        left_out=left_out(run),
        shortfall=(run_shortfall(run, systems) or {"text": ""})["text"],
        artifact=artifact,
        gates=read_json(gates)["rows"] if gates.exists() else [],
        semantic_ids=_codebook_use(run),
        popularity_bias=_popularity_bias(counts, ranked),
        examples=examples,
        configuration=config_to_dict(config),
        versions=versions(),
        seeds={"sid": config.sid.seed, "student": config.train.seed, "sasrec": config.sasrec.train.seed},
        seconds=seconds,
        next_command=f"pocketrec recommend {bundle} --history {catalogue.item_ids[0]}",
    )


def _dataset(run: Run) -> dict[str, Any]:
    report = read_json(run.folder / DATA_REPORT)
    facts = {k: v for k, v in report.items() if isinstance(v, (str, int, float))}
    privacy = {"privacy": run.privacy} if run.privacy else {}
    return {**facts, "split": run.split.rule, **privacy, "findings": report.get("findings", [])}


def _curves(run: Run) -> tuple[list[Any], list[Any]]:
    """Losses and validations of every model that the run trained."""
    losses, validation = [], []
    trained = {"student": run.student_stage}
    if run.config.prune.wanted:
        trained["pruned student"] = "prune"
    if run.config.sasrec.enabled:
        trained["sasrec"] = "sasrec"
    if run.has_llm:
        trained["teacher"] = "teacher"
    for model, stage in trained.items():
        curve = read_json(run.folder / stage / CURVE)
        losses += [{"model": model, **point} for point in curve["losses"]]
        validation += [{"model": model, **point} for point in curve["validations"]]
    return losses, validation


def _codebook_use(run: Run) -> CodebookUse:
    ids, quality = run.ids, run.ids.quality
    return {
        "levels": int(ids.rows.shape[1]),
        "codes": quality.codes,
        "use": quality.use,
        "entropy_bits": quality.entropy_bits,
        "counts": quality.counts,
        "moved": quality.moved,
        "moved_share": quality.moved_share,
        "neighbour_agreement": quality.neighbour_agreement,
        "collapsed": min(quality.use) < run.config.sid.min_use,
    }


def _popularity_bias(counts: NDArray[np.int64], ranked: NDArray[np.int32]) -> PopularityBias:
    """Shares of catalogue, interactions and recommendations by decile of popularity, most popular first.

    :param counts: training events per item, [n_items].
    :param ranked: recommended items per user, [users, 10]; −1: none.
    """
    bins = min(BINS, len(counts))
    decile = np.empty(len(counts), np.int64)
    decile[np.argsort(-counts, kind="stable")] = np.arange(len(counts)) * bins // len(counts)

    def shares(weights: NDArray[Any]) -> list[float]:
        total = np.bincount(decile, weights=weights, minlength=bins)
        return [float(x) for x in total / max(total.sum(), 1)]

    recommended = np.bincount(ranked[ranked >= 0], minlength=len(counts))
    return {
        "bins": [f"{i + 1}" for i in range(bins)],
        "catalogue": shares(np.ones(len(counts))),
        "interactions": shares(counts),
        "recommended": {"student": shares(recommended)},
    }


def _examples(recommender: Recommender, sample: EvalSet, catalogue: Catalogue) -> list[Example]:
    """A few test users: their history, the item that they took next, and what is recommended to them."""
    distance = np.abs(sample.histories.lengths - EXAMPLE_HISTORY)
    chosen = np.argsort(distance, kind="stable")[:EXAMPLES]
    title = [t or i for t, i in zip(catalogue.titles, catalogue.item_ids, strict=True)]
    out: list[Example] = []
    for row in chosen.tolist():
        history, target = sample.histories[row], int(sample.targets[row])
        found = recommender.recommend([catalogue.item_ids[i] for i in history], k=10)
        out.append(
            {
                "history": [title[i] for i in history[-10:]],
                "target": title[target],
                "recommended": [
                    {
                        "title": r.title or r.item_id,
                        "score": r.score,
                        "hit": r.item_id == catalogue.item_ids[target],
                    }
                    for r in found
                ],
            }
        )
    return out
