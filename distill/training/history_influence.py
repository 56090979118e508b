"""Influence of training histories: the change in a small surrogate's training loss if a history were left out.

Influence functions (Koh & Liang 2017) as used by DEALRec (Lin et al. 2024), with SASRec as the surrogate. DEALRec's
code uses one inner matrix of the surrogate and approximates the inverse Hessian by a sampled recursion. Here the
parameters are the output layer, with hidden states frozen, for which the loss is convex, and the system is solved by
conjugate gradients.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketrec.distill.data.batches import Batch, fixed_window_batches
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.sasrec import Sasrec
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import ConfigError

logger = logging.getLogger(__name__)

BLOCK = 256  # positions whose logits over all items are held at once
TOLERANCE = 1e-4  # conjugate gradients stop at this residual, relative to the gradient


def influence_scores(
    model: Sasrec,
    train: Sequences,
    max_history: int,
    *,
    damping: float = 0.01,
    iterations: int = 20,
    curvature_events: int = 8192,
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Estimate how much the surrogate's mean training loss R would rise if a history were left out.

    With θ the output layer (item table and bias, hidden states frozen) and N events, leaving out history s changes θ by
    H⁻¹∇L_s / N, and R by ∇Rᵀ H⁻¹ ∇L_s / N. Since H is symmetric, H⁻¹∇R is solved for once and shared by all histories
    (DEALRec, eqs. 10 and 11; Koh & Liang 2017 for influence functions).

    The estimate is of first order and needs ∇R ≠ 0: at an exact minimum of R every score would be 0. Regularisation,
    early stopping and `damping` keep the surrogate away from it.

    :param model: a trained surrogate; it is put in eval mode.
    :param damping: λ of H + λI.
    :param iterations: maximum number of steps of conjugate gradients.
    :param curvature_events: H is estimated on random histories with about this many events; 0: on all histories.
    :param batch_size: windows per batch.
    :param seed: seed of the random histories.
    :returns: float32 [n], one per history of `train`; NaN for those without events.
    :raises ConfigError: if `damping` is not above 0, or `max_history` is longer than the surrogate reads.
    """
    if not damping > 0:
        raise ConfigError(f"the damping of the influence score is {damping}; it must be above 0")
    if max_history > model.max_history:
        raise ConfigError(f"max_history is {max_history}, but the surrogate reads at most {model.max_history} items")
    begun = time.monotonic()
    model.eval()
    theta = torch.cat((model.items.weight[:-1], model.bias[:, None]), 1).detach().float()
    events = max(1, int(train.lengths.sum()))
    totals = np.zeros(len(train))
    with torch.no_grad(), progress.track("scoring the influence of histories", 2 * events) as advance:
        gradient = torch.zeros_like(theta)
        for batch, _ in fixed_window_batches(train, max_history, batch_size):
            gradient += _gradient(_states(model, batch), batch.targets.to(theta.device), theta) / events
            advance(len(batch.targets))
        some = _some(train, curvature_events, seed)
        states = [_states(model, batch) for batch, _ in fixed_window_batches(some, max_history, batch_size)]
        direction, residual = _solve(lambda v: _hessian_product(states, theta, v) + damping * v, gradient, iterations)
        for batch, owner in fixed_window_batches(train, max_history, batch_size):
            slopes = _slopes(_states(model, batch), batch.targets.to(theta.device), theta, direction)
            window = batch.segment.flatten()[batch.loss_at].numpy()
            np.add.at(totals, owner[window], slopes.double().cpu().numpy() / events)
            advance(len(batch.targets))
    seconds = time.monotonic() - begun
    logger.info("influence of %d histories: residual %.1e, %.1f s", len(train), residual, seconds)
    return np.where(train.lengths > 0, totals, np.nan).astype(np.float32)


def _some(train: Sequences, events: int, seed: int) -> Sequences:
    """Draw random histories with about `events` events in all; 0 takes all histories."""
    if events == 0:
        return train
    order = np.random.default_rng(seed).permutation(len(train))
    enough = int(np.searchsorted(np.cumsum(train.lengths[order]), events)) + 1
    return train.take(np.sort(order[:enough]))


def _states(model: Sasrec, batch: Batch) -> Tensor:
    """Return the inputs of the output layer at the loss positions, float [n, D + 1]; the last is 1, for the bias."""
    batch = batch.to(model.bias.device)
    hidden = model.hidden(batch.inputs, batch.is_start, batch.position, batch.mask)
    hidden = hidden.flatten(0, 1)[batch.loss_at].float()
    return torch.cat((hidden, hidden.new_ones(len(hidden), 1)), 1)


def _gradient(states: Tensor, targets: Tensor, theta: Tensor) -> Tensor:
    """Return the gradient of the summed cross-entropy with respect to `theta`, float [n_items, D + 1]."""
    total = torch.zeros_like(theta)
    for x, target in zip(torch.split(states, BLOCK), torch.split(targets, BLOCK), strict=True):
        error = (x @ theta.T).softmax(1)
        error[torch.arange(len(x), device=x.device), target] -= 1
        total.addmm_(error.T, x)
    return total


def _hessian_product(parts: list[Tensor], theta: Tensor, v: Tensor) -> Tensor:
    """Return the Hessian of the mean cross-entropy times `v`, float [n_items, D + 1]; targets do not matter."""
    total = torch.zeros_like(theta)
    for x in (block for states in parts for block in torch.split(states, BLOCK)):
        p, change = (x @ theta.T).softmax(1), x @ v.T
        total.addmm_((p * (change - (p * change).sum(1, keepdim=True))).T, x)
    return total / max(1, sum(map(len, parts)))


def _slopes(states: Tensor, targets: Tensor, theta: Tensor, v: Tensor) -> Tensor:
    """Return the derivative of each position's cross-entropy along `v`, float [n]."""
    slopes = []
    for x, target in zip(torch.split(states, BLOCK), torch.split(targets, BLOCK), strict=True):
        change = x @ v.T
        slopes.append(((x @ theta.T).softmax(1) * change).sum(1) - change.gather(1, target[:, None])[:, 0])
    return torch.cat(slopes)


def _solve(apply: Callable[[Tensor], Tensor], right: Tensor, iterations: int) -> tuple[Tensor, float]:
    """Solve `apply(x) = right` by conjugate gradients; return x and the relative residual."""
    x, residual = torch.zeros_like(right), right.clone()
    step = residual.clone()
    size = start = float((residual * residual).sum())
    for _ in range(iterations):
        if size <= TOLERANCE**2 * start:
            break
        image = apply(step)
        rate = size / float((step * image).sum())
        x += rate * step
        residual -= rate * image
        size, before = float((residual * residual).sum()), size
        step = residual + (size / before) * step
    return x, (size / start) ** 0.5 if start else 0.0
