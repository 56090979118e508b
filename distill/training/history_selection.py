"""Which training histories the teacher learns from, after DEALRec (Lin et al., SIGIR 2024).

On the path of the data: training histories and a trained SASRec in, a share of the histories out, in their order and
fixed by a seed. A history scores by its *influence* (what leaving it out would do to a small surrogate's loss) and by
the LLM's *effort* (how large a gradient it asks for); the selection then covers the whole range of scores instead of
taking the top, and is always of the same size as its random control.

What is not the paper's: its samples are single predictions, ours are whole histories. Both scores are of all events
of a history, so they grow with its length; divide them by `train.lengths` to compare histories event by event (a
share chosen by the undivided ones can hold twice the events of its random control, and costs as much more to train).
The paper's code takes one inner matrix of the surrogate and a sampled recursion for the inverse Hessian; here it is
the output layer behind frozen hidden states, where the loss is convex, and conjugate gradients.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketrec.distill.data.batches import Batch, pack
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.sasrec import Sasrec
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import ConfigError, DataError, TrainingError

logger = logging.getLogger(__name__)

Effort = Callable[[Batch], Tensor]  # batch → float [windows], by the numbers in `batch.segment`
BLOCK = 256  # positions whose logits over all items are held at once
TOLERANCE = 1e-4  # of the residual, relative to the gradient, at which conjugate gradients stop


def select_histories(
    train: Sequences, share: float, scores: NDArray[np.floating] | None, strata: int = 50, seed: int = 0
) -> Sequences:
    """Choose a share of the histories that have an event; those without are never among the chosen.

    The range of scores is cut into `strata` of equal width. The budget is spread evenly over those with members,
    the smallest first, so that what a small stratum cannot use goes to the larger ones; within a stratum the choice
    is random (DEALRec's coverage-enhanced sample selection, which follows Zheng et al. 2023).

    :param share: of the histories with an event, in (0, 1]; rounded, at least one history.
    :param scores: float [n], one per history of `train`; None draws as many at random, the control.
    :returns: the chosen histories in their original order, views into the same events.
    :raises ConfigError: if `share` or `strata` is out of bounds.
    :raises DataError: if no history has an event.
    :raises TrainingError: if scores are of another length, or not finite where a history has an event.
    """
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"the share of training histories is {share}; choose one above 0 and at most 1")
    if strata < 1:
        raise ConfigError(f"{strata} strata were asked for; choose at least one")
    rows = np.flatnonzero(train.lengths > 0)
    if len(rows) == 0:
        raise DataError("no training history has an event, so there is nothing to select from")
    budget = max(1, round(share * len(rows)))
    generator = np.random.default_rng(seed)
    if scores is None:
        chosen = generator.permutation(len(rows))[:budget]
    else:
        if len(scores) != len(train):
            raise TrainingError(f"{len(scores)} scores for {len(train)} histories; score these histories again")
        chosen = _cover(_strata_of(np.asarray(scores, np.float64)[rows], strata), budget, generator)
    selected = train.take(rows[np.sort(chosen)])
    events = selected.lengths.sum() / train.lengths.sum()
    logger.info("selected %d of %d histories, %.1f %% of the events", budget, len(rows), 100 * events)
    return selected


def combine(influence: NDArray[np.floating], effort: NDArray[np.floating], weight: float) -> NDArray[np.float32]:
    """Return the overall score, influence + weight × effort, each first scaled to [0, 1]: float32 [n].

    A score that is the same everywhere counts as 0. NaN (a history without events) stays NaN. The sum is DEALRec's,
    the scaling that of its published code.

    :raises ConfigError: if `weight` is negative.
    :raises TrainingError: if the two are of different lengths.
    """
    if not weight >= 0:
        raise ConfigError(f"the weight of the effort score is {weight}; choose 0 or more")
    if len(influence) != len(effort):
        raise TrainingError(f"{len(influence)} influence but {len(effort)} effort scores; score the same histories")
    return (_unit(influence) + weight * _unit(effort)).astype(np.float32)


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

    With θ the output layer (item table and bias, hidden states frozen) and N events, leaving out history s moves θ by
    H⁻¹∇L_s / N, so R by ∇Rᵀ H⁻¹ ∇L_s / N. As H is symmetric, H⁻¹∇R is solved for once and shared by all histories
    (DEALRec, eqs. 10 and 11; Koh & Liang 2017 for influence functions).

    First-order, and informative only as far as ∇R is not 0: at an exact minimum of R every score would be 0. What
    keeps it from there is regularisation, early stopping and `damping`.

    :param model: a trained surrogate; it is put in eval mode.
    :param damping: λ of H + λI.
    :param iterations: at most so many steps of conjugate gradients.
    :param curvature_events: H is estimated on random histories with about as many events; 0: on all.
    :param batch_size: windows at a time.
    :returns: float32 [n], one per history of `train`; NaN for those without events.
    :raises ConfigError: if `damping` is not above 0, or `max_history` is longer than the surrogate reads.
    """
    if not damping > 0:
        raise ConfigError(f"the damping of the influence score is {damping}; choose a value above 0")
    if max_history > model.max_history:
        raise ConfigError(f"max_history is {max_history}, but the surrogate reads {model.max_history} items at most")
    begun = time.monotonic()
    model.eval()
    theta = torch.cat((model.items.weight[:-1], model.bias[:, None]), 1).detach().float()
    events = max(1, int(train.lengths.sum()))
    totals = np.zeros(len(train))
    with torch.no_grad(), progress.track("scoring the influence of histories", 2 * events) as advance:
        gradient = torch.zeros_like(theta)
        for batch, _ in _windows(train, max_history, batch_size):
            gradient += _gradient(_states(model, batch), batch.targets.to(theta.device), theta) / events
            advance(len(batch.targets))
        part = _some(train, curvature_events, seed)
        states = [_states(model, batch) for batch, _ in _windows(part, max_history, batch_size)]
        direction, residual = _solve(lambda v: _curve(states, theta, v) + damping * v, gradient, iterations)
        for batch, owner in _windows(train, max_history, batch_size):
            slopes = _slopes(_states(model, batch), batch.targets.to(theta.device), theta, direction)
            window = batch.segment.flatten()[batch.loss_at].numpy()
            np.add.at(totals, owner[window], slopes.double().cpu().numpy() / events)
            advance(len(batch.targets))
    seconds = time.monotonic() - begun
    logger.info("influence of %d histories: residual %.1e, %.1f s", len(train), residual, seconds)
    return np.where(train.lengths > 0, totals, np.nan).astype(np.float32)


def effort_scores(
    effort: Effort, train: Sequences, max_history: int, *, batch_size: int = 64, progress: Progress = SILENT
) -> NDArray[np.float32]:
    """Return the effort a model would have with each history: ‖∇L_s‖₂ (DEALRec's effort score).

    :param effort: gradient norms per window of a batch, float [windows]; `gradient_effort` makes one. The windows of
        a history longer than `max_history` count as orthogonal: the root of the sum of their squares.
    :param batch_size: windows at a time.
    :returns: float32 [n], one per history of `train`; NaN for those without events.
    """
    squares = np.zeros(len(train))
    batches = list(_windows(train, max_history, batch_size))
    with progress.track("scoring the effort of histories", len(batches)) as advance:
        for batch, owner in batches:
            np.add.at(squares, owner, effort(batch).double().cpu().numpy() ** 2)
            advance(1)
    return np.where(train.lengths > 0, np.sqrt(squares), np.nan).astype(np.float32)


def gradient_effort(model: nn.Module, layers: Several[nn.Linear]) -> Effort:
    """Return an `Effort`: the norm of a window's loss gradient with respect to the weights of some linear layers.

    The paper takes all learnable parameters; a few layers cost one backward pass for a whole batch. A linear layer's
    gradient is a sum of outer products δ_t a_tᵀ, so its squared norm is Σ (δ_t·δ_u)(a_t·a_u) over the window's tokens
    and no window's gradient is ever built (Goodfellow 2015; Li et al. 2022, "ghost clipping").

    :param model: called with a `Batch` it returns the summed loss; it is put in eval mode.
    :param layers: learnable layers of `model` through which a packed batch passes token by token: input
        [B, T (+ prompt), D]. Tokens of a prompt before the item tokens are left out.
    :raises ConfigError: when called, if a layer is frozen, is not used, or does not see one state per token.
    """
    if not layers:
        raise ConfigError("the effort score needs at least one linear layer to take gradients of")
    device = layers[0].weight.device

    def effort(batch: Batch) -> Tensor:
        batch = batch.to(device)
        with torch.enable_grad(), _listening(layers) as heard:
            loss = model.eval()(batch)
            seen = [_only_call(heard[layer], layer, batch.segment.shape) for layer in layers]
            deltas = torch.autograd.grad(loss, [output for _, output in seen])
        used, length = batch.segment >= 0, batch.segment.shape[1]
        same = batch.segment.unsqueeze(2) == batch.segment.unsqueeze(1)
        squares = torch.zeros(int(batch.segment.max()) + 1, device=device)
        for layer, (inputs, _), gradients in zip(layers, seen, deltas, strict=True):
            a, delta = inputs[:, -length:].float(), gradients[:, -length:].float()
            alike = a @ a.mT + (layer.bias is not None)  # a bias is a weight whose input is 1
            squares.index_add_(0, batch.segment[used], (delta @ delta.mT * alike * same).sum(2)[used])
        return squares.clamp(min=0).sqrt()

    return effort


def _strata_of(scores: NDArray[np.float64], strata: int) -> NDArray[np.int64]:
    """Return the stratum of each score: int64 [n], in [0, strata)."""
    if not np.isfinite(scores).all():
        raise TrainingError("some histories with events have no finite score; the model that scored them has diverged")
    return np.minimum((_unit(scores) * strata).astype(np.int64), strata - 1)


def _cover(stratum: NDArray[np.int64], budget: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw `budget` members, evenly over the strata, the smallest stratum first."""
    groups = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    groups.sort(key=len)
    chosen = []
    for done, group in enumerate(groups):
        size = min(len(group), budget // (len(groups) - done))
        chosen.append(generator.permutation(group)[:size])
        budget -= size
    return np.concatenate(chosen)


def _unit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale to [0, 1]; NaN stays, all equal gives 0."""
    known = scores[~np.isnan(scores)].astype(np.float64)
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    return (scores - low) / (high - low if high > low else 1.0)


def _some(train: Sequences, events: int, seed: int) -> Sequences:
    """Draw random histories until they hold about `events` events; 0 takes all."""
    if events == 0:
        return train
    order = np.random.default_rng(seed).permutation(len(train))
    enough = int(np.searchsorted(np.cumsum(train.lengths[order]), events)) + 1
    return train.take(np.sort(order[:enough]))


def _windows(train: Sequences, size: int, count: int) -> Iterator[tuple[Batch, NDArray[np.int64]]]:
    """Yield batches of `count` windows that make every event a target once, and each window's history, int64 [count].

    Windows are cut as the trainer cuts them, but in order and always at the same places.
    """
    lengths = train.lengths
    pieces = np.maximum(1, -(-(lengths - 1) // size)) * (lengths > 0)
    owner = np.repeat(np.arange(len(lengths)), pieces)
    begin = (np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * size
    end = np.minimum(begin + size + 1, lengths[owner])
    base = train.starts[owner]
    for first in range(0, len(owner), count):
        s = slice(first, first + count)
        opens = begin[s] == 0
        total = int((end[s] - begin[s]).sum() - (~opens).sum())
        yield pack(train.items, (base + begin)[s], (base + end)[s], opens, size + 1, total), owner[s]


def _states(model: Sasrec, batch: Batch) -> Tensor:
    """Inputs of the output layer at the loss positions, float [n, D + 1]; the last is 1, for the bias."""
    batch = batch.to(model.bias.device)
    hidden = model.hidden(batch.inputs, batch.is_start, batch.position, batch.mask)
    hidden = hidden.flatten(0, 1)[batch.loss_at].float()
    return torch.cat((hidden, hidden.new_ones(len(hidden), 1)), 1)


def _gradient(states: Tensor, targets: Tensor, theta: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy with respect to `theta`, float [n_items, D + 1]."""
    total = torch.zeros_like(theta)
    for x, target in zip(torch.split(states, BLOCK), torch.split(targets, BLOCK), strict=True):
        error = (x @ theta.T).softmax(1)
        error[torch.arange(len(x), device=x.device), target] -= 1
        total.addmm_(error.T, x)
    return total


def _curve(parts: list[Tensor], theta: Tensor, v: Tensor) -> Tensor:
    """Hessian of the mean cross-entropy times `v`, float [n_items, D + 1]; it does not depend on the targets."""
    total = torch.zeros_like(theta)
    for x in (block for states in parts for block in torch.split(states, BLOCK)):
        p, change = (x @ theta.T).softmax(1), x @ v.T
        total.addmm_((p * (change - (p * change).sum(1, keepdim=True))).T, x)
    return total / max(1, sum(map(len, parts)))


def _slopes(states: Tensor, targets: Tensor, theta: Tensor, v: Tensor) -> Tensor:
    """Derivative of each position's cross-entropy along `v`, float [n]."""
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


Heard = dict[nn.Module, list[tuple[Tensor, Tensor]]]


@contextmanager
def _listening(layers: Several[nn.Linear]) -> Iterator[Heard]:
    """Note input and output of every call of the layers."""
    heard: Heard = defaultdict(list)

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        heard[layer].append((inputs[0].detach(), output))

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _only_call(calls: list[tuple[Tensor, Tensor]], layer: nn.Linear, tokens: torch.Size) -> tuple[Tensor, Tensor]:
    """Return a layer's one call, if it is one that gradient norms can be read from."""
    if len(calls) != 1:
        raise ConfigError(f"{layer} is called {len(calls)} times a batch; take gradients of a layer called once")
    inputs, output = calls[0]
    if not output.requires_grad or not layer.weight.requires_grad:
        raise ConfigError(f"{layer} is frozen; take gradients of a layer that learns")
    if inputs.ndim != 3 or inputs.shape[0] != tokens[0] or inputs.shape[1] < tokens[1]:
        raise ConfigError(f"{layer} sees {list(inputs.shape)}, not a state for each of {list(tokens)} tokens")
    return inputs, output
