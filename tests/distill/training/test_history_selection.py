"""Choosing training histories: influence and effort against brute force, and what a selection covers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pocketrec.distill.config import SasrecConfig
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.sasrec import Sasrec
from pocketrec.distill.training.history_selection import (
    combine,
    effort_scores,
    gradient_effort,
    influence_scores,
    select_histories,
)
from pocketrec.runtime.errors import ConfigError, DataError, TrainingError

HISTORIES = [[0, 1, 2], [], [3], [1, 2, 0, 4, 3, 2, 1, 0], [4, 4], [2, 0, 1, 3]]
MAX_HISTORY = 4  # the fourth history takes two windows


def tiny_model(n_items=5, **shape):
    torch.manual_seed(0)
    model = Sasrec(SasrecConfig(**{"dim": 4, "layers": 1, "heads": 2, "dropout": 0.3, **shape}), n_items, MAX_HISTORY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def windows_of(history):
    """What a model is asked of a history, written out: items seen, and which of their successors count."""
    first = [(history[: MAX_HISTORY + 1], 0)]
    return first + [(history[n : n + MAX_HISTORY + 1], 1) for n in range(4, len(history) - 1, MAX_HISTORY)]


def window_loss(model, window, skip, table=None, bias=None):
    """Summed cross-entropy of one window, alone in its batch, by plain operations."""
    inputs = torch.tensor([[0, *window[:-1]]])
    is_start = torch.zeros_like(inputs, dtype=torch.bool)
    is_start[:, 0] = True
    hidden = model.hidden(inputs, is_start, torch.arange(len(window))[None], None)[0]
    table, bias = (model.items.weight[:-1], model.bias) if table is None else (table, bias)
    return F.cross_entropy((hidden @ table.T + bias)[skip:], torch.tensor(window[skip:]), reduction="sum")


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


def test_influence_refuses_no_damping_and_histories_that_the_surrogate_cannot_read():
    with pytest.raises(ConfigError, match="damping"):
        influence_scores(tiny_model(), Sequences.from_lists(HISTORIES), MAX_HISTORY, damping=0.0)
    with pytest.raises(ConfigError, match="at most"):
        influence_scores(tiny_model(), Sequences.from_lists(HISTORIES), MAX_HISTORY + 1)


def test_combined_scores_weigh_both_on_the_same_scale():
    influence = np.array([-1e-6, np.nan, 3e-6, 1e-6])
    effort = np.array([10.0, np.nan, 10.0, 30.0])
    np.testing.assert_allclose(combine(influence, effort, 0.5), [0.0, np.nan, 1.0, 1.0])
    np.testing.assert_allclose(combine(influence, np.full(4, 7.0), 2.0), [0.0, np.nan, 1.0, 0.5])
    with pytest.raises(ConfigError, match="weight"):
        combine(influence, effort, -1.0)
    with pytest.raises(TrainingError, match="4 influence but 3"):
        combine(influence, effort[:3], 1.0)


def one_event_each(sizes):
    """Histories in strata of these sizes: history i is [i], its score the middle of its stratum."""
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(0).permutation(len(stratum))
    return Sequences.from_lists([[i] for i in range(len(stratum))]), stratum[order], stratum[order] + 0.5


def chosen(selected):
    return selected.events().tolist()


@settings(max_examples=80)
@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=8).map(lambda sizes: [max(1, sizes[0]), *sizes[1:-1], 5]),
    st.floats(0.001, 1.0),
    st.integers(0, 3),
)
def test_a_selection_has_the_size_of_its_control_and_misses_no_stratum_it_can_afford(sizes, share, seed):
    train, stratum, scores = one_event_each(sizes)
    rows = chosen(select_histories(train, share, scores, len(sizes), seed))
    control = chosen(select_histories(train, share, None, len(sizes), seed))
    assert len(rows) == len(control) == max(1, round(share * len(train)))
    for drawn in (rows, control):
        assert drawn == sorted(set(drawn))
    occupied = set(stratum.tolist())
    if len(rows) >= len(occupied):
        assert set(stratum[rows].tolist()) == occupied


def test_what_a_small_stratum_cannot_use_goes_evenly_to_the_larger_ones():
    train, stratum, scores = one_event_each([50, 1, 3, 46])
    rows = select_histories(train, 0.24, scores, strata=4)
    # 24 over four is 6: strata of 1 and 3 give all they have, the other two share the remaining 20.
    assert np.bincount(stratum[chosen(rows)]).tolist() == [10, 1, 3, 10]


def test_the_seed_decides_and_the_full_share_is_everything_with_an_event():
    train, _, scores = one_event_each([40, 30, 30])
    for s in (scores, None):
        draws = [chosen(select_histories(train, 0.2, s, 3, seed)) for seed in (1, 1, 2)]
        assert draws[0] == draws[1] != draws[2]
        assert chosen(select_histories(train, 1.0, s, 3)) == list(range(100))
    kept = select_histories(Sequences.from_lists(HISTORIES), 1.0, np.array([1, np.nan, 2, 2, 1, 5.0]))
    assert [h.tolist() for h in kept] == [h for h in HISTORIES if h]
    assert len(select_histories(Sequences.from_lists(HISTORIES), 0.4, None)) == 2


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_shares_out_of_bounds_are_refused(share):
    with pytest.raises(ConfigError, match="share"):
        select_histories(Sequences.from_lists([[1]]), share, None)


def test_scores_that_do_not_fit_are_refused():
    train = Sequences.from_lists([[1], [2]])
    with pytest.raises(TrainingError, match="1 scores for 2"):
        select_histories(train, 0.5, np.ones(1))
    with pytest.raises(TrainingError, match="finite"):
        select_histories(train, 0.5, np.array([1.0, np.nan]))
    with pytest.raises(ConfigError, match="strata"):
        select_histories(train, 0.5, None, strata=0)
    with pytest.raises(DataError, match="no training history"):
        select_histories(Sequences.from_lists([[], []]), 0.5, None)
