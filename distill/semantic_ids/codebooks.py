"""Codebooks, with which fused item vectors are quantised level by level; fitted by residual k-means, then frozen.

On the path of the data: fused item vectors in, `Codebooks` out, which placement turns into semantic IDs. The RQ-VAE
(`distill.semantic_ids.rqvae`) is the other way to fit them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.config import SidConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.semantic_ids.placement import nearest_codes
from pocketrec.runtime.errors import TrainingError

FIT_SAMPLE = 200_000  # items that codebooks are fitted on, at most; the others are only assigned

EncoderLayers = tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]  # (weight [d_in, d_out], bias [d_out]) each


@dataclass(frozen=True)
class Codebooks:
    """A frozen residual quantiser.

    centroids: float32 [levels, codes, d]. encoder: weights and biases of linear layers, with ReLU between them, that a
    vector passes before it is quantised; empty for residual k-means, the encoder of an RQ-VAE otherwise.
    """

    centroids: NDArray[np.float32]
    encoder: EncoderLayers = ()

    def latent(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map fused item vectors [n, d_in] to the space of the centroids, float32 [n, d]."""
        for number, (weight, bias) in enumerate(self.encoder):
            vectors = vectors @ weight + bias
            if number + 1 < len(self.encoder):
                vectors = np.maximum(vectors, 0.0)
        return vectors


def fit_residual_kmeans(vectors: NDArray[np.float32], config: SidConfig, progress: Progress = SILENT) -> Codebooks:
    """Fit one k-means per level, each to the residuals that the levels before it leave.

    Residual quantisation as in Lee et al. 2022 (RQ-VAE, section 3.1) with k-means in place of the autoencoder; used for
    recommendation by Deng et al. 2025 (OneRec, section 3.1).

    :param vectors: float32 [n, d].
    :returns: centroids, float32 [levels, min(codes, n), d].
    :raises TrainingError: if there are fewer than two items.
    """
    from sklearn.cluster import KMeans

    if len(vectors) < 2:
        raise TrainingError(f"semantic IDs need at least 2 items, the catalogue has {len(vectors)}")
    generator = np.random.default_rng(config.seed)
    residual = vectors
    if len(vectors) > FIT_SAMPLE:
        residual = vectors[generator.choice(len(vectors), FIT_SAMPLE, replace=False)]
    codes = min(config.codes, len(residual))
    levels = []
    with progress.track("residual k-means", config.levels) as advance:
        for level in range(config.levels):
            fitted = KMeans(codes, n_init=1, max_iter=100, random_state=config.seed + level).fit(residual)
            centroids = np.asarray(fitted.cluster_centers_, np.float32)
            residual = residual - centroids[nearest_codes(residual, centroids)]
            levels.append(centroids)
            advance()
    return Codebooks(np.stack(levels))
