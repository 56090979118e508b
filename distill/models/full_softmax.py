"""Cross-entropy over all items of a catalogue, without holding all logits at once.

The logits of a block of positions are computed, used for the loss and its gradients, and dropped. Memory is bounded by
`BLOCK` x n_items instead of positions x n_items, and loss and gradients share the processor's cache. The idea is from
Wijmans et al. 2025 ("Cut your losses in large-vocabulary language models", section 4).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 256  # positions


def full_softmax_loss(hidden: Tensor, items: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy of `softmax(hidden @ items.T + bias)`.

    :param hidden: float [n, D]. items: float [n_items, D]. bias: float [n_items]. targets: int64 [n].
    """
    return _FullSoftmax.apply(hidden, items, bias, targets)  # type: ignore[no-any-return]


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, items: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        hidden, items, bias = hidden.float(), items.float(), bias.float()
        total = hidden.new_zeros(())
        d_hidden, d_items, d_bias = torch.empty_like(hidden), torch.zeros_like(items), torch.zeros_like(bias)
        for begin in range(0, len(hidden), BLOCK):
            h, target = hidden[begin : begin + BLOCK], targets[begin : begin + BLOCK, None]
            logits = torch.addmm(bias, h, items.T)
            total += (logits.logsumexp(1) - logits.gather(1, target)[:, 0]).sum()
            # From here on `logits` holds its gradient: softmax minus the one-hot target.
            torch.softmax(logits, 1, out=logits)
            logits.scatter_add_(1, target, torch.full_like(target, -1, dtype=logits.dtype))
            d_hidden[begin : begin + BLOCK] = logits @ items
            d_items.addmm_(logits.T, h)
            d_bias += logits.sum(0)
        ctx.save_for_backward(d_hidden, d_items, d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        d_hidden, d_items, d_bias = ctx.saved_tensors
        (grad,) = grads
        return d_hidden * grad, d_items * grad, d_bias * grad, None
