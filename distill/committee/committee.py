"""The committee: the item distributions of several teachers combined into one, with weights fitted on validation.

    geometric:  P(i) ∝ Π_m P_m(i)^w_m       (a product of experts, Hinton 2002; Σ w_m is an inverse temperature)
    arithmetic: P(i) = Σ_m a_m P_m(i)^τ_m / Z_m

On the path of the data: trained members in; an `ItemModel` out, which scores every training position for the soft
labels (`distill.committee.soft_labels`) and is evaluated like any other. Members that were trained on the positions
that they label are cross-fitted (`distill.committee.cross_fit`): the graph if `soft_labels.folds` is above 1, SASRec if
`soft_labels.sasrec_folds` is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from pocketrec.distill.committee.cross_fit import CrossFitted, UserFolds
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.evaluation.baselines import ItemGraph, TransitionGraph
from pocketrec.distill.models.item_model import BATCH, ItemModel, history_batch
from pocketrec.runtime.errors import ConfigError

CELLS = 1 << 25  # log-probabilities per member while weights are fitted, at most (128 MB)
SEEN_PENALTY = 1e-5  # L2 penalty that keeps `seen` finite where no user returns to an item
POPULAR = 0.1  # share of the graph's probability that is spread by popularity, so that no item has probability 0
Combine = Literal["geometric", "arithmetic"]


class GraphMember:
    """A transition graph as an `ItemModel`."""

    def __init__(self, train: Sequences, n_items: int) -> None:
        """Count transitions and popularity."""
        popularity = np.bincount(train.events(), minlength=n_items) + 1.0
        self.popularity = (popularity / popularity.sum()).astype(np.float32)
        self.graph: ItemGraph = TransitionGraph.fit(train, n_items)

    def item_logits(self, batch: Batch) -> Tensor:
        """Return log-probabilities of all items, float32 [n, n_items]."""
        owner, history, age = histories_of(batch)
        shape = len(batch.loss_at), len(self.popularity)
        weights = csr_array((self.graph.recency**age, (owner, history)), shape)
        reached = np.asarray((weights @ self.graph.edges).toarray(), np.float32)
        total = reached.sum(1, keepdims=True)
        share = np.where(total > 0, 1 - POPULAR, 0.0).astype(np.float32)
        reached /= np.where(total > 0, total, 1)
        return torch.from_numpy(np.log(share * reached + (1 - share) * self.popularity))


def cross_fitted_graph(
    train: Sequences, n_items: int, folds: int, seed: int = 0, labelled: Sequences | None = None
) -> ItemModel:
    """Fit a graph on all training histories, and one without the users of each fold (1: no folds).

    :param labelled: the histories that batches come from, if not `train` (see `UserFolds.of_events`).
    """
    whole = GraphMember(train, n_items)
    if folds == 1:
        return whole
    users = UserFolds.deal(len(train), folds, seed)
    without = [GraphMember(users.without(train, fold), n_items) for fold in range(folds)]
    return CrossFitted(whole, without, users.of_events(train if labelled is None else labelled))


def histories_of(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the history of each loss position, one entry per event: position, catalogue row, age (0: newest)."""
    at, position = batch.loss_at.cpu().numpy(), batch.position.cpu().numpy().ravel()
    items, sizes = batch.inputs.cpu().numpy().ravel(), position[at]
    owner = np.repeat(np.arange(len(at)), sizes)
    age = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return owner, items[at[owner] - age], age


@dataclass(frozen=True)
class CommitteeWeights:
    """How members are combined.

    exponents: w_m or τ_m. shares: a_m (arithmetic only, summing to 1). seen: added to the log-probability of the items
    of the history; strongly negative where users do not return to an item, which members with tied embeddings do not
    learn by themselves.
    """

    combine: Combine
    exponents: dict[str, float]
    shares: dict[str, float]
    seen: float


class Committee:
    """Members and their weights, as one `ItemModel`."""

    def __init__(self, members: Mapping[str, ItemModel], weights: CommitteeWeights) -> None:
        """Combine members.

        :raises ConfigError: if the weights belong to other members.
        """
        if set(members) != set(weights.exponents):
            raise ConfigError(
                f"the committee's weights are for {sorted(weights.exponents)}, but its members are {sorted(members)}; "
                "fit the weights again"
            )
        self.members, self.weights = dict(members), weights

    @torch.inference_mode()
    def item_logits(self, batch: Batch) -> Tensor:
        """Return log-probabilities of all items, up to a constant, float32 [n, n_items]."""
        return self.combine(self.member_scores(batch), batch)

    @torch.inference_mode()
    def member_scores(self, batch: Batch) -> dict[str, Tensor]:
        """Return each member's log-probabilities of all items, float32 [n, n_items]."""
        return {name: member.item_logits(batch).float().log_softmax(1) for name, member in self.members.items()}

    def combine(self, scores: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Combine the results of `member_scores` into log-probabilities, up to a constant, float32 [n, n_items]."""
        names, weights = list(self.members), self.weights
        exponents, shares = ([values[name] for name in names] for values in (weights.exponents, weights.shares))
        chosen = [scores[name] for name in names]
        logits = _mix(chosen, weights.combine, torch.tensor(exponents), torch.tensor(shares).log())
        return logits + weights.seen * _seen(batch, logits.shape[1])


def fit_committee(
    members: Mapping[str, ItemModel],
    cases: EvalSet,
    n_items: int,
    max_history: int,
    combine: Combine = "geometric",
) -> tuple[CommitteeWeights, dict[str, float]]:
    """Fit the weights by maximum likelihood of the targets of validation cases.

    :param cases: validation cases; if their scores would take more than `CELLS` values, an evenly spaced sample.
    :returns: the weights, and the mean negative log-likelihood (nats) of each member and of the committee
        ("committee").
    """
    limit = min(len(cases), max(64, CELLS // n_items))
    cases = cases.take(np.linspace(0, len(cases) - 1, limit).astype(np.int64))
    chunks = [cases.histories.take(slice(i, i + BATCH)) for i in range(0, len(cases), BATCH)]
    batches = [history_batch(chunk, max_history) for chunk in chunks]
    targets = torch.from_numpy(cases.targets.astype(np.int64))[:, None]
    names = list(members)
    with torch.no_grad():
        scores = [torch.cat([members[n].item_logits(b).float().log_softmax(1) for b in batches]) for n in names]
        in_history = torch.cat([_seen(batch, n_items) for batch in batches])
    start = 0.0 if combine == "arithmetic" else -float(np.log(len(names)))
    exponent = torch.full((len(names),), start, requires_grad=True)  # logarithms
    share = torch.zeros(len(names), requires_grad=True)
    seen = torch.zeros((), requires_grad=True)

    def loss() -> Tensor:
        mixed = _mix(scores, combine, exponent.exp(), share.log_softmax(0))
        return -(mixed + seen * in_history).log_softmax(1).gather(1, targets).mean() + SEEN_PENALTY * seen.square()

    optimiser = torch.optim.LBFGS([exponent, share, seen], max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        quality = {n: -float(p.gather(1, targets).mean()) for n, p in zip(names, scores, strict=True)}
        quality["committee"] = float(loss())
        weights = CommitteeWeights(
            combine,
            {n: float(v) for n, v in zip(names, exponent.exp(), strict=True)},
            {n: float(v) for n, v in zip(names, share.softmax(0), strict=True)},
            float(seen),
        )
    return weights, quality


def _mix(scores: Sequence[Tensor], combine: Combine, exponents: Tensor, log_shares: Tensor) -> Tensor:
    """Combine the log-probabilities of members, [n, n_items] each, up to a constant: [n, n_items]."""
    powers = [exponent * score for exponent, score in zip(exponents, scores, strict=True)]
    if combine == "geometric":
        return torch.stack(powers).sum(0)
    logs = [share + power.log_softmax(1) for share, power in zip(log_shares, powers, strict=True)]
    return torch.logsumexp(torch.stack(logs), 0)


def _seen(batch: Batch, n_items: int) -> Tensor:
    """Return 1 where an item is in the position's history, 0 elsewhere, float32 [n, n_items]."""
    owner, items, _ = histories_of(batch)
    out = torch.zeros(len(batch.loss_at), n_items)
    out[torch.from_numpy(owner), torch.from_numpy(items)] = 1.0
    return out
