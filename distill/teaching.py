"""From trained members to soft labels: fit the committee on validation, measure it, label every training position.

On the path of the data: after the teacher LLM and SASRec are trained, before the student is distilled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketrec.distill.augment import augment
from pocketrec.distill.batches import Batch
from pocketrec.distill.committee import Committee, fit_committee
from pocketrec.distill.committee_ranking import COMMITTEE, SharedLists, SharedRanker
from pocketrec.distill.config import RunConfig, SoftLabelConfig
from pocketrec.distill.item_model import ItemModel
from pocketrec.distill.losses import block_ends
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.recipes import measure
from pocketrec.distill.soft_labels import write_soft_labels
from pocketrec.distill.splits import Sequences, Split
from pocketrec.runtime.errors import ConfigError

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
) -> dict[str, Any]:
    """Fit the committee on validation questions and write its labels into `folder/labels`.

    :param members: trained models by their names in `soft_labels.members`.
    :param split: its training part is what gets labels, with the copies of `labelled`.
    :param shares: (rank, world): with several processes all fit, the first measures, each writes its share of labels.
    :returns: weights, negative log-likelihoods on validation (nats), test measures of the committee and of the
        teacher LLM (convention → measure → value), and what the labels cost.
    """
    history = config.evaluation.max_history
    with progress.track("fitting the committee", 1) as advance:
        weights, quality = fit_committee(members, split.valid, n_items, history, config.soft_labels.combine)
        advance(1)
    committee = Committee(members, weights)
    shared = SharedLists(committee, [name for name in members if name == "llm"], history)
    rankers = {TITLES.get(name, name): SharedRanker(shared, name) for name in (COMMITTEE, *shared.members)}
    test = measure(rankers, split, n_items, config.evaluation, progress) if shares[0] == 0 else {}
    features = _features(members, config)
    train = labelled(split.train, config.soft_labels)
    labels = write_soft_labels(
        folder / LABELS, committee.item_logits, train, n_items, history, config.soft_labels, progress,
        shares, features,
    )  # fmt: skip
    return {"weights": asdict(weights), "valid_nll": quality, "test": test, "labels": labels}


def labelled(train: Sequences, config: SoftLabelConfig) -> Sequences:
    """The histories that get labels and that the student learns from: the training histories and their copies."""
    return augment(train, config.copies, config.drop, config.swap)


def _features(members: Mapping[str, ItemModel], config: RunConfig) -> Callable[[Batch], Tensor] | None:
    """The teacher LLM's hidden states after aligned blocks, [n, blocks, D], where they are wanted."""
    blocks = config.soft_labels.features
    if not blocks:
        return None
    if "llm" not in members:
        raise ConfigError("soft_labels.features are the teacher LLM's; name llm in soft_labels.members, or set it to 0")
    teacher: Any = members["llm"]

    def features(batch: Batch) -> Tensor:
        states = teacher.hidden_states(batch)
        ends = block_ends(len(states), blocks)
        return torch.stack([states[end].flatten(0, 1)[batch.loss_at] for end in ends], 1)

    return features
