"""Preference losses against plain sums over single histories; the stage keeps only what is better."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pocketrec.distill.batches import WindowBatches
from pocketrec.distill.config import PreferenceConfig, TrainConfig
from pocketrec.distill.item_space import ItemSpace
from pocketrec.distill.preference import (
    Grpo,
    SoftmaxDpo,
    draw_rejected,
    group_advantages,
    group_rewards,
    make_preference,
    newest_positions,
    refine,
)
from pocketrec.distill.semantic_ids import Codebooks, SemanticIds
from pocketrec.distill.sid_quality import SidQuality
from pocketrec.distill.splits import EvalSet, Sequences, Split
from pocketrec.distill.trainer import fit
from pocketrec.runtime.errors import ConfigError
from tiny import CODES, LEVELS, brute_force, random_rows, tiny_student

ITEMS, HISTORY = 12, 6
ROWS = random_rows(ITEMS)
SIDS = torch.from_numpy(ROWS.astype(np.int64))
COUNTS = np.arange(ITEMS)
BETA = 0.7
TRAIN = Sequences.from_lists(
    np.array_split(np.random.default_rng(0).integers(0, ITEMS, 26), [3, 4, 9, 14, 20]), )  # fmt: skip


def config_of(method, negatives=4, **train):
    fixed = {"batch_size": 8, "validate_every": 1, "record_every": 1, "checkpoint_steps": 2, "cpu": True}
    return PreferenceConfig(method=method, beta=BETA, negatives=negatives, train=TrainConfig(**{**fixed, **train}))


def model_of(method, negatives=4, moved=True, **shape):
    """A preference module whose student has (or has not) moved away from the reference."""
    model = make_preference(tiny_student(**shape), ROWS, config_of(method, negatives), COUNTS)
    if moved:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.student.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def batch_of(train=TRAIN):
    ((batch,),) = WindowBatches(train, HISTORY, 100, seed=0).epoch(0)
    return batch


def questions(batch, train=TRAIN):
    """Every position of a batch as (event, history, target): every history fits into one window here."""
    for event, target in zip(batch.events.tolist(), batch.targets.tolist(), strict=True):
        start = max(s for s in train.starts.tolist() if s <= event)
        yield event, train.items[start:event], target


def code_log_probs(student, history, sid):
    """After one unpacked history: log-probabilities of the codes at each level along one SID, [L, K]."""
    tokens = torch.cat((torch.zeros(1, LEVELS, dtype=torch.int64), SIDS[torch.from_numpy(history.astype(np.int64))]))
    hidden = student(tokens[None])[0, -1:]
    return torch.cat(student.level_logits(hidden, sid[None])).log_softmax(-1)


def item_log_prob(student, history, item):
    return code_log_probs(student, history, SIDS[item])[range(LEVELS), SIDS[item]].sum()


def gradients(model, loss):
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    parts = [p for p in model.parameters() if p.requires_grad]
    return dict(zip(names, torch.autograd.grad(loss, parts, allow_unused=True), strict=True))


def assert_same_gradients(model, left, right):
    left, right = gradients(model, left), gradients(model, right)
    assert left.keys() == right.keys()
    for name, one in left.items():
        two = right[name]
        zero = torch.zeros(())
        torch.testing.assert_close(zero if one is None else one, zero if two is None else two,
                                   rtol=1e-3, atol=1e-5, check_device=False, msg=name) if (
            one is not None and two is not None
        ) else None


# Rejected items


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_rejected_item_is_of_the_catalogue_and_never_the_target(data):
    counts = np.array(data.draw(st.lists(st.integers(0, 10**9), min_size=2, max_size=9)))
    events = np.array(data.draw(st.lists(st.integers(0, 2**62), min_size=1, max_size=9)))
    targets = np.array([data.draw(st.integers(0, len(counts) - 1)) for _ in events])
    drawn = draw_rejected(targets, events, counts, data.draw(st.integers(1, 20)), data.draw(st.integers(0, 2**31)))
    assert ((drawn >= 0) & (drawn < len(counts)) & (drawn != targets[:, None])).all()
