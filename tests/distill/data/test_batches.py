"""Packed training batches: every event once, nobody sees another's history or the future."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import Sequences

histories = st.lists(st.lists(st.integers(0, 30), min_size=0, max_size=25), min_size=1, max_size=12)


def joined(batches, name):
    return np.concatenate([getattr(b, name).numpy() for step in batches for b in step])


@settings(max_examples=60)
@given(histories, st.integers(1, 7), st.integers(1, 5), st.integers(0, 3))
def test_every_event_is_a_target_exactly_once_an_epoch(lists, max_history, batch_size, epoch):
    batches = WindowBatches(Sequences.from_lists(lists), max_history, batch_size, seed=0)
    steps = list(batches.epoch(epoch))
    targets = joined(steps, "targets") if steps else np.empty(0, int)
    assert sorted(targets.tolist()) == sorted(i for h in lists for i in h)


@settings(max_examples=60)
@given(histories, st.integers(1, 7))
def test_each_target_is_predicted_from_the_events_right_before_it(lists, max_history):
    # Number events so that each names its own place: user * 100 + position.
    named = [[u * 100 + p for p in range(len(h))] for u, h in enumerate(lists)]
    for (batch,) in WindowBatches(Sequences.from_lists(named), max_history, 4, seed=1).epoch(0):
        inputs, segment = batch.inputs.flatten().numpy(), batch.segment.flatten().numpy()
        start, place = batch.is_start.flatten().numpy(), batch.position.flatten().numpy()
        for at, target in zip(batch.loss_at.tolist(), batch.targets.tolist(), strict=True):
            n = place[at]
            assert start[at - n]
            assert (segment[at - n : at + 1] == segment[at]).all()
            assert inputs[at - n + 1 : at + 1].tolist() == list(range(target - n, target))
            assert n <= max_history
            assert n > 0 or target % 100 == 0


def test_the_mask_lets_a_token_see_its_own_past_alone():
    (batch,), *_ = WindowBatches(Sequences.from_lists([[1, 2], [3], [4, 5, 6]]), 6, 8, seed=0).epoch(0)
    mask = batch.mask[:, 0].numpy()
    for row in range(mask.shape[0]):
        for i in range(mask.shape[1]):
            for j in range(mask.shape[1]):
                same = batch.segment[row, i] == batch.segment[row, j]
                assert mask[row, i, j] == bool(same and j <= i)


def test_processes_and_micro_batches_share_out_the_same_steps():
    train = Sequences.from_lists([list(range(n)) for n in range(1, 40)])
    whole = [s for s in WindowBatches(train, 5, 8, seed=3).epoch(2)]
    parts = [list(WindowBatches(train, 5, 8, seed=3, accumulate=2, rank=r, world=2).epoch(2)) for r in (0, 1)]
    assert len(parts[0]) == len(parts[1]) == len(whole)
    for n, (full,) in enumerate(whole):
        pieces = [b for part in parts for b in part[n]]
        assert {b.total for b in pieces} == {full.total} == {len(full.targets)}
        targets = np.concatenate([b.targets.numpy() for b in pieces])
        assert sorted(targets.tolist()) == sorted(full.targets.tolist())


def test_packing_wastes_little():
    generator = np.random.default_rng(0)
    train = Sequences.from_lists([[1] * n for n in generator.geometric(0.12, 600).tolist()])
    tokens = used = 0
    for (batch,) in WindowBatches(train, 20, 256, seed=0).epoch(0):
        tokens, used = tokens + batch.inputs.numel(), used + int((batch.segment >= 0).sum())
    assert used / tokens > 0.9
