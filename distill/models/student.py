"""The student: a few Llama blocks over item tokens, and a decoder that generates semantic IDs code by code.

    P(item | history) = Π_l P(c_l | h, c_<l),   h = backbone([start, item_1, ..., item_N]) at the last position

There is one token per item, not one per code. An item's token is the sum of its code embeddings and the embedding of
its first two codes (`distill.models.pair_table`), so an item that was never seen in training has a token, too, and
sequences are `levels` times shorter than with one token per code (TIGER, Rajput et al. 2023).
The blocks are stock Llama (RMSNorm, RoPE, SwiGLU, optional grouped queries; Touvron et al. 2023, section 2.2), so
that the same weights load in transformers and can be written as GGUF `llama`.

Shapes in comments: B sequences, T tokens, D width, H heads, G key-value heads, d head width, L levels, K codes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.models.pair_table import PairTable
from pocketrec.runtime.errors import ConfigError

NORM_EPS = 1e-5


def rope_tables(length: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of rotary positions, each [length, head_dim] (RoFormer, Su et al. 2021, eq. 34)."""
    frequency = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos().float(), angle.sin().float()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to [..., T, d], in the half-split layout of transformers' Llama."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped key-value heads."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.head_dim = config.head_width
        self.dropout = config.dropout
        self.q_proj = nn.Linear(config.dim, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.dim, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.dim, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, config.dim, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """Attend; `mask` is bool [B, 1, T, T] (True: may attend), or None for a causal mask."""
        batch, length, _ = x.shape
        q, k, v = (
            proj(x).view(batch, length, -1, self.head_dim).transpose(1, 2)  # [B, H or G, T, d]
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        drop = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop, is_causal=mask is None)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.dim, config.ffn, bias=False)
        self.up_proj = nn.Linear(config.dim, config.ffn, bias=False)
        self.down_proj = nn.Linear(config.ffn, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One Llama layer: attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.dim, eps=NORM_EPS)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.dim, eps=NORM_EPS)
        self.mlp = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), rope, mask))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))  # type: ignore[no-any-return]


class BlockStack(nn.Module):
    """The blocks, from item tokens to hidden states. Parameters are named as in transformers' `LlamaModel`.

    With `config.share_layers` there is one block, used `config.layers` times (ALBERT, Lan et al. 2020, section 3.1).
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.depth = config.layers
        self.norm = nn.RMSNorm(config.dim, eps=NORM_EPS)
        self.head_dim = config.head_width
        self.theta = config.rope_theta

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map item tokens [B, T, D] to hidden states [B, T, D]."""
        return self.norm(self.outputs(x, mask)[-1])  # type: ignore[no-any-return]

    def states(self, x: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Return states after every layer, each [B, T, D], normalised by the last norm as the decoder reads them."""
        return [self.norm(state) for state in self.outputs(x, mask)]

    def outputs(self, x: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return the raw states after every layer, each [B, T, D], before the norm."""
        cos, sin = rope_tables(x.shape[1], self.head_dim, self.theta)
        rope = cos.to(x), sin.to(x)
        out = []
        for number in range(self.depth):
            x = self.layers[number % len(self.layers)](x, rope, mask)
            out.append(x)
        return out


class SidDecoder(nn.Module):
    """One hidden layer per level over h and the prefix's embedding, then K logits.

    The hidden layer has separate matrices for h and for the prefix, so that the product with h is computed once for all
    prefixes of a beam.
    """

    def __init__(self, config: StudentConfig, levels: int, codes: int) -> None:
        super().__init__()
        self.from_hidden = nn.ModuleList(nn.Linear(config.dim, config.decoder_dim) for _ in range(levels))
        self.from_prefix = nn.ModuleList(
            nn.Linear(config.dim, config.decoder_dim, bias=False) for _ in range(levels - 1)
        )
        self.out = nn.ModuleList(nn.Linear(config.decoder_dim, codes) for _ in range(levels))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, level: int, hidden: Tensor, prefix: Tensor | None) -> Tensor:
        """Return logits [..., K] of a level from hidden [..., D] and the prefix's embedding [..., D]."""
        z = self.from_hidden[level](hidden)
        if level > 0:
            z = z + self.from_prefix[level - 1](prefix)
        return self.out[level](self.dropout(F.silu(z)))  # type: ignore[no-any-return]


class Student(nn.Module):
    """The whole model: code embeddings, pair table, blocks, SID decoder."""

    def __init__(self, config: StudentConfig, levels: int, codes: int, sids: NDArray[np.integer] | None = None) -> None:
        """Build with random weights.

        :param sids: [n_items, L], the catalogue's semantic IDs, for the pair table; None: no pair table.
        :raises ConfigError: if `dim` is not a multiple of the heads, or there are too many codes for a pair table.
        """
        super().__init__()
        divides = bool(config.head_dim) or config.dim % config.heads == 0
        if not divides or config.head_width % 2 or config.heads % config.kv_heads:
            raise ConfigError(
                f"student.dim {config.dim} must be an even multiple of student.heads {config.heads}, or "
                f"student.head_dim {config.head_dim} an even width, and heads a multiple of "
                f"student.kv_heads {config.kv_heads}"
            )
        self.config, self.levels, self.codes = config, levels, codes
        self.start = nn.Parameter(torch.zeros(config.dim))
        self.embed = nn.ModuleList(nn.Embedding(codes, config.dim) for _ in range(levels))
        self.dropout = nn.Dropout(config.dropout)
        self.backbone = BlockStack(config)
        self.decoder = SidDecoder(config, levels, codes)
        self.pairs = None
        if config.pair_dim and levels > 1 and sids is not None:
            self.pairs = PairTable(config.dim, config.pair_dim, codes, sids, config.dropout)
        self.apply(_initialise)
        if self.pairs is not None:
            self.pairs.initialise()
        nn.init.normal_(self.start, std=0.02)

    @torch.no_grad()
    def start_from(self, centroids: NDArray[np.float32], seed: int = 0) -> None:
        """Initialise code embeddings with their centroids, so that similar items start with similar tokens.

        Where the widths differ, a random orthogonal projection cuts or pads, which keeps distances approximately.
        docs/decisions/0003-code-embeddings-start-as-centroids.md reports the gain.

        :param centroids: float32 [L, K, d], the frozen codebooks; with fewer than K codes the other embeddings stay
            random.
        """
        width, dim = centroids.shape[2], self.config.dim
        side = max(width, dim)
        generator = torch.Generator().manual_seed(seed)
        projection = torch.linalg.qr(torch.randn(side, side, generator=generator))[0][:width, :dim]
        for table, level in zip(self.embed, torch.from_numpy(centroids), strict=True):
            weight: Tensor = table.get_parameter("weight")
            weight[: len(level)] = level @ projection

    @torch.no_grad()
    def start_from_layers(self, layers: nn.ModuleList) -> None:
        """Initialise the blocks with a teacher's first layers (SLMRec, Xu et al. 2025, section 3.3).

        :param layers: Llama decoder layers of transformers, whose parameters have the same names.
        :raises ConfigError: if there are too few, or their widths differ from the student's.
        """
        if len(layers) < len(self.backbone.layers):
            raise ConfigError(
                f"student.layers is {len(self.backbone.layers)}, but the teacher has {len(layers)} layers; "
                "lower student.layers, or set distill.start = 'scratch'"
            )
        for mine, theirs in zip(self.backbone.layers, layers, strict=False):
            try:
                mine.load_state_dict(theirs.state_dict())
            except RuntimeError as error:
                raise ConfigError(
                    "distill.start = 'teacher' needs a student with the teacher's widths; change student.dim, heads, "
                    f"kv_heads and ffn, or set distill.start = 'scratch': {error}"
                ) from error

    def embed_items(self, sids: Tensor) -> Tensor:
        """Return the tokens of items: SIDs int [..., L] -> [..., D]."""
        return self.embed_prefix(sids, self.levels)

    def embed_prefix(self, sids: Tensor, level: int) -> Tensor:
        """Sum the embeddings of the first `level` ≥ 1 codes and of their pair: int [..., ≥ level] -> [..., D]."""
        codes = torch.stack([table(sids[..., i]) for i, table in zip(range(level), self.embed, strict=False)]).sum(0)
        return codes if self.pairs is None or level < 2 else codes + self.pairs.tokens(sids)

    def forward(self, sids: Tensor, is_start: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the hidden states of token rows.

        :param sids: int64 [B, T, L]; the codes are ignored where `is_start` is set.
        :param is_start: bool [B, T]; None: the first column is the start token.
        :param mask: bool [B, 1, T, T] for packed rows; None: a causal mask.
        :returns: [B, T, D].
        """
        return self.backbone(self._tokens(sids, is_start), mask)  # type: ignore[no-any-return]

    def states(self, sids: Tensor, is_start: Tensor | None = None, mask: Tensor | None = None) -> list[Tensor]:
        """Return hidden states after every layer, each [B, T, D]; arguments as in `forward`."""
        states: list[Tensor] = self.backbone.states(self._tokens(sids, is_start), mask)
        return states

    def stream(self, sids: Tensor, is_start: Tensor | None = None, mask: Tensor | None = None) -> list[Tensor]:
        """Return raw states before the first and after every layer, each [B, T, D]; arguments as in `forward`."""
        x = self._tokens(sids, is_start)
        states: list[Tensor] = [x, *self.backbone.outputs(x, mask)]
        return states

    def _tokens(self, sids: Tensor, is_start: Tensor | None) -> Tensor:
        if is_start is None:
            is_start = torch.zeros(sids.shape[:2], dtype=torch.bool, device=sids.device)
            is_start[:, 0] = True
        x = torch.where(is_start.unsqueeze(-1), self.start, self.embed_items(sids))
        return self.dropout(x)  # type: ignore[no-any-return]

    def code_logits(self, level: int, hidden: Tensor, sids: Tensor) -> Tensor:
        """Return the logits of a level's codes after prefixes: hidden [n, D], SIDs int [n, W, ≥ level] -> [n, W, K].

        The first level has no prefix; W is 1 there.
        """
        if level == 0:
            return self.decoder(0, hidden[:, None], None)  # type: ignore[no-any-return]
        logits: Tensor = self.decoder(level, hidden[:, None], self.embed_prefix(sids, level))
        return logits if self.pairs is None or level != 1 else logits + self.pairs.logits(hidden, sids[..., 0])

    def level_logits(self, hidden: Tensor, sids: Tensor) -> list[Tensor]:
        """Return the logits of every level after the true prefix: hidden [n, D], SIDs [n, L] -> L tensors [n, K]."""
        return [self.code_logits(level, hidden, sids[:, None])[:, 0] for level in range(self.levels)]

    @property
    def parameters_count(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters())


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
