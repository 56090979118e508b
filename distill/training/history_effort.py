"""Effort of training histories: how large a gradient a history causes in a model (DEALRec, Lin et al. 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketrec.distill.data.batches import Batch, fixed_window_batches
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import ConfigError

Effort = Callable[[Batch], Tensor]  # batch → float [windows], by the numbers in `batch.segment`
LayerCalls = dict[nn.Module, list[tuple[Tensor, Tensor]]]  # (input, output) of every call of a layer


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
    batches = list(fixed_window_batches(train, max_history, batch_size))
    with progress.track("scoring the effort of histories", len(batches)) as advance:
        for batch, owner in batches:
            np.add.at(squares, owner, effort(batch).double().cpu().numpy() ** 2)
            advance(1)
    return np.where(train.lengths > 0, np.sqrt(squares), np.nan).astype(np.float32)


def gradient_effort(model: nn.Module, layers: Sequence[nn.Linear]) -> Effort:
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


@contextmanager
def _listening(layers: Sequence[nn.Linear]) -> Iterator[LayerCalls]:
    """Note input and output of every call of the layers."""
    heard: LayerCalls = defaultdict(list)

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
