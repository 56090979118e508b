"""Effort of histories, against the gradient of each history alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.training.history_effort import effort_scores, gradient_effort
from pocketrec.runtime.errors import ConfigError
from tiny_sasrec import HISTORIES, MAX_HISTORY, tiny_model, window_loss, windows_of


def test_effort_is_the_norm_of_each_historys_own_gradient():
    model = tiny_model(layers=2)
    layers = [model.blocks[0].forward_out, model.blocks[1].qkv]
    train = Sequences.from_lists(HISTORIES)
    scores = effort_scores(gradient_effort(model, layers), train, MAX_HISTORY, batch_size=4)
    parameters = [p for layer in layers for p in layer.parameters()]
    assert np.isnan(scores[1])
    assert scores.dtype == np.float32
    for history, score in zip(HISTORIES, scores, strict=True):
        if history:
            gradients = [torch.autograd.grad(window_loss(model, w, s), parameters) for w, s in windows_of(history)]
            expected = sum(float((g**2).sum()) for window in gradients for g in window) ** 0.5
            np.testing.assert_allclose(score, expected, rtol=1e-4)


def test_effort_needs_layers_that_learn_and_see_tokens():
    model, train = tiny_model(), Sequences.from_lists(HISTORIES)
    with pytest.raises(ConfigError, match="at least one"):
        gradient_effort(model, [])
    with pytest.raises(ConfigError, match="0 times"):
        effort_scores(gradient_effort(model, [torch.nn.Linear(4, 4)]), train, MAX_HISTORY)
    model.blocks[0].out.requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        effort_scores(gradient_effort(model, [model.blocks[0].out]), train, MAX_HISTORY)
