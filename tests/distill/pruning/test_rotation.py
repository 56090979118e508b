"""Rotation changes the basis of a student and nothing that it computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.config import TrainConfig
from pocketrec.distill.data.batches import window_batches
from pocketrec.distill.pruning.rotation import rotate_student
from prunable import ROWS, SHAPES, assert_same, outputs, ring
from tiny import tiny_student


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rotated_student_has_the_same_outputs(shape):
    student = tiny_student(**SHAPES[shape])
    before = outputs(student)
    batches = [b for micro in window_batches(ring().train, 6, TrainConfig(batch_size=8))(0, 1).epoch(0) for b in micro]
    stream = student.stream(torch.from_numpy(ROWS.astype(np.int64))[None])
    rotate_student(student, batches, torch.from_numpy(ROWS.astype(np.int64)))
    after = outputs(student)
    layers = student.config.layers
    assert_same(after[layers:], before[layers:], atol=1e-4)  # logits; states are rotated
    rotated = student.stream(torch.from_numpy(ROWS.astype(np.int64))[None])
    for mine, other in zip(rotated, stream, strict=True):
        np.testing.assert_allclose(mine.norm(dim=-1).detach(), other.norm(dim=-1).detach(), rtol=1e-4)


def test_the_strongest_channels_come_first_in_a_rotated_student():
    student = tiny_student()
    batches = [b for micro in window_batches(ring().train, 6, TrainConfig(batch_size=8))(0, 1).epoch(0) for b in micro]
    sids = torch.from_numpy(ROWS.astype(np.int64))
    rotate_student(student, batches, sids)
    strength = torch.zeros(student.config.dim)
    with torch.no_grad():
        for batch in batches:
            for state in student.eval().stream(sids[batch.inputs], batch.is_start, batch.mask):
                x = state.flatten(0, 1)[(batch.segment >= 0).flatten()]
                strength += (x / x.square().mean(1, keepdim=True).sqrt()).square().sum(0)
    assert (strength.diff() <= 1e-3).all()
    columns = student.pairs.table.weight.detach().norm(dim=0)
    assert (columns.diff() <= 1e-4).all()
