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
    """Return the effort score of each history, the norm of its loss gradient ‖∇L_s‖₂ (DEALRec).

    :param effort: returns the gradient norm of each window of a batch, float [windows]; see `gradient_effort`. Windows
        of a history longer than `max_history` count as orthogonal: the score is the root of the sum of their squares.
    :param batch_size: windows per batch.
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

    DEALRec uses all learnable parameters; for a few linear layers, one backward pass serves a whole batch. A linear
    layer's gradient is a sum of outer products δ_t a_tᵀ, so its squared norm is Σ (δ_t·δ_u)(a_t·a_u) over the tokens of
    the window, and no gradient of a single window is needed (Goodfellow 2015; Li et al. 2022, "ghost clipping").

    :param model: called with a `Batch`, returns the summed loss; it is put in eval mode.
    :param layers: learnable layers of `model` with one input state per token of the packed batch, [B, T, D], or
        [B, P + T, D] with a prompt of P tokens in front, which are ignored.
    :raises ConfigError: if there are no layers; when the result is called: if a layer is frozen, is not used, or does
        not have one input state per token.
    """
    if not layers:
        raise ConfigError("the effort score needs at least one linear layer")
    device = layers[0].weight.device

    def effort(batch: Batch) -> Tensor:
        batch = batch.to(device)
        with torch.enable_grad(), _recording(layers) as calls:
            loss = model.eval()(batch)
            used_once = [_only_call(calls[layer], layer, batch.segment.shape) for layer in layers]
            deltas = torch.autograd.grad(loss, [output for _, output in used_once])
        used, length = batch.segment >= 0, batch.segment.shape[1]
        same = batch.segment.unsqueeze(2) == batch.segment.unsqueeze(1)
        squares = torch.zeros(int(batch.segment.max()) + 1, device=device)
        for layer, (inputs, _), gradients in zip(layers, used_once, deltas, strict=True):
            a, delta = inputs[:, -length:].float(), gradients[:, -length:].float()
            alike = a @ a.mT + (layer.bias is not None)  # a bias is a weight whose input is 1
            squares.index_add_(0, batch.segment[used], (delta @ delta.mT * alike * same).sum(2)[used])
        return squares.clamp(min=0).sqrt()

    return effort


@contextmanager
def _recording(layers: Sequence[nn.Linear]) -> Iterator[LayerCalls]:
    """Record input and output of every call of the layers."""
    calls: LayerCalls = defaultdict(list)

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls[layer].append((inputs[0].detach(), output))

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _only_call(calls: list[tuple[Tensor, Tensor]], layer: nn.Linear, tokens: torch.Size) -> tuple[Tensor, Tensor]:
    """Return input and output of a layer's only call.

    :raises ConfigError: if it was not called once, or gradient norms cannot be computed from this call.
    """
    if len(calls) != 1:
        raise ConfigError(f"{layer} is called {len(calls)} times per batch; choose a layer that is called once")
    inputs, output = calls[0]
    if not output.requires_grad or not layer.weight.requires_grad:
        raise ConfigError(f"{layer} is frozen; choose a layer that is trained")
    if inputs.ndim != 3 or inputs.shape[0] != tokens[0] or inputs.shape[1] < tokens[1]:
        raise ConfigError(f"{layer} has inputs {list(inputs.shape)}, not one state for each of {list(tokens)} tokens")
    return inputs, output
