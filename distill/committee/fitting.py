"""The committee's weights, from validation: fitted by likelihood, then checked by the ranking that they give.

A member can be likely and rank badly, and the other way round, so the likelihood's optimum can rank worse than a member
alone. So weights are searched for ranking as well (`distill.evaluation.weight_search`), for all members and for every
subset, and measured on validation cases that they were not fitted on. A member is left out if the ranking is better
without it by more than a standard error. The likelihood's weights stay if nothing is better by as much, and no member
alone is better at all. Weights that were searched for ranking keep their proportions and are scaled by likelihood,
since soft labels need probabilities. The committee is thus never worse on validation than its best member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from pocketrec.distill.committee.committee import Combine, CommitteeWeights, mix, seen_items
from pocketrec.distill.data.splits import EvalSet
from pocketrec.distill.evaluation.validation import fitting_convention
from pocketrec.distill.evaluation.weight_search import (
    BAGS,
    SEARCHED,
    SHOWN,
    Candidates,
    bagged,
    held_out_gains,
    surely_better,
    unique_candidates,
)
from pocketrec.distill.models.item_model import BATCH, ItemModel, history_batch

CELLS = 1 << 25  # log-probabilities per member while weights are fitted by likelihood, at most (128 MB)
SEEN_PENALTY = 1e-5  # L2 penalty that keeps `seen` finite where no user returns to an item
RANKED_CASES = 4000  # validation cases that rankings are measured on
TOP = 100  # candidates of each member for a case
TRIED = 4  # searches that are averaged for each subset; see `weight_search.BAGS`
SCALES = (0.005, 4.0, 0.5)  # least and largest sum of exponents while their scale is fitted, and the first
SEEN_RANGE = (-20.0, 20.0)


@dataclass(frozen=True)
class FittedCommittee:
    """Weights, and why they are these.

    nll: mean negative log-likelihood (nats) of each member alone and of the fit by likelihood ("committee").
    ndcg: ndcg@10 on validation of each member alone, of the fit by likelihood ("by likelihood") and of the committee.
    rule: "likelihood", or "ranking" where that was better. exclude_seen: whether `ndcg` leaves out seen items.
    left_out: why, by member whose weight is 0.
    """

    weights: CommitteeWeights
    nll: dict[str, float]
    ndcg: dict[str, float]
    rule: str
    exclude_seen: bool
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as the run's record (`committee.json`) keeps it."""
        return {
            "weights": asdict(self.weights),
            "rule": self.rule,
            "valid_nll": self.nll,
            "valid_ndcg": {"convention": "seen excluded" if self.exclude_seen else "seen kept", **self.ndcg},
            "left_out": self.left_out,
        }


def fit_committee(
    members: Mapping[str, ItemModel], cases: EvalSet, n_items: int, max_history: int, combine: Combine = "geometric"
) -> FittedCommittee:
    """Fit the weights of the members; the committee ranks validation cases at least as well as any member alone.

    :param cases: validation cases.
    :param max_history: newest items of a history that the members read.
    """
    dense = _Dense.score(members, cases, n_items, max_history)
    likely, nll = dense.fit(combine)
    excluded = fitting_convention(cases) == "seen excluded"
    candidates = _candidates(members, cases, n_items, max_history, likely, excluded)
    names = list(members)
    start = [likely.shares[n] if combine == "arithmetic" else likely.exponents[n] for n in names]
    weighs_seen = not excluded and combine == "geometric"
    start += [likely.seen] if weighs_seen else []
    alone = {name: candidates.ndcg(_only(candidates, names.index(name))) for name in names}
    ndcg = {**alone, "by likelihood": candidates.ndcg(start)}
    chosen, held_out = _choose(candidates, start, len(names))
    if chosen is None and ndcg["by likelihood"] < max(alone.values()):
        chosen = tuple(range(len(names)))
    if chosen is None:
        return FittedCommittee(likely, nll, {**ndcg, "committee": ndcg["by likelihood"]}, "likelihood", excluded)
    tries = [_fit(candidates, chosen, start, len(names)), *(_only(candidates, m) for m in range(len(names)))]
    found = candidates.best(tries, SHOWN)
    if combine == "geometric":
        weights = dense.scaled(dict(zip(names, found, strict=False)), found[-1] if weighs_seen else None, likely.seen)
    else:
        total = sum(found[: len(names)])
        shares = {name: value / total for name, value in zip(names, found, strict=False)}
        weights = CommitteeWeights(combine, likely.exponents, shares, likely.seen)
    used = weights.used
    reason = f"validation cases rank better without it (ndcg@{SEARCHED} {held_out:.4f}, on cases not fitted on)"
    left_out = {name: reason for name in names if name not in used}
    return FittedCommittee(weights, nll, {**ndcg, "committee": candidates.ndcg(found)}, "ranking", excluded, left_out)


def fit_likelihood(
    members: Mapping[str, ItemModel], cases: EvalSet, n_items: int, max_history: int, combine: Combine = "geometric"
) -> tuple[CommitteeWeights, dict[str, float]]:
    """Fit the weights by maximum likelihood of the targets of validation cases alone.

    :param cases: validation cases; if their scores would take more than `CELLS` values, an evenly spaced sample.
    :returns: the weights, and the mean negative log-likelihood (nats) of each member and of the committee
        ("committee").
    """
    return _Dense.score(members, cases, n_items, max_history).fit(combine)


@dataclass(frozen=True)
class _Dense:
    """All scores of a sample of cases: log-probabilities, float32 [n, n_items] by member, and what was seen."""

    scores: dict[str, Tensor]
    in_history: Tensor
    targets: Tensor

    @classmethod
    def score(cls, members: Mapping[str, ItemModel], cases: EvalSet, n_items: int, max_history: int) -> _Dense:
        limit = min(len(cases), max(64, CELLS // n_items))
        cases = cases.take(np.linspace(0, len(cases) - 1, limit).astype(np.int64))
        chunks = [cases.histories.take(slice(i, i + BATCH)) for i in range(0, len(cases), BATCH)]
        batches = [history_batch(chunk, max_history) for chunk in chunks]
        targets = torch.from_numpy(cases.targets.astype(np.int64))[:, None]
        with torch.no_grad():
            scores = {
                name: torch.cat([member.item_logits(b).float().log_softmax(1) for b in batches])
                for name, member in members.items()
            }
            return cls(scores, torch.cat([seen_items(batch, n_items) for batch in batches]), targets)

    def fit(self, combine: Combine) -> tuple[CommitteeWeights, dict[str, float]]:
        """Fit all weights."""
        names, scores = list(self.scores), list(self.scores.values())
        start = 0.0 if combine == "arithmetic" else -float(np.log(len(names)))
        exponent = torch.full((len(names),), start, requires_grad=True)  # logarithms
        share = torch.zeros(len(names), requires_grad=True)
        seen = torch.zeros((), requires_grad=True)

        def loss() -> Tensor:
            return self._loss(mix(scores, combine, exponent.exp(), share.log_softmax(0)), seen)

        _minimise(loss, [exponent, share, seen])
        with torch.no_grad():
            quality = {n: -float(p.gather(1, self.targets).mean()) for n, p in self.scores.items()}
            quality["committee"] = float(loss())
            exponents = {n: float(v) for n, v in zip(names, exponent.exp(), strict=True)}
            shares = {n: float(v) for n, v in zip(names, share.softmax(0), strict=True)}
        return CommitteeWeights(combine, exponents, shares, float(seen.detach())), quality

    def scaled(self, proportions: Mapping[str, float], seen: float | None, likely_seen: float) -> CommitteeWeights:
        """Scale exponents of given proportions by likelihood.

        :param seen: in the same proportions; None: fitted freely, from `likely_seen`.
        """
        total = sum(proportions.values())
        proportions = {name: value / total for name, value in proportions.items()}
        direction = torch.stack([proportions[n] * p for n, p in self.scores.items() if proportions[n]]).sum(0)
        if seen is not None:
            seen = seen / total
            direction = direction + seen * self.in_history
        own = likely_seen if seen is None else 0.0

        def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            point = torch.tensor(values, dtype=torch.float32, requires_grad=True)
            value = self._loss(point[0].exp() * direction, point[1])
            (slope,) = torch.autograd.grad(value, point)
            return float(value.detach()), slope.double().numpy()

        bounds = [(np.log(SCALES[0]), np.log(SCALES[1])), SEEN_RANGE if seen is None else (0.0, 0.0)]
        found = minimize(
            loss, (np.log(SCALES[2]), np.clip(own, *bounds[1])), jac=True, method="L-BFGS-B", bounds=bounds
        )
        factor = float(np.exp(found.x[0]))
        exponents = {n: factor * proportions[n] for n in self.scores}
        shares = {n: 1 / len(exponents) for n in exponents}
        return CommitteeWeights("geometric", exponents, shares, float(found.x[1]) if seen is None else factor * seen)

    def _loss(self, mixed: Tensor, seen: Tensor) -> Tensor:
        likely = (mixed + seen * self.in_history).log_softmax(1).gather(1, self.targets).mean()
        return SEEN_PENALTY * seen.square() - likely


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]


@torch.no_grad()
def _candidates(
    members: Mapping[str, ItemModel],
    cases: EvalSet,
    n_items: int,
    max_history: int,
    likely: CommitteeWeights,
    exclude_seen: bool,
) -> Candidates:
    """Score each member's best items, the target, and (where seen items are kept) the history's items.

    The features are what is summed: log-probabilities, and 1 for a seen item where those are kept (geometric), or
    P^τ / Z (arithmetic).
    """
    if len(cases) > RANKED_CASES:
        cases = cases.take(np.linspace(0, len(cases) - 1, RANKED_CASES).astype(np.int64))
    blocks = []
    for at in range(0, len(cases), BATCH):
        part = cases.take(slice(at, at + BATCH))
        batch = history_batch(part.histories, max_history)
        in_history = np.zeros((len(part), n_items), bool)
        owner = np.repeat(np.arange(len(part)), part.histories.lengths)
        in_history[owner, part.histories.events()] = True
        mask = torch.from_numpy(in_history)
        features, rows = [], [part.targets[:, None].astype(np.int64)]
        for name, member in members.items():
            score = member.item_logits(batch).float().cpu().log_softmax(1)
            if likely.combine == "arithmetic":
                score = (likely.exponents[name] * score).softmax(1) * torch.where(mask, np.exp(likely.seen), 1.0)
            features.append(score)
            shown = score.masked_fill(mask, -torch.inf) if exclude_seen else score
            rows.append(shown.topk(min(TOP, n_items), 1).indices.numpy())
        if not exclude_seen:
            rows.append(part.histories.padded().astype(np.int64))
            if likely.combine == "geometric":
                features.append(mask.float())
        chosen, absent = unique_candidates(np.concatenate(rows, 1), n_items)
        if exclude_seen:
            absent |= np.take_along_axis(in_history, chosen, 1)
        index = torch.from_numpy(chosen)
        blocks.append((torch.stack([f.gather(1, index) for f in features]).numpy(), absent))
    width = max(absent.shape[1] for _, absent in blocks)
    values = [np.pad(f, ((0, 0), (0, 0), (0, width - f.shape[2]))) for f, _ in blocks]
    left_out = [np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=True) for _, a in blocks]
    return Candidates(np.concatenate(values, 1), np.concatenate(left_out), signed=(len(members),))


def _choose(candidates: Candidates, start: Sequence[float], count: int) -> tuple[tuple[int, ...] | None, float]:
    """Return the subset of members that is surely better than larger ones, and its ndcg@30 on held-out cases.

    None in place of a subset: no subset is surely better than the weights at the start.
    """
    everyone = tuple(range(count))
    fit = partial(_fit, start=start, count=count, bags=TRIED)
    best, gains = everyone, held_out_gains(candidates, partial(fit, subset=everyone))
    for size in range(count - 1, 0, -1):
        for subset in combinations(range(count), size):
            tried = held_out_gains(candidates, partial(fit, subset=subset))
            if surely_better(tried, gains):
                best, gains = subset, tried
    kept = candidates.gains(start, SEARCHED)
    if surely_better(gains, kept) and (gains.mean() > kept.mean() or len(best) < count):
        return best, float(gains.mean())
    return None, float(kept.mean())


def _fit(
    candidates: Candidates, subset: Sequence[int], start: Sequence[float], count: int, bags: int = BAGS
) -> list[float]:
    """Return the weights of some members for ranking, of sum 1: means over searches on random halves."""
    if len(subset) == 1 and len(start) == count:
        return _only(candidates, subset[0])
    return bagged(candidates, partial(_search, subset=subset, start=start, count=count), bags)


def _search(candidates: Candidates, subset: Sequence[int], start: Sequence[float], count: int) -> list[float]:
    """Search from the start's weights and from each member alone."""
    free = [*subset, *range(count, len(start))]
    starts = [[value if i in free else 0.0 for i, value in enumerate(start)]]
    starts += [_only(candidates, member) for member in subset]
    found = candidates.best(candidates.climb(weights, free) for weights in starts)
    total = sum(found[:count])
    return [weight / total for weight in found]


def _only(candidates: Candidates, member: int) -> list[float]:
    """A weight of 1 for one member, 0 for all else."""
    return [float(i == member) for i in range(len(candidates.features))]
