"""Shared lists: those of ranking each model by itself, with one scoring per history."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.committee.committee import Committee, CommitteeWeights
from pocketrec.distill.committee.rankings import COMMITTEE, SharedLists, SharedRanker
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.item_model import ItemRanker

N_ITEMS = 30
WEIGHTS = CommitteeWeights("geometric", {"llm": 0.7, "graph": 0.4}, {"llm": 0.5, "graph": 0.5}, -1.0)


class Linear:
    """Logits that depend on the newest item; counts the positions that it scores."""

    def __init__(self, seed):
        self.table = torch.randn(N_ITEMS, N_ITEMS, generator=torch.Generator().manual_seed(seed))
        self.scored = 0

    def item_logits(self, batch):
        self.scored += len(batch.loss_at)
        return self.table[batch.inputs.flatten()[batch.loss_at]]


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("k", [1, 10, 20])
def test_lists_are_those_of_each_model_alone(k, exclude_seen):
    members = {"llm": Linear(0), "graph": Linear(1)}
    committee = Committee(members, WEIGHTS)
    generator = np.random.default_rng(0)
    histories = Sequences.from_lists([generator.integers(0, N_ITEMS, n).tolist() for n in (0, 1, 5, 8, 3)])
    shared = SharedLists(committee, ["llm"], max_history=8)
    for name, model in ((COMMITTEE, committee), ("llm", members["llm"])):
        found = SharedRanker(shared, name).rank(histories, k, exclude_seen)
        assert found.tolist() == ItemRanker(model, 8).rank(histories, k, exclude_seen).tolist()


def test_every_member_scores_a_history_once():
    members = {"llm": Linear(0), "graph": Linear(1)}
    committee = Committee(members, WEIGHTS)
    histories = Sequences.from_lists([[1], [2, 3], [4]])
    shared = SharedLists(committee, ["llm"], max_history=8)
    for name in (COMMITTEE, "llm"):
        for exclude_seen in (False, True):
            SharedRanker(shared, name).rank(histories, 10, exclude_seen)
    assert (members["llm"].scored, members["graph"].scored) == (3, 3)
