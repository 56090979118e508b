"""A converted Llama in numpy, from the bundle's weight file: slow, plain, and the oracle for its graphs.

Every beam's whole sequence is read anew at every level: no cache, nothing to get wrong. Weight names and shapes are
those of `export/llama/weights.py`. Shapes in comments: W sequences, T tokens, D width, H heads, G key-value heads, d
head width, V vocabulary, L levels, K codes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import Bundle, ModelSpec
from pocketrec.runtime.bundle.weights import read_weights
from pocketrec.runtime.catalogue.beam import LevelScorer
from pocketrec.runtime.engines.numpy_search import NumpySearch
from pocketrec.runtime.engines.numpy_student import WEIGHTS, Array, _log_softmax, _norm, _silu


class ReferenceTokensModel:
    """The Llama as a plain function of arrays."""

    def __init__(self, spec: ModelSpec, weights: dict[str, Array]) -> None:
        """Take a model's shape and its tensors."""
        self.spec, self.w = spec, weights

    def places(self, history: NDArray[np.int32]) -> NDArray[np.int64]:
        """Places in `tokens` of what is read before the next item: int32 [N, L] -> int64 [T]."""
        spec = self.spec
        before = np.arange(spec.prompt or int(len(history) == 0)) + spec.levels * spec.codes
        items = history.astype(np.int64) + np.arange(spec.levels) * spec.codes
        return np.concatenate((before, items.reshape(-1)))

    def log_probs(self, places: NDArray[np.int64]) -> Array:
        """Log-probabilities of all tokens after each sequence: int64 [W, T] -> float32 [W, V]."""
        spec, w = self.spec, self.w
        x = w["embed"][places] if "embed" in w else w["head"][w["tokens"][places]]  # [W, T, D]
        for layer in range(spec.layers):
            x = x + self._attend(layer, _norm(x, spec.norm_eps))
            normal = _norm(x, spec.norm_eps)
            gated = _silu(self._linear(layer, "gate", normal)) * self._linear(layer, "up", normal)
            x = x + self._linear(layer, "down", gated)
        return _log_softmax(_norm(x[:, -1], spec.norm_eps) * w["norm"] @ w["head"].T)

    def _linear(self, layer: int, name: str, x: Array) -> Array:
        y = x @ self.w[f"layers.{layer}.{name}"]
        return np.asarray(y + self.w.get(f"layers.{layer}.{name}_bias", np.float32(0)), np.float32)

    def _attend(self, layer: int, x: Array) -> Array:
        spec, (count, tokens) = self.spec, x.shape[:2]
        qkv = self._linear(layer, "qkv", x).reshape(count, tokens, -1, spec.head_dim)
        q, k, v = np.split(qkv, [spec.heads, spec.heads + spec.kv_heads], axis=2)  # q holds the scale of attention
        k, v = (np.repeat(t, spec.heads // spec.kv_heads, axis=2) for t in (k, v))  # [W, T, H, d]
        scores = np.einsum("wthd,wshd->whts", self._rotate(q), self._rotate(k))
        scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
        mixed = np.einsum("whts,wshd->wthd", np.exp(_log_softmax(scores)), v)
        return self._linear(layer, "o", mixed.reshape(count, tokens, -1))

    def _rotate(self, x: Array) -> Array:
        cos, sin = (self.w[name][: x.shape[1], None] for name in ("rope.cos", "rope.sin"))
        first, second = np.split(x, 2, axis=-1)
        return np.asarray(x * cos + np.concatenate((-second, first), -1) * sin, np.float32)


class ReferenceTokensEngine(NumpySearch):
    """Searches with `ReferenceTokensModel` and `runtime.beam`."""

    name = "reference"

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """Read the weights; `threads` is there for the protocol, numpy decides for itself."""
        self.model = ReferenceTokensModel(
            bundle.manifest.model, read_weights(bundle.file(WEIGHTS), bundle.manifest.model)
        )

    def hidden_of(self, history: NDArray[np.int32]) -> NDArray[np.float32]:
        """Nothing, float32 [1, 1]: the scorer reads whole sequences."""
        return np.zeros((1, 1), np.float32)

    def scorer(self, history: NDArray[np.int32]) -> LevelScorer:
        """Probabilities of a level's tokens, each beam's whole sequence read anew."""
        spec, read = self.model.spec, self.model.places(history)

        def score(level: int, _: Array, prefixes: NDArray[np.int64]) -> Array:
            codes = prefixes[0] + np.arange(level) * spec.codes  # [W, level]
            sequences = np.concatenate((np.broadcast_to(read, (len(codes), len(read))), codes), axis=1)
            of_level = self.model.w["tokens"][level * spec.codes : (level + 1) * spec.codes]
            return self.model.log_probs(sequences)[None][..., of_level]  # [1, W, K]

        return score

    def close(self) -> None:
        """Drop the weights."""
        self.model.w = {}
