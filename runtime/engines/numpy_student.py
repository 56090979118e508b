"""Our student in numpy, from the bundle's weight file: slow, simple, and the oracle for every other engine.

Weight names and shapes are those of `export/weights.py`. Shapes in comments: T tokens, D width, L levels, M decoder
width, K codes, R pairs, B sequences, W beams.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.manifest import ModelSpec
from pocketrec.runtime.catalogue.beam import LevelScorer
from pocketrec.runtime.engines.numpy_blocks import Array, Weights, hidden_state, log_softmax, silu
from pocketrec.runtime.engines.numpy_search import NumpySearch


class NumpyStudent:
    """The student's encoder and SID decoder as plain functions of arrays."""

    def __init__(self, spec: ModelSpec, weights: Weights) -> None:
        """Take a model's shape and its tensors."""
        self.spec, self.w = spec, weights
        self._pair_rows = np.zeros(spec.codes**2 if spec.pair_dim else 0, np.int64)  # 0: none
        if spec.pair_dim:
            keys = weights["pair.keys"]
            self._pair_rows[keys] = np.arange(1, len(keys) + 1)

    def encode(self, history: NDArray[np.int32]) -> Array:
        """Hidden state after a history: int32 [N, L] -> float32 [1, D]."""
        return hidden_state(self.spec, self.w, self.tokens(history)[None])

    def tokens(self, history: NDArray[np.int32]) -> Array:
        """Embeddings that the blocks read, the start token first: int32 [N, L] -> float32 [1 + N, D]."""
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

    def score_level(self, level: int, hidden: Array, prefixes: NDArray[np.int64]) -> Array:
        """Log-probabilities of a level's codes: hidden [B, D], prefixes [B, W, level] -> float32 [B, W, K]."""
        width = self.spec.decoder_dim
        of_level = slice(level * width, (level + 1) * width)
        z = hidden @ self.w["decoder.hidden"][:, of_level] + self.w["decoder.bias"][of_level]  # [B, M]
        z = np.broadcast_to(z[:, None], (*prefixes.shape[:2], width))
        if level > 0:
            z = z + self._embed(prefixes, level) @ self.w[f"decoder.{level}.prefix"]
        logits = silu(z) @ self.w[f"decoder.{level}.out"] + self.w[f"decoder.{level}.out_bias"]
        if level == 1 and self.spec.pair_dim:
            scores = hidden @ self.w["pair.query"] @ self.w["pair.table"].T  # [B, 1 + R]
            rows = self._pair_rows.reshape(self.spec.codes, -1)[prefixes[..., 0]]  # [B, W, K]
            logits = logits + np.take_along_axis(scores[:, None], rows.astype(np.int64), axis=2)
        return log_softmax(logits)


class NumpyStudentEngine(NumpySearch):
    """Searches with `NumpyStudent` and the numpy beam search."""

    name = "reference"

    def __init__(self, spec: ModelSpec, weights: Weights) -> None:
        """Take a model's shape and its tensors."""
        self.model = NumpyStudent(spec, weights)

    def hidden_of(self, history: NDArray[np.int32]) -> NDArray[np.float32]:
        """Hidden state after a history: int32 [N, L] -> float32 [1, D]."""
        return self.model.encode(history)

    def scorer(self, history: NDArray[np.int32]) -> LevelScorer:
        """The SID decoder; the history is in the hidden state."""
        return self.model.score_level

    def close(self) -> None:
        """Drop the weights."""
        self.model.w = {}
