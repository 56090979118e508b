"""Metrics of a single relevant item per case, from the target's rank in the recommended list; and their comparison.

Pure functions of arrays. `distill.evaluation.protocol` computes the ranks of a ranker and reports these metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.errors import ConfigError, DataError

CUTOFFS = (5, 10)
SHOWN = 10  # coverage and popularity count the first ten items: those that a user would see


@dataclass(frozen=True)
class Metrics:
    """The metrics of one system. Shares and means in [0, 1]; None where it was not measured.

    recall, ndcg: by cutoff; with one target per case, recall@k is the hit rate. mrr: over the whole list, 0 for a
    target outside it. coverage: share of the catalogue that is among the first ten of any list. popularity: mean
    popularity percentile of the items among the first ten (0.5: as popular as the average item). invalid: share of the
    filled slots that hold a semantic ID which no item has. ranks: int32 [users], of each case's target, for comparisons
    of systems; not part of `to_dict`.
    """

    users: int
    recall: dict[int, float]
    ndcg: dict[int, float]
    mrr: float
    coverage: float | None = None
    popularity: float | None = None
    invalid: float | None = None
    ranks: NDArray[np.int32] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, float | int]:
        """Return the metrics under their published names, without those that were not measured."""
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
    """Mean difference of a metric between two systems, the ends of its 95 % interval, and its two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float = 1.0


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
    """Return the metrics of these ranks.

    coverage, popularity, invalid: as in `Metrics`, measured on the lists; ranks alone do not determine them.

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
        ranks=ranks,
    )


def gains(ranks: NDArray[np.int32], metric: str) -> NDArray[np.float64]:
    """Return what each case contributes to a metric's mean, float64 [n].

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
    """Return the mean difference of a metric, system A minus system B, with its 95 % percentile interval.

    Paired bootstrap over cases (Efron and Tibshirani 1993, ch. 13). If the interval does not contain 0, the choice of
    users does not explain the difference. The p-value is twice the share of samples on the other side of 0 (or on it),
    counted with one more sample there, so that it is never 0.

    :param ranks_a: int32 [n], from `hits`; `ranks_b`: of the same cases in the same order.
    :raises DataError: if there are no cases, or not as many of one system as of the other.
    """
    _check_paired(ranks_a, ranks_b)
    difference = gains(ranks_a, metric) - gains(ranks_b, metric)
    # There are few distinct values, so resampling cases is drawing how often each value occurs.
    values, counts = np.unique(difference, return_counts=True)
    means = _resampled(counts, seed, samples) @ values / len(difference)
    low, high = np.percentile(means, (2.5, 97.5))
    beyond = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p = min(1.0, 2 * (int(beyond) + 1) / (samples + 1))
    return Difference(float(difference.mean()), float(low), float(high), p)


def paired_loss(
    ranks: NDArray[np.int32], changed: NDArray[np.int32], metric: str, seed: int = 0, samples: int = 10_000
) -> Difference:
    """Return the share of a metric that a changed system lost, with one-sided 95 % bounds (a 90 % interval).

    loss = 1 - metric(changed) / metric(first); below 0: a gain. Paired bootstrap over cases (Efron and Tibshirani 1993,
    ch. 13), in which both means vary. A first system without any gain has nothing to lose: all three are 0.

    :param ranks: of the first system, int32 [n], from `hits`; `changed`: of the same cases in the same order.
    :raises DataError: if there are no cases, or not as many of one system as of the other.
    """
    _check_paired(ranks, changed)
    pairs = np.stack((gains(ranks, metric), gains(changed, metric)))
    if not pairs[0].any():
        return Difference(0.0, 0.0, 0.0)
    values, counts = np.unique(pairs, axis=1, return_counts=True)
    first, second = values @ _resampled(counts, seed, samples).T
    losses = 1 - second[first > 0] / first[first > 0]
    low, high = np.percentile(losses, (5, 95))
    return Difference(float(1 - pairs[1].mean() / pairs[0].mean()), float(low), float(high))


def _resampled(counts: NDArray[np.int64], seed: int, samples: int) -> NDArray[np.int64]:
    """How often each distinct value occurs in bootstrap samples, int64 [samples, values]."""
    total = int(counts.sum())
    return np.random.default_rng(seed).multinomial(total, counts / total, size=samples)


def _check_paired(ranks_a: NDArray[np.int32], ranks_b: NDArray[np.int32]) -> None:
    if len(ranks_a) != len(ranks_b) or len(ranks_a) == 0:
        raise DataError(f"{len(ranks_a)} and {len(ranks_b)} ranks cannot be paired; evaluate both on the same cases")


def mean_percentile(items: NDArray[np.int32], counts: NDArray[np.integer[Any]]) -> float:
    """Return the mean popularity percentile of items, in [0, 1]; tied items share the middle of their range.

    :param items: catalogue rows, int32 [m], m ≥ 1; an item counts as often as it occurs.
    :param counts: training events of each item of the catalogue, [n_items].
    """
    ordered = np.sort(counts)
    below, up_to = np.searchsorted(ordered, counts, "left"), np.searchsorted(ordered, counts, "right")
    percentile = (below + up_to) / (2 * len(counts))
    return float(percentile[items].mean())
