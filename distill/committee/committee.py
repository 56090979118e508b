"""The committee: the item distributions of several teachers combined into one.

    geometric:  P(i) ∝ Π_m P_m(i)^w_m       (a product of experts, Hinton 2002; Σ w_m is an inverse temperature)
    arithmetic: P(i) = Σ_m a_m P_m(i)^τ_m / Z_m

On the path of the data: trained members and the weights that validation chose (`distill.committee.fitting`) in; an
`ItemModel` out, which scores every training position for the soft labels (`distill.committee.soft_labels`) and is
evaluated like any other. Members that were trained on the positions
that they label are cross-fitted (`distill.committee.cross_fit`): the graph if `soft_labels.folds` is above 1, SASRec if
`soft_labels.sasrec_folds` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pocketrec.distill.committee.members import histories_of
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.models.item_model import ItemModel
from pocketrec.runtime.errors import ConfigError

Combine = Literal["geometric", "arithmetic"]


@dataclass(frozen=True)
class CommitteeWeights:
    """How members are combined.

    exponents: w_m or τ_m. shares: a_m (arithmetic only, summing to 1). A member whose exponent or share is 0 is left
    out. seen: added to the log-probability of the items of the history; strongly negative where users do not return to
    an item, which members with tied embeddings do not learn by themselves.
    """

    combine: Combine
    exponents: dict[str, float]
    shares: dict[str, float]
    seen: float

    @property
    def used(self) -> list[str]:
        """Names of the members that count."""
        return [
            name
            for name, value in self.exponents.items()
            if value and (self.shares[name] or self.combine == "geometric")
        ]


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
        return self.combine(self.member_scores(batch, self.weights.used), batch)

    @torch.inference_mode()
    def member_scores(self, batch: Batch, names: Iterable[str]) -> dict[str, Tensor]:
        """Return the log-probabilities of all items by each of these members, float32 [n, n_items]."""
        return {name: self.members[name].item_logits(batch).float().log_softmax(1) for name in names}

    def combine(self, scores: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Combine the scores of the members that count: log-probabilities up to a constant, float32 [n, n_items]."""
        names, weights = self.weights.used, self.weights
        exponents, shares = ([values[name] for name in names] for values in (weights.exponents, weights.shares))
        chosen = [scores[name] for name in names]
        logits = mix(chosen, weights.combine, torch.tensor(exponents), torch.tensor(shares).log())
        return logits + weights.seen * seen_items(batch, logits.shape[1])


def mix(scores: Sequence[Tensor], combine: Combine, exponents: Tensor, log_shares: Tensor) -> Tensor:
    """Combine the log-probabilities of members, [n, n_items] each, up to a constant: [n, n_items]."""
    powers = [exponent * score for exponent, score in zip(exponents, scores, strict=True)]
    if combine == "geometric":
        return torch.stack(powers).sum(0)
    logs = [share + power.log_softmax(1) for share, power in zip(log_shares, powers, strict=True)]
    return torch.logsumexp(torch.stack(logs), 0)


def seen_items(batch: Batch, n_items: int) -> Tensor:
    """Return 1 where an item is in the position's history, 0 elsewhere, float32 [n, n_items]."""
    owner, items, _ = histories_of(batch)
    out = torch.zeros(len(batch.loss_at), n_items)
    out[torch.from_numpy(owner), torch.from_numpy(items)] = 1.0
    return out
