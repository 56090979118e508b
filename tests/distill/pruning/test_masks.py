"""Masks: their scores are gradients and squares of the weights that they multiply."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

from pocketrec.distill.config import TrainConfig
from pocketrec.distill.data.batches import window_batches
from pocketrec.distill.pruning.masks import gated, open_gates, places, square_sums, taylor_sums
from pocketrec.distill.training.losses import HardLabels
from prunable import ROWS, SHAPES, ring
from tiny import tiny_student


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_gate_times_gradient_of_the_gate(shape):
    student = tiny_student(**SHAPES[shape])
    loss = HardLabels(student, ROWS).eval()
    ((batch,), *_) = window_batches(ring().train, 6, TrainConfig(batch_size=16))(0, 1).epoch(0)
    where, generator = places(student), torch.Generator().manual_seed(1)
    gates = {n: torch.rand(g.shape, generator=generator).requires_grad_() for n, g in open_gates(student).items()}
    weights = gated(dict(student.named_parameters()), gates, where)
    functional_call(loss, {f"student.{name}": w for name, w in weights.items()}, (batch,)).backward()
    scores = taylor_sums(student, gates, where)
    for name, gate in gates.items():
        expected = (gate * gate.grad).detach()
        np.testing.assert_allclose(scores[name], expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)


def test_magnitudes_are_sums_of_squares_and_nothing_behind_a_closed_gate():
    student = tiny_student()
    gates = open_gates(student)
    gates["ffn"][1, 3] = 0.0
    sums = square_sums(student, gates, places(student))
    down = student.backbone.layers[1].mlp.down_proj.weight.detach()
    assert float(sums["ffn"][1, 2]) == pytest.approx(float(down[:, 2].square().sum()), rel=1e-5)
    assert float(sums["ffn"][1, 3]) == 0.0
