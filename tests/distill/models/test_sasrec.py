"""SASRec and its loss over the whole catalogue."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from pocketrec.distill.config import SasrecConfig
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.full_softmax import BLOCK, full_softmax_loss
from pocketrec.distill.models.sasrec import Sasrec, SasrecRanker


def test_the_blockwise_loss_and_its_gradients_are_those_of_plain_cross_entropy():
    torch.manual_seed(0)
    n, items = 2 * BLOCK + 3, 50
    inputs = [torch.randn(n, 6), torch.randn(items, 6), torch.randn(items)]
    targets = torch.randint(0, items, (n,))
    ours = [t.clone().requires_grad_() for t in inputs]
    plain = [t.clone().requires_grad_() for t in inputs]
    loss = full_softmax_loss(*ours, targets)
    expected = F.cross_entropy(plain[0] @ plain[1].T + plain[2], targets, reduction="sum")
    np.testing.assert_allclose(loss.detach(), expected.detach(), rtol=1e-5)
    (loss / 7).backward()
    (expected / 7).backward()
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, atol=1e-4)


def tiny_model(n_items=20):
    torch.manual_seed(0)
    return Sasrec(SasrecConfig(dim=16, layers=1, heads=2, dropout=0.0), n_items, max_history=6)


def test_it_learns_a_ring_of_items_and_ranks_the_next_one_first():
    walks = [[(start + step) % 20 for step in range(7)] for start in range(20)] * 2
    train = Sequences.from_lists(walks)
    model = tiny_model()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for epoch in range(30):
        for (batch,) in WindowBatches(train, 6, 16, seed=0).epoch(epoch):
            optimiser.zero_grad()
            (model(batch) / batch.total).backward()
            optimiser.step()
    ranked = SasrecRanker(model).rank(Sequences.from_lists([[3, 4, 5], [18, 19], []]), 3, exclude_seen=True)
    assert ranked[0, 0] == 6
    assert ranked[1, 0] == 0
    assert ranked.shape == (3, 3)


def test_seen_items_are_left_out_and_a_short_catalogue_is_padded():
    histories = Sequences.from_lists([[0, 1, 2], list(range(5)), []])
    ranked = SasrecRanker(tiny_model(5)).rank(histories, 7, exclude_seen=True)
    assert sorted(ranked[0].tolist()) == [-1] * 5 + [3, 4]
    assert ranked[1].tolist() == [-1] * 7
    assert sorted(ranked[2].tolist()) == [-1, -1, 0, 1, 2, 3, 4]
