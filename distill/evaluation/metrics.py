"""The one evaluator: every model, baseline and exported bundle is measured here, and nowhere else.

On the path of the data: after anything that can rank (a trained model, a baseline, a bundle opened by the
runtime), before the run report. What it promises: full ranking over all items, histories cut as the device
cuts them, and lists that are checked before they count, so that no figure rests on a malformed ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import ConfigError, DataError, PocketRecError

EMPTY = -1  # a list slot with nothing in it; only EMPTY may follow
INVALID = -2  # a slot spent on an ID that no item has (rankers which generate without constraint)
CUTOFFS = (5, 10)
SHOWN = 10  # coverage and popularity look at the first ten: what a user would see


class RankingError(PocketRecError):
    """A ranker returned lists that break the ranking contract; its figures would mean nothing."""


class Ranker(Protocol):
    """Anything that recommends."""

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best `k` items for each history.

        :param histories: catalogue rows, oldest first; may be empty.
        :param k: length of the lists.
        :param exclude_seen: leave out every item of the history.
        :returns: int32 [n, k], catalogue rows, best first, none twice; EMPTY (-1) where there is nothing
            more, INVALID (-2) where the slot went to an ID that no item has.
        """


@dataclass(frozen=True)
class Metrics:
    """What one system scored. Shares and means in [0, 1]; None where it was not measured.

    recall, ndcg: by cutoff; with one target a question, recall@k is the hit rate. mrr: over the whole list,
    0 beyond it. coverage: share of the catalogue in anyone's first ten. popularity: mean popularity
    percentile of the items in the first tens (0.5: as popular as the average item). invalid: share of filled
    slots spent on an ID that no item has.
    """

    users: int
    recall: dict[int, float]
    ndcg: dict[int, float]
    mrr: float
    coverage: float | None = None
    popularity: float | None = None
    invalid: float | None = None

    def to_dict(self) -> dict[str, float | int]:
        """Return the measures under their published names; those not measured are left out."""
        measured = {f"coverage@{SHOWN}": self.coverage, f"popularity@{SHOWN}": self.popularity}
        return {
            **{f"recall@{k}": value for k, value in self.recall.items()},
            **{f"ndcg@{k}": value for k, value in self.ndcg.items()},
            "mrr": self.mrr,
            **{name: value for name, value in measured.items() if value is not None},
            **({} if self.invalid is None else {"invalid": self.invalid}),
            "users": self.users,
        }


@dataclass(frozen=True)
class Difference:
    """How far one system is above another: mean, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def evaluate(
    ranker: Ranker,
    questions: EvalSet,
    *,
    n_items: int,
    item_counts: NDArray[np.integer[Any]] | None,
    max_history: int = 20,
    exclude_seen: bool = False,
    list_length: int = 20,
    batch_size: int = 1024,
    progress: Progress = SILENT,
) -> Metrics:
    """Ask the ranker every question and measure its lists.

    The ranker sees the newest `max_history` items, as on the device, and `exclude_seen` leaves out these. A
    target among them cannot be recommended then and counts as a miss. MRR is taken over the returned list of
    `list_length` items: a target further down counts 0.

    :param n_items: size of the catalogue; every item competes.
    :param item_counts: training events of each item, [n_items], for the popularity percentile; None: not
        measured.
    :raises DataError: if there are no questions or they do not fit the catalogue.
    :raises ConfigError: if `list_length` is shorter than the longest cutoff.
    :raises RankingError: if the ranker breaks its contract.
    """
    if item_counts is not None and len(item_counts) != n_items:
        raise DataError(f"item_counts has {len(item_counts)} entries for {n_items} items; give one per item")
    lists = recommend(
        ranker,
        questions,
        n_items=n_items,
        max_history=max_history,
        exclude_seen=exclude_seen,
        list_length=list_length,
        batch_size=batch_size,
        progress=progress,
    )
    shown = lists[:, :SHOWN]
    items = shown[shown >= 0]
    filled = int(np.count_nonzero(lists != EMPTY))
    return metrics_from_ranks(
        ranks_of(lists, questions.targets),
        coverage=len(np.unique(items)) / n_items,
        popularity=None if item_counts is None or not len(items) else _mean_percentile(items, item_counts),
        invalid=float(np.count_nonzero(lists == INVALID)) / max(filled, 1),
    )


def hits(
    ranker: Ranker,
    questions: EvalSet,
    *,
    n_items: int,
    max_history: int = 20,
    exclude_seen: bool = False,
    list_length: int = 20,
    batch_size: int = 1024,
    progress: Progress = SILENT,
) -> NDArray[np.int32]:
    """Return where each target stood in its list, int32 [n], from 0; -1 if it was not there.

    Two systems' ranks on the same questions are what `paired_difference` compares. Arguments and errors as in
    `evaluate`.
    """
    lists = recommend(
        ranker,
        questions,
        n_items=n_items,
        max_history=max_history,
        exclude_seen=exclude_seen,
        list_length=list_length,
        batch_size=batch_size,
        progress=progress,
    )
    return ranks_of(lists, questions.targets)


def recommend(
    ranker: Ranker,
    questions: EvalSet,
    *,
    n_items: int,
    max_history: int,
    exclude_seen: bool,
    list_length: int,
    batch_size: int,
    progress: Progress,
) -> NDArray[np.int32]:
    """Return the ranker's checked lists for all questions, int32 [n, list_length].

    Arguments and errors as in `evaluate`.
    """
    if list_length < max(CUTOFFS):
        raise ConfigError(f"list_length is {list_length}; the cutoffs need at least {max(CUTOFFS)}")
    if max_history < 1 or batch_size < 1:
        raise ConfigError(f"max_history ({max_history}) and batch_size ({batch_size}) must be at least 1")
    if len(questions) == 0:
        raise DataError("there are no questions to evaluate; check the split")
    low, high = questions.targets.min(), questions.targets.max()
    if low < 0 or high >= n_items:
        raise DataError(
            f"targets go from {low} to {high}, the catalogue has rows 0 to {n_items - 1}; "
            "use the catalogue that the split was made with"
        )
    histories = questions.histories.last(max_history)
    lists = np.empty((len(questions), list_length), np.int32)
    with progress.track("evaluating", len(questions)) as advance:
        for start in range(0, len(questions), batch_size):
            batch = histories.take(slice(start, start + batch_size))
            found = ranker.rank(batch, list_length, exclude_seen)
            _check_lists(found, (len(batch), list_length), n_items, type(ranker).__name__)
            if exclude_seen:
                _check_unseen(found, batch, n_items, type(ranker).__name__)
            lists[start : start + len(batch)] = found
            advance(len(batch))
    return lists


def ranks_of(lists: NDArray[np.int32], targets: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the position of each target in its list, int32 [n], from 0; -1 if absent.

    :param lists: int32 [n, k].
    :param targets: int32 [n].
    """
    match = lists == targets[:, None]
    return np.where(match.any(axis=1), match.argmax(axis=1), -1).astype(np.int32)


def metrics_from_ranks(
    ranks: NDArray[np.int32],
    *,
    coverage: float | None = None,
    popularity: float | None = None,
    invalid: float | None = None,
) -> Metrics:
    """Return the metrics of these ranks; what ranks cannot tell is passed through.

    :param ranks: int32 [n], 0-based position of each target, -1 where it was not in the list.
    """
    return Metrics(
        users=len(ranks),
        recall={k: float(gains(ranks, f"recall@{k}").mean()) for k in CUTOFFS},
        ndcg={k: float(gains(ranks, f"ndcg@{k}").mean()) for k in CUTOFFS},
        mrr=float(gains(ranks, "mrr").mean()),
        coverage=coverage,
        popularity=popularity,
        invalid=invalid,
    )


def gains(ranks: NDArray[np.int32], metric: str) -> NDArray[np.float64]:
    """Return what each question contributes to a metric's mean, float64 [n].

    recall@k: 1 within the first k. ndcg@k: 1 / log2(1 + r) for the 1-based rank r within the first k (one
    target, so the ideal DCG is 1). mrr: 1 / r.

    :param metric: `recall@k`, `ndcg@k` or `mrr`.
    :raises ConfigError: for any other name.
    """
    name, _, cutoff = metric.partition("@")
    found = ranks >= 0
    place = np.where(found, ranks, 0) + 1.0
    if metric == "mrr":
        return np.where(found, 1 / place, 0.0)
    if name not in ("recall", "ndcg") or not cutoff.isdecimal():
        raise ConfigError(f"there is no metric {metric!r}; use recall@k, ndcg@k or mrr")
    gain = np.ones_like(place) if name == "recall" else 1 / np.log2(1 + place)
    return np.where(found & (place <= int(cutoff)), gain, 0.0)


def paired_difference(
    ranks_a: NDArray[np.int32], ranks_b: NDArray[np.int32], metric: str, seed: int = 0, samples: int = 10_000
) -> Difference:
    """Return how far system A is above system B on the same questions, with its 95 % percentile interval.

    Paired bootstrap over questions (Efron and Tibshirani 1993, ch. 13). An interval that leaves out 0 is a
    difference which the choice of users does not explain.

    :param ranks_a: int32 [n], from `hits`; `ranks_b` the same questions in the same order.
    :raises DataError: if there are no questions, or the two were not asked the same number.
    """
    if len(ranks_a) != len(ranks_b) or len(ranks_a) == 0:
        raise DataError(f"{len(ranks_a)} and {len(ranks_b)} ranks cannot be paired; ask both the same questions")
    difference = gains(ranks_a, metric) - gains(ranks_b, metric)
    # Few distinct values: resampling questions is drawing how often each value comes up.
    values, counts = np.unique(difference, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(difference), counts / len(difference), size=samples)
    low, high = np.percentile(drawn @ values / len(difference), (2.5, 97.5))
    return Difference(float(difference.mean()), float(low), float(high))


def _mean_percentile(items: NDArray[np.int32], counts: NDArray[np.integer[Any]]) -> float:
    ordered = np.sort(counts)
    below, up_to = np.searchsorted(ordered, counts, "left"), np.searchsorted(ordered, counts, "right")
    percentile = (below + up_to) / (2 * len(counts))  # the middle of the tied ones: the mean item is at 0.5
    return float(percentile[items].mean())


def _check_lists(found: NDArray[np.int32], shape: tuple[int, int], n_items: int, who: str) -> None:
    if found.shape != shape or not np.issubdtype(found.dtype, np.integer):
        raise RankingError(f"{who}.rank returned {found.dtype} {list(found.shape)}, not int32 {list(shape)}")
    outside = (found < INVALID) | (found >= n_items)
    if outside.any():
        row, place = np.argwhere(outside)[0]
        raise RankingError(
            f"{who}.rank put {found[row, place]} at place {place} of list {row}; "
            f"rows of this catalogue are 0 to {n_items - 1} (-1: nothing more, -2: no such item)"
        )
    if ((found[:, :-1] == EMPTY) & (found[:, 1:] != EMPTY)).any():
        raise RankingError(f"{who}.rank left a gap inside a list; -1 may stand only at the end")
    ordered = np.sort(found, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row, place = np.argwhere(twice)[0]
        raise RankingError(f"{who}.rank listed item {ordered[row, place]} twice in list {row}; once is allowed")


def _check_unseen(found: NDArray[np.int32], histories: Sequences, n_items: int, who: str) -> None:
    def keys(rows: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.int64]:
        return rows * n_items + items

    seen = keys(np.repeat(np.arange(len(histories)), histories.lengths), histories.events())
    row, place = np.nonzero(found >= 0)
    again = np.flatnonzero(np.isin(keys(row, found[row, place]), seen))
    if len(again):
        item = found[row[again[0]], place[again[0]]]
        raise RankingError(f"{who}.rank listed item {item} of the history although seen items are excluded")
