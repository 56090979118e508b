"""Measures a bundle's quality, bytes and latency on the exported files, through the runtime that ships.

Never on the checkpoint: losses by quantisation, wrong graphs and a wrong trie show only in the files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.config import DataConfig, EvaluationConfig
from pocketrec.distill.data.load import load_dataset
from pocketrec.distill.data.splits import EvalSet, Sequences, Split, split_users
from pocketrec.distill.evaluation.kept_ranks import KeptRanks
from pocketrec.distill.evaluation.protocol import CONVENTIONS, evaluate, item_counts, sample
from pocketrec.distill.evaluation.ranking import Ranker
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.export.experts_ranker import ExpertsRanker
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.engines.registry import engine_for
from pocketrec.runtime.recommender import Recommender

WARM_UP = 20


class BundleRanker:
    """A bundle as a `Ranker`: catalogue rows in, catalogue rows out, one call of the runtime per history."""

    def __init__(self, recommender: Recommender, item_ids: Sequence[str], beam: int | None = None) -> None:
        """Match a catalogue's rows with the bundle's items.

        :param item_ids: ids of the catalogue, by the rows that histories hold; the bundle may lack some.
        :param beam: beam width; None: the bundle's own.
        """
        self.recommender, self.beam = recommender, beam
        self._to_bundle = recommender.trie.table.find(list(item_ids))  # [n_items], -1: not in the bundle
        self._to_catalogue = np.full(len(recommender.trie.table), -1, np.int32)
        known = self._to_bundle >= 0
        self._to_catalogue[self._to_bundle[known]] = np.flatnonzero(known).astype(np.int32)
        self.milliseconds: list[float] = []
        self.on_call: Callable[[], None] = lambda: None

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best k rows after each whole history, int32 [n, k], -1: no item left; records each call's time.

        The runtime cuts a history to what the model reads, and excludes all of it.
        """
        out = np.full((len(histories), k), -1, np.int32)
        for row, history in enumerate(histories):
            known = self._to_bundle[history]
            known = known[known >= 0]
            begun = time.perf_counter()
            found, _ = self.recommender.recommend_rows(known, k=k, exclude_seen=exclude_seen, beam=self.beam)
            self.milliseconds.append((time.perf_counter() - begun) * 1e3)
            out[row, : len(found)] = self._to_catalogue[found]
            self.on_call()
        return out


def evaluate_bundle(
    recommender: Recommender,
    item_ids: Sequence[str],
    questions: EvalSet,
    *,
    beam: int | None = None,
    exclude_seen: bool = False,
    item_counts: NDArray[np.int64] | None = None,
    progress: Progress = SILENT,
    label: str = "evaluating the bundle",
) -> dict[str, Any]:
    """Measure a bundle on held-out questions, as `pocketrec evaluate` reports it.

    :param questions: histories and the items that followed them, in rows of `item_ids`.
    :returns: recall, ndcg, mrr, coverage, popularity, the share of invalid items, users, and the latency of a call
        in milliseconds (p50, p95).
    """
    ranker = BundleRanker(recommender, item_ids, beam)
    ranker.rank(questions.histories.take(slice(0, WARM_UP)), 10, exclude_seen)
    ranker.milliseconds.clear()
    with progress.track(label, len(questions)) as advance:
        ranker.on_call = advance
        metrics = evaluate(ranker, questions, n_items=len(item_ids), item_counts=item_counts, exclude_seen=exclude_seen)
    p50, p95 = np.percentile(ranker.milliseconds, [50, 95])
    return {**metrics.to_dict(), "p50_ms": round(float(p50), 4), "p95_ms": round(float(p95), 4)}


def bundle_bytes(folder: Path) -> dict[str, int]:
    """Return the size of every file of a bundle."""
    return {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.is_file()}


def open_files(folder: Path) -> Recommender:
    """Open a bundle with the engine that it was exported for, so that its own graphs are measured."""
    return Recommender.load(folder, engine_for(open_bundle(folder)))


def measure_bundle(
    folder: Path,
    item_ids: Sequence[str],
    split: Split,
    evaluation: EvaluationConfig,
    progress: Progress = SILENT,
    kept: KeptRanks | None = None,
) -> dict[str, Any]:
    """Measure a written bundle on the test questions by both conventions (seen items kept and excluded).

    For the manifest, so without latency, which belongs to a machine and not to the files. A bundle with experts is
    measured with them; under "alone" are the measures of the student, of the crowd and of the words, each by itself.

    :param kept: gets the ranks of all targets, of systems "bundle", "student", "crowd" and "words".
    """
    kept = KeptRanks() if kept is None else kept
    questions = sample(split.test, evaluation.users)
    counts = item_counts(split.train, len(item_ids))
    out: dict[str, Any] = {}
    with open_files(folder) as recommender:
        parts: dict[str, Ranker] = {"bundle": BundleRanker(recommender, item_ids)}
        parts |= _parts(recommender, item_ids)
        for name, ranker in parts.items():
            measured = {}
            for convention, exclude_seen in CONVENTIONS.items():
                with progress.track(f"measuring the {name}, {convention}", len(questions)) as advance:
                    if isinstance(ranker, BundleRanker):
                        ranker.on_call = advance
                    metrics = evaluate(
                        ranker, questions, n_items=len(item_ids), item_counts=counts, exclude_seen=exclude_seen
                    )
                kept.add(name, convention, metrics.ranks)
                measured[convention] = metrics.to_dict()
            if name == "bundle":
                out |= measured
            else:
                out.setdefault("alone", {})[name] = measured
    return out


def _parts(recommender: Recommender, item_ids: Sequence[str]) -> dict[str, Ranker]:
    """The student, the crowd and the words of a bundle with experts, each by itself; none in another bundle."""
    experts = recommender.retriever.experts
    if experts is None:
        return {}
    trie = recommender.trie
    alone = Recommender(recommender.engine, trie, recommender.manifest, recommender.cold)  # its engine is not closed
    popularity = None if experts.crowd is None else experts.crowd.log_popularity
    single = {name: ExpertsRanker(one, trie, item_ids, popularity) for name, one in experts.single().items()}
    return {"student": BundleRanker(alone, item_ids), **single}


def evaluate_log(
    recommender: Recommender,
    folder: Path,
    interactions: Path,
    data: DataConfig,
    *,
    split: str = "test",
    beam: int | None = None,
    exclude_seen: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a bundle on the held-out events of a log, as `pocketrec evaluate` prints it.

    Items of the log that the bundle lacks are skipped in histories; as a target they count as a miss.

    :param folder: the bundle's folder, whose file sizes are reported.
    :param split: "test" or "valid".
    :raises DataError: if the log cannot be read, or has no held-out event.
    """
    dataset = load_dataset(interactions, None, data)
    parts = split_users(dataset.users, dataset.times, data)
    questions = parts.test if split == "test" else parts.valid
    logged = list(dataset.catalogue.item_ids)
    # Items without an event come after those of the log, so that every item of the bundle has a row.
    table = recommender.trie.table
    known = set(logged)
    rest = [i for i in table.ids(recommender.trie.table_rows) if i not in known]
    item_ids = logged + rest
    measured = evaluate_bundle(
        recommender, item_ids, questions, beam=beam, exclude_seen=exclude_seen,
        item_counts=item_counts(parts.train, len(item_ids)), progress=progress,
    )  # fmt: skip
    return {
        **measured,
        "bytes": bundle_bytes(folder),
        "parameters": recommender.manifest.model.parameters,
        "engine": recommender.engine.name,
        "split": parts.rule,
    }
