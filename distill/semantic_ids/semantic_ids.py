"""Semantic IDs (SIDs): every item gets a unique row of `levels` codes, from codebooks that are frozen after fitting.

On the path of the data: item sources (text, collaborative, image vectors) in; SID rows and codebooks out. The trie is
built from the rows, the student learns to generate them, and a new item gets its row from the same codebooks, without
training (`SemanticIds.assign`).

Promises: rows are unique; the same vectors, settings and seed give the same rows; `sid_space` is the hash of the frozen
codebooks, by which models and tries of other codebooks are refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pocketrec.distill.config import SidConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.semantic_ids.codebooks import Codebooks, fit_residual_kmeans
from pocketrec.distill.semantic_ids.fusion import ItemSpace, Sources
from pocketrec.distill.semantic_ids.placement import place
from pocketrec.distill.semantic_ids.quality import SidQuality, measure_quality
from pocketrec.runtime.errors import BundleError, ConfigError, TrainingError


@dataclass(frozen=True)
class SemanticIds:
    """The SIDs of a catalogue, and everything that a new item's SID depends on.

    rows: uint8 or uint16 [n_items, levels], in catalogue order.
    """

    rows: NDArray[np.unsignedinteger]
    codebooks: Codebooks
    space: ItemSpace
    quality: SidQuality

    @property
    def codes(self) -> int:
        """Codes per level, K."""
        return int(self.codebooks.centroids.shape[1])

    @property
    def sid_space(self) -> str:
        """Hash of the frozen codebooks, 32 hexadecimal digits."""
        return hashlib.sha256(frozen_bytes(self.codebooks, self.space)).hexdigest()[:32]

    def assign(self, sources: Sources) -> NDArray[np.unsignedinteger]:
        """Return SIDs for new items that the catalogue's items do not use, [n_new, levels].

        A new item without a collaborative vector gets the one that its text predicts, by a ridge regression that is
        frozen with the codebooks.

        :raises TrainingError: if no SID near a new item is free.
        """
        return self.assign_beside(self.rows, sources)[0]

    def assign_beside(
        self, taken: NDArray[np.unsignedinteger], sources: Sources
    ) -> tuple[NDArray[np.unsignedinteger], int]:
        """As `assign`, with other rows in use; also return how many items did not get their nearest codes.

        :param taken: rows that are in use, [m, levels].
        """
        latent = self.codebooks.latent(self.space.fuse(sources))
        return place(latent, self.codebooks.centroids, taken=taken)

    def save(self, folder: Path) -> None:
        """Write `codebooks.safetensors` (its sha256 begins with `sid_space`) and `sids.npy`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "codebooks.safetensors").write_bytes(frozen_bytes(self.codebooks, self.space))
        np.save(folder / "sids.npy", self.rows)
        self.quality.save(folder / "quality.json")

    @staticmethod
    def load(folder: Path) -> SemanticIds:
        """Read the files that `save` wrote.

        :raises BundleError: if a file is missing or damaged.
        """
        try:
            arrays = load((folder / "codebooks.safetensors").read_bytes())
            rows = np.load(folder / "sids.npy", allow_pickle=False)
            quality = SidQuality.load(folder / "quality.json")
            depth = sum(name.startswith("encoder.weight.") for name in arrays)
            encoder = tuple((arrays[f"encoder.weight.{i}"], arrays[f"encoder.bias.{i}"]) for i in range(depth))
            codebooks, space = Codebooks(arrays["centroids"], encoder), ItemSpace.from_arrays(arrays)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise BundleError(
                f"the semantic IDs in {folder} cannot be read ({error}); run the sids stage again"
            ) from error
        return SemanticIds(rows, codebooks, space, quality)


def frozen_bytes(codebooks: Codebooks, space: ItemSpace) -> bytes:
    """Return everything that a new item's SID depends on, as the bytes of a safetensors file."""
    arrays = {"centroids": codebooks.centroids, **space.to_arrays()}
    for number, (weight, bias) in enumerate(codebooks.encoder):
        arrays[f"encoder.weight.{number}"] = weight
        arrays[f"encoder.bias.{number}"] = bias
    return save({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())})


def build_semantic_ids(sources: Sources, config: SidConfig, progress: Progress = SILENT) -> SemanticIds:
    """Fit codebooks on a catalogue's item sources and give every item a unique SID.

    :param sources: text, collaborative and image vectors, one row per item; at least one of them.
    :param config: method, sizes, weights, seed.
    :param progress: told about every level (or epoch, for RQ-VAE).
    :raises ConfigError: if the SID space is smaller than the catalogue, or there is no source.
    :raises TrainingError: if a codebook has collapsed, or an item cannot get a unique SID.
    """
    space = ItemSpace.fit(sources, config)
    vectors = space.fuse(sources)
    if len(vectors) > config.codes**config.levels:
        raise ConfigError(
            f"{config.levels} levels of {config.codes} codes give IDs to at most {config.codes**config.levels} items, "
            f"but the catalogue has {len(vectors)}; raise sid.levels or sid.codes"
        )
    if config.method == "rqvae":
        from pocketrec.distill.semantic_ids.rqvae import fit_rqvae

        codebooks = fit_rqvae(vectors, config, progress)
    else:
        codebooks = fit_residual_kmeans(vectors, config, progress)
    latent = codebooks.latent(vectors)
    rows, moved = place(latent, codebooks.centroids)
    quality = measure_quality(latent, codebooks.centroids, rows, moved, seed=config.seed)
    worst = min(quality.use)
    if worst < config.min_use:
        raise TrainingError(
            f"codebook {quality.use.index(worst)} has collapsed: items use {worst:.0%} of its codes, fewer than "
            f"sid.min_use = {config.min_use:.0%}; check the item texts for near-duplicates, or lower sid.codes"
        )
    return SemanticIds(rows, codebooks, space, quality)
