"""From trained members to soft labels: fit the committee on validation, evaluate it, label every training position.

On the path of the data: after the teacher LLM and SASRec are trained, before the student is distilled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pocketrec.distill.committee.committee import Committee
from pocketrec.distill.committee.companions import Companions
from pocketrec.distill.committee.fitting import fit_committee
from pocketrec.distill.committee.rankings import COMMITTEE, SharedLists, SharedRanker
from pocketrec.distill.committee.soft_labels import write_soft_labels
from pocketrec.distill.config import RunConfig, SoftLabelConfig
from pocketrec.distill.data.augment import augment
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.data.splits import Sequences, Split
from pocketrec.distill.evaluation.protocol import measure
from pocketrec.distill.models.item_model import ItemModel
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.training.losses import block_ends
from pocketrec.runtime.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from pocketrec.distill.models.teacher import Teacher

logger = logging.getLogger(__name__)

LABELS = "labels"
TITLES = {"llm": "teacher LLM"}


def write_labels(
    members: Mapping[str, ItemModel],
    split: Split,
    n_items: int,
    config: RunConfig,
    folder: Path,
    progress: Progress = SILENT,
    shares: tuple[int, int] = (0, 1),
    experts: Mapping[str, ItemModel] | None = None,
) -> dict[str, Any]:
    """Fit the committee on validation cases and write its labels into `folder/labels`.

    :param members: trained models by their names in `soft_labels.members`.
    :param split: its training histories, and their copies (`labelled`), get labels.
    :param shares: (rank, world); with several processes all fit, the first evaluates, each writes its share of labels.
    :param experts: the student's companions on the device, for `distill.companions` above 0.
    :returns: what `FittedCommittee.to_dict` says; "companions", the weights that are taken out of the labels; "test",
        metrics of the committee and of the teacher LLM (system → convention → metric → value); "labels", number, bytes
        and seconds.
    """
    history, tap = config.evaluation.max_history, _tap(members, config)
    with progress.track("fitting the committee", 1) as advance:
        fitted = fit_committee(members, split.valid, n_items, history, config.soft_labels.combine)
        advance(1)
    for name, reason in fitted.left_out.items():
        logger.warning("the committee leaves out %s: %s", name, reason)
    committee = Committee(members, fitted.weights)
    weights = fitted.weights
    if not config.soft_labels.returns:
        weights = replace(weights, seen=min(weights.seen, 0.0))
    labeller = Committee({**members, "llm": tap} if tap else members, weights)
    shared = SharedLists(committee, [name for name in members if name == "llm"], history)
    rankers = {TITLES.get(name, name): SharedRanker(shared, name) for name in (COMMITTEE, *shared.members)}
    test = measure(rankers, split, n_items, config.evaluation, progress) if shares[0] == 0 else {}
    companions = None
    if experts and config.distill.companions:
        strength = config.distill.companions
        companions = Companions.fit(experts, members, split.valid, n_items, history, strength)
    train = labelled(split.train, config.soft_labels)
    labels = write_soft_labels(
        folder / LABELS, labeller.item_logits, train, n_items, history, config.soft_labels, progress,
        shares, _features(tap, "llm" in fitted.weights.used) if tap else None, companions,
    )  # fmt: skip
    out = {"strength": companions.strength, **companions.weights} if companions else {}
    return {**fitted.to_dict(), "companions": out, "test": test, "labels": labels}


def labelled(train: Sequences, config: SoftLabelConfig) -> Sequences:
    """Return the histories that get labels and that the student is trained on: training histories and their copies."""
    return augment(train, config.copies, config.drop, config.swap)


class FeatureTap:
    """A teacher LLM as a member of a committee that keeps the hidden states of its last batch.

    Labels and features of a batch then take one forward pass.
    """

    def __init__(self, teacher: Teacher, blocks: int) -> None:
        """Take a teacher, and the number of aligned blocks whose hidden states are kept."""
        self.teacher, self.blocks = teacher, blocks
        self._last: tuple[Batch, Tensor] | None = None

    def item_logits(self, batch: Batch) -> Tensor:
        """Return the teacher's logits over all items, [n, n_items]."""
        states = self.teacher.hidden_states(batch)
        at = [states[end].flatten(0, 1)[batch.loss_at] for end in block_ends(len(states), self.blocks)]
        self._last = batch, torch.stack(at, 1)
        return self.teacher.scores(at[-1])  # the last block ends with the last layer

    def features(self, batch: Batch) -> Tensor:
        """Return the hidden states after the blocks, [n, blocks, D], of the batch last passed to `item_logits`."""
        if self._last is None or self._last[0] is not batch:
            raise TrainingError("features are kept for the last batch only; call item_logits with this batch first")
        return self._last[1]


def _features(tap: FeatureTap, scored: bool) -> Callable[[Batch], Tensor]:
    """Return what gives a batch's features. scored: whether the committee has the teacher read each batch already."""

    def read(batch: Batch) -> Tensor:
        tap.item_logits(batch)
        return tap.features(batch)

    return tap.features if scored else read


def _tap(members: Mapping[str, ItemModel], config: RunConfig) -> FeatureTap | None:
    """Return the teacher LLM wrapped to keep its features; None if `soft_labels.features` is 0."""
    if not config.soft_labels.features:
        return None
    if "llm" not in members:
        raise ConfigError(
            "soft_labels.features needs the teacher LLM; add llm to soft_labels.members, or set features to 0"
        )
    teacher: Any = members["llm"]
    return FeatureTap(teacher, config.soft_labels.features)
