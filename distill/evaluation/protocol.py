"""The one evaluation protocol: every model, baseline and exported bundle is measured by these functions.

On the path of the data: after anything that can rank, before the run report. Promises: full ranking over all items;
a model reads the newest items of a history, as on the device, and exclusion covers the whole history; lists are checked
before they are measured (`distill.evaluation.ranking`). Results are reported by two conventions: items of the history
may be recommended again ("seen kept"), or not ("seen excluded").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.config import EvaluationConfig
from pocketrec.distill.data.splits import EvalSet, Sequences, Split
from pocketrec.distill.evaluation.baselines import CoOccurrence, Popularity, TransitionGraph
from pocketrec.distill.evaluation.kept_ranks import KeptRanks
from pocketrec.distill.evaluation.metrics import SHOWN, Metrics, mean_percentile, metrics_from_ranks, ranks_of
from pocketrec.distill.evaluation.ranking import EMPTY, INVALID, Ranker, ranked_lists
from pocketrec.distill.evaluation.word_graph import GraphAndWords
from pocketrec.distill.models.sasrec import Sasrec, SasrecRanker
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import DataError

WEIGHT_CASES = 4000  # validation cases that the weights of "graph and words" are chosen on
CONVENTIONS = {"seen kept": False, "seen excluded": True}  # name → exclude_seen


def evaluate(
    ranker: Ranker,
    cases: EvalSet,
    *,
    n_items: int,
    item_counts: NDArray[np.integer[Any]] | None,
    exclude_seen: bool = False,
    list_length: int = 20,
    batch_size: int = 1024,
    progress: Progress = SILENT,
) -> Metrics:
    """Rank for all cases and measure the lists.

    The ranker gets whole histories and reads as much of them as on the device. With `exclude_seen`, no item of the
    whole history is recommended; a target among them counts as a miss. MRR is of the list of `list_length` items: a
    target outside it counts 0.

    :param n_items: size of the catalogue; every item is ranked.
    :param item_counts: training events of each item, [n_items], for the popularity percentile; None: not measured.
    :raises DataError: if there are no cases, or they do not fit the catalogue.
    :raises ConfigError: if `list_length` is shorter than the longest cutoff.
    :raises RankingError: if a list breaks the contract of `Ranker`.
    """
    if item_counts is not None and len(item_counts) != n_items:
        raise DataError(f"item_counts has {len(item_counts)} entries for {n_items} items; give one per item")
    lists = ranked_lists(
        ranker, cases, n_items=n_items, exclude_seen=exclude_seen,
        list_length=list_length, batch_size=batch_size, progress=progress,
    )  # fmt: skip
    shown = lists[:, :SHOWN]
    items = shown[shown >= 0]
    filled = int(np.count_nonzero(lists != EMPTY))
    return metrics_from_ranks(
        ranks_of(lists, cases.targets),
        coverage=len(np.unique(items)) / n_items,
        popularity=None if item_counts is None or not len(items) else mean_percentile(items, item_counts),
        invalid=float(np.count_nonzero(lists == INVALID)) / max(filled, 1),
    )


def hits(
    ranker: Ranker,
    cases: EvalSet,
    *,
    n_items: int,
    exclude_seen: bool = False,
    list_length: int = 20,
    batch_size: int = 1024,
    progress: Progress = SILENT,
) -> NDArray[np.int32]:
    """Return the rank of each target in its list, int32 [n], from 0; -1 where it is not in the list.

    `paired_difference` compares two systems by their ranks on the same cases. Arguments and errors as in `evaluate`.
    """
    lists = ranked_lists(
        ranker, cases, n_items=n_items, exclude_seen=exclude_seen,
        list_length=list_length, batch_size=batch_size, progress=progress,
    )  # fmt: skip
    return ranks_of(lists, cases.targets)


def measure(
    rankers: Mapping[str, Ranker],
    split: Split,
    n_items: int,
    evaluation: EvaluationConfig,
    progress: Progress = SILENT,
    kept: KeptRanks | None = None,
) -> dict[str, Any]:
    """Measure systems on the test cases by both conventions: system → convention → metric → value.

    :param kept: gets the ranks of all targets.
    """
    cases = sample(split.test, evaluation.users)
    counts = item_counts(split.train, n_items)
    metrics: dict[str, Any] = {}
    with progress.track("measuring", 2 * len(rankers)) as advance:
        for name, ranker in rankers.items():
            metrics[name] = {}
            for convention, exclude_seen in CONVENTIONS.items():
                measured = evaluate(ranker, cases, n_items=n_items, item_counts=counts, exclude_seen=exclude_seen)
                metrics[name][convention] = measured.to_dict()
                if kept is not None:
                    kept.add(name, convention, measured.ranks)
                advance(1, name)
    return metrics


def measure_baselines(
    split: Split,
    n_items: int,
    sasrec: Sasrec | None,
    evaluation: EvaluationConfig,
    progress: Progress = SILENT,
    kept: KeptRanks | None = None,
    texts: Sequence[str] = (),
) -> dict[str, Any]:
    """Fit the baselines that need no training, and measure them and SASRec on the test cases.

    :param sasrec: trained; None: leave it out.
    :param kept: gets the ranks of all targets.
    :param texts: of each item; without any, "graph and words" is left out, since it would be the graph alone.
    :returns: as `measure`.
    """
    rankers: dict[str, Ranker] = {
        "popularity": Popularity.fit(split.train, n_items),
        "co-occurrence": replace(CoOccurrence.fit(split.train, n_items), max_history=evaluation.max_history),
        "transition graph": replace(TransitionGraph.fit(split.train, n_items), max_history=evaluation.max_history),
    }
    if any(texts):
        valid = sample(split.valid, WEIGHT_CASES)
        rankers["graph and words"] = GraphAndWords.fit(split.train, n_items, texts, valid, evaluation.max_history)
    if sasrec is not None:
        rankers["SASRec-CE"] = SasrecRanker(sasrec)
    return measure(rankers, split, n_items, evaluation, progress, kept)


def sample(cases: EvalSet, users: int, seed: int = 0) -> EvalSet:
    """Draw `users` cases at random and return them in their order; 0 takes all."""
    if users == 0 or users >= len(cases):
        return cases
    return cases.take(np.sort(np.random.default_rng(seed).permutation(len(cases))[:users]))


def item_counts(train: Sequences, n_items: int) -> NDArray[np.int64]:
    """Count the training events of each item, int64 [n_items]."""
    return np.bincount(train.events(), minlength=n_items)
