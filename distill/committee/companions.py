"""The student's companions on the device, taken out of the labels that it learns from.

The device adds the experts to the student: log P_student + b · log P_crowd + a · words. A student that is to match the
committee together with them learns the committee's distribution divided by theirs:

    log target = log P_committee − strength · (b · log P_crowd + a · log P_words), up to a constant.

It need not learn what the experts know, and learns where they are wrong. b and a are those of a committee of the
trained members and the companions (`distill.committee.fitting`), so that they are on the committee's scale; the weights
in the bundle are fitted later, beside the student (`export.experts`). D3 (Bao et al. 2024) joins the
two after training; that a product of experts is trained with the others in view is Hinton 2002.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from pocketrec.distill.committee.fitting import fit_committee
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.data.splits import EvalSet
from pocketrec.distill.models.item_model import ItemModel

TRAINED: Final = ("llm", "sasrec")  # members that no companion stands for


class Companions:
    """Experts of the device with weights, as one function of a batch."""

    def __init__(self, experts: Mapping[str, ItemModel], weights: Mapping[str, float], strength: float = 1.0) -> None:
        """Join experts; `strength` multiplies all weights."""
        self.experts, self.strength = dict(experts), strength
        self.weights = {name: weights[name] for name in experts}

    @classmethod
    def fit(
        cls,
        experts: Mapping[str, ItemModel],
        members: Mapping[str, ItemModel],
        cases: EvalSet,
        n_items: int,
        max_history: int,
        strength: float,
    ) -> Companions:
        """Fit the weights on validation cases.

        :param members: the committee's; those of `TRAINED` stand beside the experts as the student will.
        """
        trained = {name: member for name, member in members.items() if name in TRAINED}
        fitted = fit_committee({**trained, **experts}, cases, n_items, max_history)
        return cls(experts, fitted.weights.exponents, strength)

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Return what the device will add to each item's score, up to a constant, float32 [n, n_items]."""
        parts = [
            self.strength * self.weights[name] * expert.item_logits(batch).float()
            for name, expert in self.experts.items()
        ]
        return torch.stack(parts).sum(0)
