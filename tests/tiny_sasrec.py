"""A SASRec small enough that its losses can be written out, window by window."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from pocketrec.distill.config import SasrecConfig
from pocketrec.distill.models.sasrec import Sasrec

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
    """The windows of a history, written out: its items, and the first of them that is a target."""
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
