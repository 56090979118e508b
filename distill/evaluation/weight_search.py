"""Weights of a sum of scores, searched for ranking: the mean ndcg of the targets among each case's candidates.

On the path of the data: scores of several models (committee members, or a bundle's model and its experts) in, one
weight for each out. The search is by coordinates, one weight after the other over a grid around its value (the ndcg is
a step function, so it has no gradient; coordinate ascent on it is Metzler and Croft 2007, "Linear feature-based models
for information retrieval"). Some hundred cases say little about an ndcg@10, so the search goes by the ndcg@30, which
counts more of the targets, and weights are means over searches on random halves (bagging, Breiman 1996).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHOWN = 10  # cutoff of the ndcg that is reported
SEARCHED = 30  # cutoff of the ndcg that weights are searched by
BAGS = 8  # searches whose weights are averaged
BAG = 1500  # cases of one of them, at most; half of the cases if they are fewer
FACTORS = (0.0, 0.3, 0.6, 0.85, 1.15, 1.6, 3.0)  # of a weight's value, tried in each round
STARTS = (0.03, 0.1, 0.3, 1.0)  # for a weight of 0: shares of the scale at which it matters as much as the others
SHIFTS = (-8.0, -4.0, -2.0, -1.0, -0.5, -0.2, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # for a weight of any sign
ROUNDS = 4
CELLS = 1 << 19  # scores held at once while a weight is tried


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scored candidates of n evaluation cases; candidate 0 is the target.

    features: float32 [F, n, C], finite. absent: bool [n, C], candidates that cannot be listed. signed: names the
    features whose weight may be negative. A case whose target is absent counts 0.
    """

    features: NDArray[np.float32]
    absent: NDArray[np.bool_]
    signed: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.absent)

    def take(self, rows: NDArray[np.integer] | slice) -> Candidates:
        """Return some of the cases."""
        return Candidates(self.features[:, rows], self.absent[rows], self.signed)

    def gains(self, weights: Sequence[float], cutoff: int = SHOWN) -> NDArray[np.float64]:
        """Return the ndcg of each case under these weights, float64 [n]; the target comes last of equal scores."""
        return self._gains(self._scores(np.asarray(weights, np.float32)), cutoff)

    def ndcg(self, weights: Sequence[float], cutoff: int = SHOWN) -> float:
        """Return the mean of `gains`; 0 without cases."""
        return float(self.gains(weights, cutoff).mean()) if len(self) else 0.0

    def best(self, choices: Iterable[Sequence[float]], cutoff: int = SEARCHED) -> list[float]:
        """Return the weights with the highest ndcg; of equal ones, the first."""
        tried = list(choices)
        return list(tried[int(np.argmax([self.ndcg(weights, cutoff) for weights in tried]))])

    def climb(self, start: Sequence[float], free: Sequence[int] | None = None, rounds: int = ROUNDS) -> list[float]:
        """Search from a start, one coordinate after the other, until a round changes nothing.

        The ndcg@30 is never worse than the start's on these cases.

        :param start: a weight for each feature.
        :param free: features whose weight may change; None: all.
        """
        weights = np.array(start, np.float64)
        best = self.ndcg(weights.tolist(), SEARCHED)
        spread = self._spread()
        for _ in range(rounds):
            before = best
            for f in range(len(weights)) if free is None else free:
                weights[f], best = self._along(weights, f, spread, best)
            if best <= before:
                break
        return [float(weight) for weight in weights]

    def _along(
        self, weights: NDArray[np.float64], f: int, spread: NDArray[np.float64], best: float
    ) -> tuple[float, float]:
        """Try other values of one weight; return the best value and its ndcg."""
        now = float(weights[f])
        if f in self.signed:
            tries = [now + shift for shift in SHIFTS]
        elif now > 0:
            tries = [now * factor for factor in FACTORS]
        else:
            scale = float((np.abs(weights) * spread).max()) / max(float(spread[f]), 1e-9)
            tries = [scale * share for share in STARTS]
        if not any(weights[i] for i in range(len(weights)) if i != f):
            tries = [value for value in tries if value != 0]  # all weights 0 rank nothing
        totals = np.zeros(len(tries))
        step = max(1, CELLS // max(self.absent.shape[1], 1))
        for at in range(0, len(self), step):
            part = self.take(slice(at, at + step))
            rest = part._scores(np.where(np.arange(len(weights)) == f, 0, weights).astype(np.float32))
            for i, value in enumerate(tries):
                totals[i] += part._gains(rest + np.float32(value) * part.features[f], SEARCHED).sum()
        found = int(totals.argmax())
        ndcg = totals[found] / max(len(self), 1)
        return (tries[found], ndcg) if ndcg > best else (now, best)

    def _scores(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = np.zeros(self.absent.shape, np.float32)
        for weight, feature in zip(weights.tolist(), self.features, strict=True):
            if weight:
                scores += np.float32(weight) * feature
        return scores

    def _gains(self, scores: NDArray[np.float32], cutoff: int) -> NDArray[np.float64]:
        above = ((scores[:, 1:] >= scores[:, :1]) & ~self.absent[:, 1:]).sum(1)
        gain = np.where(above < cutoff, 1 / np.log2(above + 2.0), 0.0)
        return np.where(self.absent[:, 0], 0.0, gain)

    def _spread(self) -> NDArray[np.float64]:
        """How far a feature's values lie apart, float64 [F]: the scale that a start from 0 goes by."""
        sample = self.features[:, :: max(1, len(self) // 256)]
        return np.asarray(sample.std(axis=(1, 2)), np.float64)


Fit = Callable[[Candidates], Sequence[float]]


def bagged(candidates: Candidates, fit: Fit, bags: int = BAGS, seed: int = 0) -> list[float]:
    """Return the mean of the weights that are fitted on random halves of the cases.

    :param fit: candidates → weights, on one scale whatever the cases.
    """
    random, size = np.random.default_rng(seed), max(1, min(len(candidates) // 2, BAG))
    drawn = [np.sort(random.choice(len(candidates), size, replace=False)) for _ in range(bags)]
    return [float(weight) for weight in np.mean([fit(candidates.take(rows)) for rows in drawn], axis=0)]


def held_out_gains(candidates: Candidates, fit: Fit, seed: int = 0) -> NDArray[np.float64]:
    """Return the ndcg@30 of each case under weights that were fitted on the half of the cases without it.

    :param fit: candidates → weights.
    """
    first, second = halves(len(candidates), seed)
    gains = np.zeros(len(candidates))
    for fitted, other in ((first, second), (second, first)):
        gains[other] = candidates.take(other).gains(fit(candidates.take(fitted)), SEARCHED)
    return gains


def surely_better(gains: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    """Whether the mean of gains is above that of others on the same cases by a standard error, or all are equal."""
    gap = gains - others
    return bool(gap.mean() >= gap.std() / np.sqrt(max(len(gap), 1)))


def unique_candidates(rows: NDArray[np.integer], n_items: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Keep the first of each candidate in a row.

    :param rows: catalogue rows [n, C], -1: none.
    :returns: the rows with 0 in place of what is left out, int64 [n, C], and which are left out, bool [n, C].
    """
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, 1)
    again = np.zeros(rows.shape, bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    absent = np.empty(rows.shape, bool)
    np.put_along_axis(absent, order, again | (ordered < 0) | (ordered >= n_items), 1)
    return np.where(absent, 0, rows).astype(np.int64), absent


def halves(n: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Deal n cases into two halves at random, each in rising order."""
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])
