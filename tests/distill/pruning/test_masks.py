"""Masks: their scores are gradients and squares of the weights that they multiply."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

from pocketrec.distill.config import TrainConfig
from pocketrec.distill.data.batches import window_batches
from pocketrec.distill.pruning.masks import mask_sites, masked_weights, open_masks, square_sums, taylor_sums
from pocketrec.distill.training.losses import HardLabels
from prunable import ROWS, SHAPES, ring
from tiny import tiny_student


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_mask_times_gradient_of_the_mask(shape):
    student = tiny_student(**SHAPES[shape])
    loss = HardLabels(student, ROWS).eval()
    ((batch,), *_) = window_batches(ring().train, 6, TrainConfig(batch_size=16))(0, 1).epoch(0)
    sites, generator = mask_sites(student), torch.Generator().manual_seed(1)
    masks = {n: torch.rand(m.shape, generator=generator).requires_grad_() for n, m in open_masks(student).items()}
    weights = masked_weights(dict(student.named_parameters()), masks, sites)
    functional_call(loss, {f"student.{name}": w for name, w in weights.items()}, (batch,)).backward()
    scores = taylor_sums(student, masks, sites)
    for name, mask in masks.items():
        expected = (mask * mask.grad).detach()
        np.testing.assert_allclose(scores[name], expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)


def test_magnitudes_are_sums_of_squares_and_zero_behind_a_mask_of_zero():
    student = tiny_student()
    masks = open_masks(student)
    masks["ffn"][1, 3] = 0.0
    sums = square_sums(student, masks, mask_sites(student))
    down = student.backbone.layers[1].mlp.down_proj.weight.detach()
    assert float(sums["ffn"][1, 2]) == pytest.approx(float(down[:, 2].square().sum()), rel=1e-5)
    assert float(sums["ffn"][1, 3]) == 0.0
