"""Fusion of an item's sources into one vector, which is then quantised; frozen together with the codebooks.

Each source is centred, projected onto its principal directions, normalised and weighted; the results are concatenated.
An item without a collaborative vector (a new item, or one without training events) gets the vector that its text
predicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.config import SidConfig
from pocketrec.distill.semantic_ids.codebooks import FIT_SAMPLE
from pocketrec.distill.semantic_ids.text_vectors import normalise
from pocketrec.runtime.errors import ConfigError

RIDGE = 1.0  # L2 penalty of the regression from text to collaborative vectors


@dataclass(frozen=True)
class Sources:
    """Vectors of the same items, each float32 [n_items, d] or None.

    A collaborative row of zeros means that the item has no training events.
    """

    text: NDArray[np.float32] | None = None
    collaborative: NDArray[np.float32] | None = None
    image: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Projection:
    """The PCA and the weight of a source. mean: [d_in]; directions: [d_in, d_out]; weight: [1]; all float32."""

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    weight: NDArray[np.float32]

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Centre, project, normalise and weight: [n, d_in] -> float32 [n, d_out]."""
        projected = np.asarray((vectors - self.mean) @ self.directions, np.float32)
        return np.asarray(normalise(projected) * self.weight, np.float32)


@dataclass(frozen=True)
class ItemSpace:
    """The frozen fusion. `impute` [d_text, d_collaborative] predicts a collaborative vector from a text one."""

    projections: dict[str, Projection]
    impute: NDArray[np.float32] | None

    @property
    def length(self) -> float:
        """Length of a fused vector; the part of each source has the length of its weight."""
        return float(np.sqrt(sum(float(p.weight[0]) ** 2 for p in self.projections.values())))

    @staticmethod
    def fit(sources: Sources, config: SidConfig) -> ItemSpace:
        """Fit the projections and the regression from text to collaborative vectors.

        :raises ConfigError: if there is no source with a weight above 0.
        """
        wanted = {
            "text": (sources.text, config.text_dim, config.text_weight),
            "collaborative": (sources.collaborative, config.collaborative_dim, config.collaborative_weight),
            "image": (sources.image, config.image_dim, config.image_weight),
        }
        projections = {
            name: _fit_projection(vectors, dim, weight, config.seed)
            for name, (vectors, dim, weight) in wanted.items()
            if vectors is not None and weight > 0
        }
        if not projections:
            raise ConfigError(
                "semantic IDs need at least one item source; set text.encoder, or one of sid.text_weight, "
                "sid.collaborative_weight and sid.image_weight above 0"
            )
        impute = None
        if "text" in projections and "collaborative" in projections:
            impute = _fit_impute(sources, projections)
        return ItemSpace(projections, impute)

    def fuse(self, sources: Sources) -> NDArray[np.float32]:
        """Return the fused vectors, float32 [n_items, sum of projected lengths].

        :raises ConfigError: if a source that the space was fitted with is missing and cannot be predicted.
        """
        parts = []
        for name, projection in self.projections.items():
            vectors = getattr(sources, name)
            if name == "collaborative":
                parts.append(self._collaborative(sources, projection))
            elif vectors is None:
                raise ConfigError(
                    f"these codebooks were made with {name} vectors; pass {name} vectors of the new items, too"
                )
            else:
                parts.append(projection(vectors))
        return np.concatenate(parts, axis=1)

    def _collaborative(self, sources: Sources, projection: Projection) -> NDArray[np.float32]:
        given = sources.collaborative
        if self.impute is None:
            if given is None:
                raise ConfigError(
                    "these codebooks were made without text, which could predict collaborative vectors; "
                    "pass collaborative vectors of the new items"
                )
            return projection(given)
        if sources.text is None:
            raise ConfigError("these codebooks were made with text vectors; pass text vectors of the new items, too")
        predicted = normalise(self.projections["text"](sources.text) @ self.impute) * projection.weight
        if given is None:
            return np.asarray(predicted, np.float32)
        seen = (given != 0).any(1)[:, None]
        return np.asarray(np.where(seen, projection(given), predicted), np.float32)

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return everything as named arrays, to be stored as safetensors."""
        arrays = {} if self.impute is None else {"impute": self.impute}
        for name, p in self.projections.items():
            arrays |= {f"{name}.mean": p.mean, f"{name}.directions": p.directions, f"{name}.weight": p.weight}
        return arrays

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[np.float32]]) -> ItemSpace:
        """Rebuild from the result of `to_arrays`; the order of the sources is that of the fused vector."""
        projections = {
            name: Projection(*(arrays[f"{name}.{part}"] for part in ("mean", "directions", "weight")))
            for name in ("text", "collaborative", "image")
            if f"{name}.mean" in arrays
        }
        return ItemSpace(projections, arrays.get("impute"))


def _fit_projection(vectors: NDArray[np.float32], dim: int, weight: float, seed: int) -> Projection:
    """Fit a PCA on the rows that are not all zero, at most `FIT_SAMPLE`.

    Not scikit-learn's: the last digits differ, and k-means turns them into other semantic IDs (docs/decisions/0004).
    """
    known = vectors[(vectors != 0).any(1)]
    if len(known) > FIT_SAMPLE:
        known = known[np.random.default_rng(seed).choice(len(known), FIT_SAMPLE, replace=False)]
    mean = known.mean(0) if len(known) else np.zeros(vectors.shape[1], np.float32)
    centred = (known - mean).astype(np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    keep = directions[:, ::-1][:, :dim]
    # The sign of an eigenvector is arbitrary; with its largest entry positive the same data gives the same bytes.
    keep = keep * np.sign(keep[np.abs(keep).argmax(0), np.arange(keep.shape[1])])
    return Projection(mean.astype(np.float32), keep.astype(np.float32), np.array([weight], np.float32))


def _fit_impute(sources: Sources, projections: dict[str, Projection]) -> NDArray[np.float32]:
    """Fit the ridge regression from projected text to projected collaborative vectors, float32 [d_text, d_coll.]."""
    from sklearn.linear_model import Ridge

    if sources.text is None or sources.collaborative is None:
        raise ConfigError("the regression from text to collaborative vectors needs both")
    seen = (sources.collaborative != 0).any(1)
    text = projections["text"](sources.text[seen]).astype(np.float64)
    target = projections["collaborative"](sources.collaborative[seen]).astype(np.float64)
    if len(text) == 0:
        return np.zeros((text.shape[1], target.shape[1]), np.float32)
    fitted = Ridge(alpha=RIDGE, fit_intercept=False, solver="cholesky").fit(text, target)
    return np.asarray(fitted.coef_.T, np.float32, order="C")
