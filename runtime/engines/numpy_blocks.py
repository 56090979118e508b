"""Llama blocks in numpy, from the tensors of `export/blocks.py`: for our student and for converted models.

Slow and simple: no cache, nothing to get wrong. Shapes in comments: T tokens, D width, H heads, G key-value heads, d
head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import ModelSpec

Array = NDArray[np.float32]
Weights = Mapping[str, NDArray[Any]]


def hidden_state(spec: ModelSpec, w: Weights, x: Array) -> Array:
    """Run all blocks over whole sequences: embeddings [..., T, D] -> the newest token's hidden state [..., D]."""
    for layer in range(spec.layers):
        block = f"layers.{spec.block(layer)}"
        x = x + _attention(spec, w, block, _norm(x, spec.norm_eps))
        gate, up = np.split(_linear(w, f"{block}.gate_up", _norm(x, spec.norm_eps)), 2, axis=-1)
        x = x + _linear(w, f"{block}.down", silu(gate) * up)
    return np.asarray(_norm(x[..., -1, :], spec.norm_eps) * w["norm"], np.float32)


def silu(x: Array) -> Array:
    """Return x · sigmoid(x)."""
    return np.asarray(x / (1.0 + np.exp(-x)), np.float32)


def log_softmax(x: Array) -> Array:
    """Log-probabilities along the last axis."""
    shifted = x - x.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), np.float32)


def _attention(spec: ModelSpec, w: Weights, block: str, x: Array) -> Array:
    """Causal attention: [..., T, D] -> [..., T, D]."""
    tokens = x.shape[-2]
    qkv = _linear(w, f"{block}.qkv", x).reshape(*x.shape[:-1], -1, spec.head_dim)  # [..., T, H + 2·G, d]
    q, k, v = np.split(qkv, [spec.heads, spec.heads + spec.kv_heads], axis=-2)  # q is scaled
    k, v = (np.repeat(t, spec.heads // spec.kv_heads, axis=-2) for t in (k, v))  # [..., T, H, d]
    scores = np.einsum("...thd,...shd->...hts", _rotate(w, q), _rotate(w, k))
    scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
    mixed = np.einsum("...hts,...shd->...thd", np.exp(log_softmax(scores)), v)
    return _linear(w, f"{block}.o", mixed.reshape(*x.shape[:-1], -1))


def _rotate(w: Weights, x: Array) -> Array:
    """Rotary positions: [..., T, H, d] -> [..., T, H, d]."""
    cos, sin = (w[name][: x.shape[-3], None] for name in ("rope.cos", "rope.sin"))
    first, second = np.split(x, 2, axis=-1)
    return np.asarray(x * cos + np.concatenate((-second, first), -1) * sin, np.float32)


def _linear(w: Weights, name: str, x: Array) -> Array:
    """Multiply by a matrix, and add its bias if it has one."""
    return np.asarray(x @ w[name] + w.get(f"{name}_bias", np.float32(0)), np.float32)


def _norm(x: Array, eps: float) -> Array:
    """Root-mean-square normalisation without a weight (it is folded into the next matrix)."""
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps)), np.float32)
