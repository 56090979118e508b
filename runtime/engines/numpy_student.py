"""The model in numpy, from the bundle's weight file: slow, plain, and the oracle for every other engine.

Weight names and shapes are those of `export/weights.py`. Shapes in comments: T tokens, D width, H heads, G
key-value heads, d head width, M decoder width, K codes, R pairs, B sequences, W beams.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import Bundle, ModelSpec
from pocketrec.runtime.bundle.weights import read_weights
from pocketrec.runtime.catalogue.beam import LevelScorer
from pocketrec.runtime.engines.numpy_search import NumpySearch

WEIGHTS = "model.safetensors"
Array = NDArray[np.float32]


class ReferenceModel:
    """The encoder and the SID decoder as plain functions of arrays."""

    def __init__(self, spec: ModelSpec, weights: dict[str, Array]) -> None:
        """Take a model's shape and its tensors."""
        self.spec, self.w = spec, weights
        self._pair_rows = np.zeros(spec.codes**2 if spec.pair_dim else 0, np.int64)  # 0: none
        if spec.pair_dim:
            keys = weights["pair.keys"]
            self._pair_rows[keys] = np.arange(1, len(keys) + 1)

    def encode(self, history: NDArray[np.int32]) -> Array:
        """Hidden state after a history: int32 [N, L] -> float32 [1, D]."""
        spec, w = self.spec, self.w
        x = self.tokens(history)
        for layer in range(spec.layers):
            block = spec.block(layer)
            x = x + self._attend(block, _norm(x, spec.norm_eps))
            gate, up = np.split(_norm(x, spec.norm_eps) @ w[f"layers.{block}.gate_up"], 2, axis=-1)
            x = x + (_silu(gate) * up) @ w[f"layers.{block}.down"]
        return np.asarray(_norm(x[-1:], spec.norm_eps) * w["norm"], np.float32)

    def tokens(self, history: NDArray[np.int32]) -> Array:
        """What the backbone reads, the start token first: int32 [N, L] -> float32 [1 + N, D]."""
        return np.concatenate((self.w["start"], self._embed(history, self.spec.levels)))

    def _embed(self, sids: NDArray[np.integer], level: int) -> Array:
        """Sum of the embeddings of the first `level` codes, and of their pair: int [..., ≥ level] -> [..., D]."""
        spec, w = self.spec, self.w
        total = np.zeros((*sids.shape[:-1], spec.dim), np.float32)
        for i in range(level):
            total += w[f"embed.{i}"][sids[..., i]]
        if spec.pair_dim and level > 1:
            rows = self._pair_rows[sids[..., 0].astype(np.int64) * spec.codes + sids[..., 1]]
            total += w["pair.table"][rows] @ w["pair.into"]
        return total

    def _attend(self, block: int, x: Array) -> Array:
        spec, w, tokens = self.spec, self.w, len(x)
        q = (x @ w[f"layers.{block}.q"]).reshape(tokens, spec.heads, spec.head_dim)
        kv = (x @ w[f"layers.{block}.kv"]).reshape(tokens, 2, spec.kv_heads, spec.head_dim)
        k, v = (np.repeat(kv[:, i], spec.heads // spec.kv_heads, axis=1) for i in (0, 1))  # [T, H, d]
        q, k = self._rotate(q), self._rotate(k)
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(spec.head_dim)
        scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
        mixed = np.einsum("hts,shd->thd", np.exp(_log_softmax(scores)), v)
        return np.asarray(mixed.reshape(tokens, -1) @ w[f"layers.{block}.o"], np.float32)

    def _rotate(self, x: Array) -> Array:
        cos, sin = (self.w[name][: len(x), None] for name in ("rope.cos", "rope.sin"))
        first, second = np.split(x, 2, axis=-1)
        return np.asarray(x * cos + np.concatenate((-second, first), -1) * sin, np.float32)

    def score_level(self, level: int, hidden: Array, prefixes: NDArray[np.int64]) -> Array:
        """Log-probabilities of a level's codes: hidden [B, D], prefixes [B, W, level] -> float32 [B, W, K]."""
        width = self.spec.decoder_dim
        part = slice(level * width, (level + 1) * width)
        z = hidden @ self.w["decoder.hidden"][:, part] + self.w["decoder.bias"][part]  # [B, M]
        z = np.broadcast_to(z[:, None], (*prefixes.shape[:2], width))
        if level > 0:
            z = z + self._embed(prefixes, level) @ self.w[f"decoder.{level}.prefix"]
        logits = _silu(z) @ self.w[f"decoder.{level}.out"] + self.w[f"decoder.{level}.out_bias"]
        if level == 1 and self.spec.pair_dim:
            scores = hidden @ self.w["pair.query"] @ self.w["pair.table"].T  # [B, 1 + R]
            rows = self._pair_rows.reshape(self.spec.codes, -1)[prefixes[..., 0]]  # [B, W, K]
            logits = logits + np.take_along_axis(scores[:, None], rows.astype(np.int64), axis=2)
        return _log_softmax(logits)


class ReferenceEngine(NumpySearch):
    """Searches with `ReferenceModel` and `runtime.beam`."""

    name = "reference"

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """Read the weights; `threads` is there for the protocol, numpy decides for itself."""
        self.model = ReferenceModel(bundle.manifest.model, read_weights(bundle.file(WEIGHTS), bundle.manifest.model))

    def hidden_of(self, history: NDArray[np.int32]) -> NDArray[np.float32]:
        """Hidden state after a history: int32 [N, L] -> float32 [1, D]."""
        return self.model.encode(history)

    def scorer(self, history: NDArray[np.int32]) -> LevelScorer:
        """The SID decoder; the history is in h."""
        return self.model.score_level

    def close(self) -> None:
        """Drop the weights."""
        self.model.w = {}


def _norm(x: Array, eps: float) -> Array:
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps)), np.float32)


def _silu(x: Array) -> Array:
    return np.asarray(x / (1.0 + np.exp(-x)), np.float32)


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), np.float32)
