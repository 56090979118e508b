"""A converted Llama in numpy, from the bundle's weight file: slow, simple, and the oracle for its graphs.

Every beam's whole sequence is read again at every level. Weight names and shapes are those of
`export/llama/weights.py`. Shapes in comments: W sequences, T tokens, D width, V vocabulary, L levels, K codes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.manifest import ModelSpec
from pocketrec.runtime.catalogue.beam import LevelScorer
from pocketrec.runtime.engines.numpy_blocks import Array, Weights, hidden_state, log_softmax
from pocketrec.runtime.engines.numpy_search import NumpySearch


class NumpyLlama:
    """The Llama as a plain function of arrays."""

    def __init__(self, spec: ModelSpec, weights: Weights) -> None:
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
        w = self.w
        x = w["embed"][places] if "embed" in w else w["head"][w["tokens"][places]]  # [W, T, D]
        return log_softmax(hidden_state(self.spec, w, x) @ w["head"].T)


class NumpyLlamaEngine(NumpySearch):
    """Searches with `NumpyLlama` and the numpy beam search."""

    name = "reference"

    def __init__(self, spec: ModelSpec, weights: Weights) -> None:
        """Take a model's shape and its tensors."""
        self.model = NumpyLlama(spec, weights)

    def hidden_of(self, history: NDArray[np.int32]) -> NDArray[np.float32]:
        """Nothing, float32 [1, 1]: the scorer reads whole sequences."""
        return np.zeros((1, 1), np.float32)

    def scorer(self, history: NDArray[np.int32]) -> LevelScorer:
        """Probabilities of a level's tokens, from each beam's whole sequence."""
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
