"""SASRec with full softmax cross-entropy: a strong baseline, and a member of the teacher committee.

Kang & McAuley 2018 (self-attention over learned item and position embeddings, the item table tied to the output),
trained as Klenitskiy & Vasilev 2023 ("Turning dross into gold loss") found best: cross-entropy over all items at
every position.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pocketrec.distill.config import SasrecConfig
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.full_softmax import full_softmax_loss
from pocketrec.distill.models.item_model import ItemRanker


class SasrecBlock(nn.Module):
    """Self-attention and a point-wise feed-forward layer, each behind a layer norm (section 3.2)."""

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        self.heads, self.drop = config.heads, config.dropout
        self.attention_norm, self.forward_norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.forward_in, self.forward_out = (
            nn.Linear(config.dim, config.dim),
            nn.Linear(config.dim, config.dim),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, T, D] to [B, T, D]; `mask` is bool [B, 1, T, T], or None for a causal mask."""
        batch, length, dim = x.shape
        q, k, v = (
            t.view(batch, length, self.heads, -1).transpose(1, 2) for t in self.qkv(self.attention_norm(x)).chunk(3, -1)
        )
        drop = self.drop if self.training else 0.0
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop, is_causal=mask is None)
        x = x + self.dropout(self.out(a.transpose(1, 2).reshape(batch, length, dim)))
        hidden = self.dropout(F.relu(self.forward_in(self.forward_norm(x))))
        return x + self.dropout(self.forward_out(hidden))  # type: ignore[no-any-return]


class Sasrec(nn.Module):
    """The model; called with a `Batch` it returns the summed loss, as the trainer wants it."""

    def __init__(self, config: SasrecConfig, n_items: int, max_history: int) -> None:
        super().__init__()
        self.config, self.n_items, self.max_history = config, n_items, max_history
        self.items = nn.Embedding(n_items + 1, config.dim)  # the last row is the start token
        self.positions = nn.Embedding(max_history + 1, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(SasrecBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.bias = nn.Parameter(torch.zeros(n_items))
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)

    @torch.no_grad()
    def start_from(self, vectors: NDArray[np.float32]) -> None:
        """Initialise item embeddings with collaborative vectors, float32 [n_items, D], at half their length.

        From random embeddings many epochs go into learning co-occurrence; docs/benchmarks.md compares both.
        """
        self.items.weight[:-1] = 0.5 * torch.from_numpy(vectors)

    @torch.no_grad()
    def item_vectors(self, train: Sequences) -> NDArray[np.float32]:
        """Return the item embeddings at length 1, float32 [n_items, D]; rows of items without training events are 0."""
        vectors = F.normalize(self.items.weight[:-1], dim=1).cpu().numpy()
        known = np.bincount(train.events(), minlength=self.n_items) > 0
        return np.where(known[:, None], vectors, np.float32(0))

    def hidden(self, inputs: Tensor, is_start: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        """Return the hidden states [B, T, D] of catalogue rows [B, T]."""
        rows = torch.where(is_start, self.n_items, inputs)
        x = self.dropout(self.items(rows) + self.positions(position))
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)  # type: ignore[no-any-return]

    def scores(self, hidden: Tensor) -> Tensor:
        """Return logits over all items, [..., D] -> [..., n_items]."""
        return hidden @ self.items.weight[:-1].T + self.bias

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy over the batch's positions."""
        return full_softmax_loss(self._states(batch), self.items.weight[:-1], self.bias, batch.targets)

    def item_logits(self, batch: Batch) -> Tensor:
        """Return logits over all items at the batch's positions, [n, n_items]; the batch may be on any device."""
        return self.scores(self._states(batch.to(self.bias.device)))

    def _states(self, batch: Batch) -> Tensor:
        """Return the hidden states at the loss positions of a batch, [n, D]."""
        hidden = self.hidden(batch.inputs, batch.is_start, batch.position, batch.mask)
        return hidden.flatten(0, 1)[batch.loss_at]


class SasrecRanker(ItemRanker):
    """Ranks the whole catalogue by the model's logits (a `Ranker` of `distill.evaluation`)."""

    def __init__(self, model: Sasrec) -> None:
        """Take a model; it is put in eval mode."""
        super().__init__(model.eval(), model.max_history)
