"""Weights of a sum of scores, searched for ranking: the mean ndcg@10 of the targets among each case's candidates.

On the path of the data: scores of several models (committee members, or a bundle's model and its experts) in, one
weight for each out. The search is by coordinates, one weight after the other over a grid around its value (the ndcg is
a step function, so it has no gradient; coordinate ascent on it is Metzler and Croft 2007, "Linear feature-based models
for information retrieval").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

METRIC = "ndcg@10"
SHOWN = 10
FACTORS = (0.0, 0.25, 0.5, 0.71, 0.84, 0.92, 1.09, 1.19, 1.41, 2.0, 4.0)  # of a weight's value, tried in each round
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

    def gains(self, weights: Sequence[float]) -> NDArray[np.float64]:
        """Return the ndcg@10 of each case under these weights, float64 [n]; the target comes last of equal scores."""
        return self._gains(self._scores(np.asarray(weights, np.float32)))

    def ndcg(self, weights: Sequence[float]) -> float:
        """Return the mean of `gains`; 0 without cases."""
        return float(self.gains(weights).mean()) if len(self) else 0.0

    def climb(self, start: Sequence[float], free: Sequence[int] | None = None, rounds: int = ROUNDS) -> list[float]:
        """Search from a start, one coordinate after the other, until a round changes nothing.

        Never worse than the start on these cases.

        :param start: a weight for each feature.
        :param free: features whose weight may change; None: all.
        """
        weights = np.array(start, np.float64)
        best = self.ndcg(weights.tolist())
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
                totals[i] += part._gains(rest + np.float32(value) * part.features[f]).sum()
        found = int(totals.argmax())
        ndcg = totals[found] / max(len(self), 1)
        return (tries[found], ndcg) if ndcg > best else (now, best)

    def _scores(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = np.zeros(self.absent.shape, np.float32)
        for weight, feature in zip(weights.tolist(), self.features, strict=True):
            if weight:
                scores += np.float32(weight) * feature
        return scores

    def _gains(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        above = ((scores[:, 1:] >= scores[:, :1]) & ~self.absent[:, 1:]).sum(1)
        gain = np.where(above < SHOWN, 1 / np.log2(above + 2.0), 0.0)
        return np.where(self.absent[:, 0], 0.0, gain)

    def _spread(self) -> NDArray[np.float64]:
        """How far a feature's values lie apart, float64 [F]: the scale that a start from 0 goes by."""
        sample = self.features[:, :: max(1, len(self) // 256)]
        return np.asarray(sample.std(axis=(1, 2)), np.float64)


def held_out_gains(
    candidates: Candidates, fit: Callable[[Candidates], Sequence[float]], seed: int = 0
) -> NDArray[np.float64]:
    """Return the ndcg@10 of each case under weights that were fitted on the half of the cases without it.

    :param fit: candidates → weights.
    """
    first, second = halves(len(candidates), seed)
    gains = np.zeros(len(candidates))
    for fitted, other in ((first, second), (second, first)):
        gains[other] = candidates.take(other).gains(fit(candidates.take(fitted)))
    return gains


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
