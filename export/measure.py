"""What a bundle is worth, measured on the exported files through the runtime that ships: quality, bytes, latency.

Never on the checkpoint: quantisation, graph errors and the trie all show here or nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.evaluation import evaluate
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.splits import EvalSet, Sequences
from pocketrec.runtime.recommender import Recommender

WARM_UP = 20


class BundleRanker:
    """A bundle as a `Ranker`: catalogue rows in, catalogue rows out, one call of the runtime per history."""

    def __init__(self, recommender: Recommender, item_ids: Sequence[str], beam: int | None = None) -> None:
        """Match a catalogue with the bundle's items.

        :param item_ids: ids of the catalogue whose rows the histories hold; the bundle may lack some.
        :param beam: beam width; None: the bundle's own.
        """
        self.recommender, self.beam = recommender, beam
        self._to_bundle = recommender.trie.table.find(list(item_ids))  # [n_items], -1: not in the bundle
        self._to_catalogue = np.full(len(recommender.trie.table), -1, np.int32)
        known = self._to_bundle >= 0
        self._to_catalogue[self._to_bundle[known]] = np.flatnonzero(known).astype(np.int32)
        self.milliseconds: list[float] = []

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best k rows of each history, int32 [n, k], -1 where nothing is left; notes each call's time."""
        out = np.full((len(histories), k), -1, np.int32)
        for row, history in enumerate(histories):
            known = self._to_bundle[history]
            known = known[known >= 0]
            begun = time.perf_counter()
            found, _ = self.recommender.recommend_rows(known, k=k, exclude_seen=exclude_seen, beam=self.beam)
            self.milliseconds.append((time.perf_counter() - begun) * 1e3)
            out[row, : len(found)] = self._to_catalogue[found]
        return out


def evaluate_bundle(
    recommender: Recommender,
    item_ids: Sequence[str],
    questions: EvalSet,
    *,
    max_history: int = 20,
    beam: int | None = None,
    exclude_seen: bool = False,
    item_counts: NDArray[np.int64] | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a bundle on questions, as `pocketrec evaluate` reports it.

    :returns: recall, ndcg, mrr, coverage, popularity, the share of invalid items, users, and latency of the calls
        in milliseconds (p50, p95).
    """
    ranker = BundleRanker(recommender, item_ids, beam)
    ranker.rank(questions.histories.take(slice(0, WARM_UP)), 10, exclude_seen)
    ranker.milliseconds.clear()
    metrics = evaluate(
        ranker, questions, n_items=len(item_ids), item_counts=item_counts, max_history=max_history,
        exclude_seen=exclude_seen, progress=progress,
    )  # fmt: skip
    p50, p95 = np.percentile(ranker.milliseconds, [50, 95])
    return {**metrics.to_dict(), "p50_ms": round(float(p50), 4), "p95_ms": round(float(p95), 4)}


def bundle_bytes(folder: Path) -> dict[str, int]:
    """Return the size of every file of a bundle."""
    return {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.is_file()}
