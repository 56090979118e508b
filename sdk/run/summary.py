"""Gathers what a run's stages left in its folder into the `RunSummary` that the report shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.config import config_to_dict
from pocketrec.distill.config import RunConfig
from pocketrec.distill.data.splits import EvalSet, Split
from pocketrec.distill.data.storage import StoredCatalogue, load_catalogue, load_split
from pocketrec.distill.evaluation.protocol import item_counts
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.export.measure import BundleRanker, bundle_bytes
from pocketrec.report.render import Artifact, Example, PopularityBias, RunSummary
from pocketrec.report.render import SemanticIds as SemanticIdsPart
from pocketrec.run.run_files import BUNDLE, CURVE, GATES, read_json, read_teachers, student_stage, versions
from pocketrec.runtime.recommender import Recommender

STUDENT = "student (exported bundle)"
SAMPLED_USERS = 2_000
EXAMPLES = 6
BINS = 10


def summarise(run: Path, config: RunConfig, seconds: Mapping[str, float]) -> RunSummary:
    """Read a finished run's folder; a sample of test users goes through the bundle for examples and latency."""
    split = load_split(run / "data", config.data)
    catalogue = load_catalogue(run / "data")
    report = read_json(run / "data" / "report.json")
    bundle = run / "export" / BUNDLE
    manifest = read_json(bundle / "manifest.json")
    losses, validation = _curves(run, config)
    teachers = read_teachers(run) if config.teacher.enabled else {}
    counts = item_counts(split.train, len(catalogue.item_ids))
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
    return RunSummary(
        title=f"pocketrec: {run.name}",
        dataset=_dataset(report, split, catalogue),
        losses=losses,
        validation=validation,
        metrics={STUDENT: manifest["metrics"], **teachers, **read_json(run / "baselines" / "metrics.json")},
        artifact=artifact,
        gates=read_json(run / GATES)["rows"] if (run / GATES).exists() else [],
        semantic_ids=_semantic_ids(SemanticIds.load(run / "sids"), config),
        popularity_bias=_popularity_bias(counts, ranked),
        examples=examples,
        configuration=config_to_dict(config),
        versions=versions(),
        seeds={"sid": config.sid.seed, "student": config.train.seed, "sasrec": config.sasrec.train.seed},
        seconds=seconds,
        next_command=f"pocketrec recommend {bundle} --history {catalogue.item_ids[0]}",
    )


def _dataset(report: Mapping[str, Any], split: Split, catalogue: StoredCatalogue) -> dict[str, Any]:
    facts = {k: v for k, v in report.items() if isinstance(v, (str, int, float))}
    return {
        **facts,
        "items": len(catalogue.item_ids),
        "split": split.rule,
        "findings": report.get("findings", []),
    }


def _curves(run: Path, config: RunConfig) -> tuple[list[Any], list[Any]]:
    losses, validation = [], []
    trained = {"student": student_stage(config)}
    if config.prune.wanted:
        trained["pruned student"] = "prune"
    if config.sasrec.enabled:
        trained["sasrec"] = "sasrec"
    if config.teacher.enabled and "llm" in config.soft_labels.members:
        trained["teacher"] = "teacher"
    for model, stage in trained.items():
        curve = read_json(run / stage / CURVE)
        losses += [{"model": model, **point} for point in curve["losses"]]
        validation += [{"model": model, **point} for point in curve["validations"]]
    return losses, validation


def _semantic_ids(ids: SemanticIds, config: RunConfig) -> SemanticIdsPart:
    quality = ids.quality
    return {
        "levels": int(ids.rows.shape[1]),
        "codes": quality.codes,
        "use": quality.use,
        "entropy_bits": quality.entropy_bits,
        "counts": quality.counts,
        "moved": quality.moved,
        "moved_share": quality.moved_share,
        "neighbour_agreement": quality.neighbour_agreement,
        "collapsed": min(quality.use) < config.sid.min_use,
    }


def _popularity_bias(counts: NDArray[np.int64], ranked: NDArray[np.int32]) -> PopularityBias:
    """Shares of catalogue, interactions and recommendations by decile of popularity, most popular first."""
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


def _examples(recommender: Recommender, sample: EvalSet, catalogue: StoredCatalogue) -> list[Example]:
    """A few histories: those of middle length first, so that they can be read."""
    lengths = sample.histories.lengths
    chosen = np.argsort(np.abs(lengths - 6), kind="stable")[:EXAMPLES]
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
