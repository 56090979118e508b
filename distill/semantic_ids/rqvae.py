"""RQ-VAE: an autoencoder whose latent vector is quantised level by level; the alternative to residual k-means.

On the path of the data: fused item vectors in; frozen `Codebooks` out, with the encoder in front of the centroids.
Placement and all later steps treat them like those of residual k-means.

Lee et al. 2022 ("Autoregressive image generation using residual quantization", section 3.1) with one codebook per
level, trained on item vectors as by Rajput et al. 2023 (TIGER, section 3.1). Promises: the same vectors, settings and
seed give the same arrays; torch's global random state does not change.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketrec.distill.config import SidConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.semantic_ids.codebooks import FIT_SAMPLE, Codebooks, EncoderLayers, fit_residual_kmeans
from pocketrec.runtime.errors import TrainingError

HIDDEN = 256
LATENT = 32
BATCH = 1024
STEPS = 1000  # optimiser steps in all, whatever the catalogue's size
WARM_UP = 0.05  # share of the epochs in which the autoencoder is trained without quantisation
FIRST_PER_CODE = 4  # vectors per code that the initial centroids are fitted to
LEARNING_RATE = 3e-3
COMMITMENT = 0.25  # weight of the loss that pulls latent vectors towards their centroids
DECAY = 0.99  # of the running means that define the centroids


class ResidualQuantiser(nn.Module):
    """One codebook per level, each for the residuals that the levels before it leave.

    A centroid is the running mean of the residuals with its code (van den Oord et al. 2017, appendix A.1) and gets no
    gradient. Buffers: centroids [L, K, d] = sums [L, K, d] / mass [L, K]; taken [L, K], codes used since the last
    restart.
    """

    def __init__(self, centroids: Tensor) -> None:
        super().__init__()
        self.register_buffer("centroids", centroids.clone())
        self.register_buffer("mass", torch.ones(centroids.shape[:2]))
        self.register_buffer("sums", centroids.clone())
        self.register_buffer("taken", torch.zeros(centroids.shape[:2], dtype=torch.bool))
        self.centroids: Tensor
        self.mass: Tensor
        self.sums: Tensor
        self.taken: Tensor

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise [B, d]; in training mode, also update the centroids.

        :returns: the sum of each vector's centroids, [B, d], with the gradient of `latent` (straight-through), and the
            commitment loss: squared distance to the quantised vector after each level, summed over levels.
        """
        residual, commitment = latent.detach(), latent.new_zeros(())
        quantised = torch.zeros_like(residual)
        for level in range(len(self.centroids)):
            codes = self._nearest(level, residual)
            chosen = self.centroids[level][codes]
            if self.training:
                self._follow(level, residual, codes)
            quantised, residual = quantised + chosen, residual - chosen
            commitment = commitment + (latent - quantised).pow(2).sum(1).mean()
        return latent + (quantised - latent).detach(), commitment

    def _nearest(self, level: int, residual: Tensor) -> Tensor:
        codebook = self.centroids[level]
        return (codebook.pow(2).sum(1) - 2.0 * residual @ codebook.T).argmin(1)  # [B]

    @torch.no_grad()
    def _follow(self, level: int, residual: Tensor, codes: Tensor) -> None:
        count = codes.bincount(minlength=self.centroids.shape[1])
        self.mass[level].lerp_(count.to(residual), 1.0 - DECAY)
        self.sums[level].lerp_(torch.zeros_like(self.sums[level]).index_add_(0, codes, residual), 1.0 - DECAY)
        self.taken[level] |= count > 0
        alive = self.mass[level] > 1e-6  # a code that was not used for very long keeps its centroid
        self.centroids[level][alive] = self.sums[level][alive] / self.mass[level][alive, None]

    @torch.no_grad()
    def restart_dead(self, latent: Tensor, generator: torch.Generator) -> int:
        """Set the centroid of each code that was not used since the last call to the residual of a random vector.

        :param latent: [n, d], the vectors that are quantised.
        :returns: the number of such codes.
        """
        residual, restarted = latent, 0
        for level in range(len(self.centroids)):
            dead = (~self.taken[level]).nonzero()[:, 0]
            if len(dead):
                rows = torch.randint(len(latent), (len(dead),), generator=generator)
                self.centroids[level][dead] = self.sums[level][dead] = residual[rows]
                self.mass[level][dead] = 1.0
                restarted += len(dead)
            residual = residual - self.centroids[level][self._nearest(level, residual)]
        self.taken.zero_()
        return restarted


class RqVae(nn.Module):
    """Encoder, quantiser, decoder."""

    def __init__(self, dim: int) -> None:
        """Build encoder and decoder; until `quantiser` is set, latent vectors are not quantised."""
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, dim))
        self.quantiser: ResidualQuantiser | None = None

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction of vectors [B, dim] and the training loss (TIGER, section 3.1)."""
        latent = self.encoder(vectors)
        commitment = latent.new_zeros(())
        if self.quantiser is not None:
            latent, commitment = self.quantiser(latent)
        rebuilt = self.decoder(latent)
        return rebuilt, (rebuilt - vectors).pow(2).sum(1).mean() + COMMITMENT * commitment

    @torch.no_grad()
    def rescale(self, vectors: Tensor) -> None:
        """Scale latent vectors to the root-mean-square length of the input vectors.

        Codes and reconstructions stay the same. The student's code embeddings are initialised with the centroids, so
        their length should not depend on the training of this model.
        """
        latent = self.encoder(vectors)
        factor = (vectors.pow(2).sum() / latent.pow(2).sum().clamp(min=1e-12)).sqrt()
        for parameter in self.encoder[-1].parameters():
            parameter.mul_(factor)
        self.decoder[0].get_parameter("weight").div_(factor)
        if self.quantiser is not None:
            self.quantiser.centroids.mul_(factor)
            self.quantiser.sums.mul_(factor)

    def frozen(self) -> Codebooks:
        """Export the centroids and the encoder as numpy arrays."""
        if self.quantiser is None:
            raise TrainingError("this RQ-VAE has no codebooks; train it with train_rqvae first")
        linear = [layer for layer in self.encoder if isinstance(layer, nn.Linear)]
        encoder: EncoderLayers = tuple((_array(layer.weight.T), _array(layer.bias)) for layer in linear)
        return Codebooks(_array(self.quantiser.centroids), encoder)


def fit_rqvae(vectors: NDArray[np.float32], config: SidConfig, progress: Progress = SILENT) -> Codebooks:
    """Train an RQ-VAE and return its frozen codebooks.

    :param vectors: fused item vectors, float32 [n, d].
    :param config: levels, codes, seed.
    :param progress: told about every epoch.
    :returns: centroids, float32 [levels, min(codes, n), LATENT], and the encoder.
    :raises TrainingError: if there are fewer than two items, or the loss is not finite.
    """
    return train_rqvae(vectors, config, progress).frozen()


def train_rqvae(vectors: NDArray[np.float32], config: SidConfig, progress: Progress = SILENT) -> RqVae:
    """Train as `fit_rqvae` does and return the whole model, with its decoder.

    The autoencoder is first trained alone for a few epochs. Residual k-means on latent vectors then gives the initial
    centroids (TIGER initialises from the first batch), and everything is trained together.
    """
    sampled = vectors
    if len(vectors) > FIT_SAMPLE:
        sampled = vectors[np.random.default_rng(config.seed).choice(len(vectors), FIT_SAMPLE, replace=False)]
    data = torch.from_numpy(np.ascontiguousarray(sampled, np.float32))
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RqVae(data.shape[1])
    epochs = max(2, math.ceil(STEPS / math.ceil(len(data) / BATCH)))
    warm_up = max(1, round(WARM_UP * epochs))
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    with progress.track("RQ-VAE", epochs) as advance:
        for epoch in range(epochs):
            if epoch == warm_up:
                first = torch.randperm(len(data), generator=generator)[: FIRST_PER_CODE * config.codes]
                start = fit_residual_kmeans(_array(_encode(model, data[first])), config)
                model.quantiser = ResidualQuantiser(torch.from_numpy(start.centroids))
            loss = _epoch(model, data, optimiser, generator)
            dead = 0 if model.quantiser is None else model.quantiser.restart_dead(_encode(model, data), generator)
            advance(1, f"loss {loss:.3f}, {dead} codes restarted")
    model.rescale(data)
    return model.eval()


def _epoch(model: RqVae, data: Tensor, optimiser: torch.optim.Optimizer, generator: torch.Generator) -> float:
    """Train for one epoch, in random order; return the mean loss."""
    total = 0.0
    for rows in torch.split(torch.randperm(len(data), generator=generator), BATCH):
        _, loss = model(data[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += float(loss.detach()) * len(rows)
    mean = total / len(data)
    if not math.isfinite(mean):
        raise TrainingError("the RQ-VAE's loss is not finite; check the item vectors, or set sid.method = 'rkmeans'")
    return mean


@torch.no_grad()
def _encode(model: RqVae, data: Tensor) -> Tensor:
    return model.encoder(data)  # type: ignore[no-any-return]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)
