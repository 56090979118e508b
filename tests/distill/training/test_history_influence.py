"""Influence of histories, against the inverse Hessian written out and against retraining."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.training.history_influence import influence_scores
from pocketrec.runtime.errors import ConfigError
from tiny_sasrec import HISTORIES, MAX_HISTORY, tiny_model, window_loss, windows_of


def test_the_windows_of_these_tests_ask_for_every_event_once():
    assert [[w[skip:] for w, skip in windows_of(h)] for h in HISTORIES if len(h) > 4] == [[[1, 2, 0, 4, 3], [2, 1, 0]]]


def test_influence_is_the_exact_inverse_hessian_form_on_a_model_small_enough_to_write_it_out():
    model = tiny_model().eval()
    damping, n, d = 0.05, 5, 4

    def losses(flat):
        table, bias = flat[: n * d].view(n, d), flat[n * d :]
        sums = [sum(window_loss(model, w, s, table, bias) for w, s in windows_of(h)) for h in HISTORIES if h]
        return torch.stack(sums)

    events = sum(map(len, HISTORIES))
    theta = torch.cat((model.items.weight[:-1].flatten(), model.bias)).detach()
    gradients = torch.autograd.functional.jacobian(losses, theta)
    hessian = torch.autograd.functional.hessian(lambda flat: losses(flat).sum() / events, theta)
    solved = torch.linalg.solve(hessian + damping * torch.eye(len(theta)), gradients.sum(0) / events)
    expected = (gradients @ solved / events).numpy()

    scores = influence_scores(
        model, Sequences.from_lists(HISTORIES), MAX_HISTORY, damping=damping, iterations=100, curvature_events=0
    )
    assert scores.dtype == np.float32
    assert np.isnan(scores[1])
    np.testing.assert_allclose(np.delete(scores, 1), expected, rtol=2e-3, atol=1e-6)


def test_influence_agrees_with_retraining_without_each_history():
    # Histories of one event are predicted from the start token alone: the output layer is then a convex model, a
    # regularised popularity, and can be retrained to its optimum (by Newton's method) without each history in turn.
    counts, damping = np.array([480.0, 280, 120, 80, 40]), 0.05
    model = tiny_model().eval()
    nothing = torch.zeros(1, 1, dtype=torch.int64)
    with torch.no_grad():
        state = np.append(model.hidden(nothing, nothing == 0, nothing, None)[0, 0].numpy().astype(np.float64), 1)

    def probabilities(theta):
        return np.exp(theta @ state) / np.exp(theta @ state).sum()

    def risk(theta):
        return -(counts @ np.log(probabilities(theta))) / 1000

    def retrained(kept):
        theta = np.zeros((5, 5))
        for _ in range(40):
            p = probabilities(theta)
            gradient = np.outer(kept.sum() * p - kept, state) / 1000 + damping * theta
            hessian = kept.sum() / 1000 * np.kron(np.diag(p) - np.outer(p, p), np.outer(state, state))
            theta -= np.linalg.solve(hessian + damping * np.eye(25), gradient.flatten()).reshape(5, 5)
        assert np.abs(gradient).max() < 1e-12
        return theta

    full = retrained(counts)
    with torch.no_grad():
        model.items.weight[:-1] = torch.from_numpy(full[:, :-1])
        model.bias.copy_(torch.from_numpy(full[:, -1]))
    train = Sequences.from_lists([[item] for item in np.repeat(np.arange(5), counts.astype(int)).tolist()])
    scores = influence_scores(model, train, MAX_HISTORY, damping=damping, iterations=100)
    changes = np.array([risk(retrained(counts - np.eye(5)[item])) - risk(full) for item in range(5)])
    assert np.sign(changes).tolist() == [1, 1, -1, -1, -1]  # without regularisation nothing could help the loss
    expected = np.repeat(changes, counts.astype(int))
    assert (np.sign(scores) == np.sign(expected)).all()
    np.testing.assert_allclose(scores, expected, atol=0.05 * np.abs(changes).max())


def test_influence_refuses_no_damping_and_histories_that_the_surrogate_cannot_read():
    with pytest.raises(ConfigError, match="damping"):
        influence_scores(tiny_model(), Sequences.from_lists(HISTORIES), MAX_HISTORY, damping=0.0)
    with pytest.raises(ConfigError, match="at most"):
        influence_scores(tiny_model(), Sequences.from_lists(HISTORIES), MAX_HISTORY + 1)
