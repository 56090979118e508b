"""Semantic IDs: every item becomes `levels` codes, unique, from codebooks that stay frozen.

On the path of the data: item sources (text, collaborative, image vectors) come in; SID rows and codebooks go out.
The trie is built from the rows, the student learns to generate them, and a new item gets its row from the same
codebooks without training anything again (`SemanticIds.assign`).

Promises: rows are unique; the same vectors, settings and seed give the same rows; `sid_space` is the hash of the
frozen codebooks, and whatever was made for another hash must be refused.
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
    """SIDs of a catalogue and all that is needed to give one to a new item.

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
        """Give new items SIDs next to those already taken, [n_new, levels]; nobody else's SID changes.

        Where a new item has no collaborative vector, the one its text predicts is used (a ridge regression
        frozen with the codebooks).

        :raises TrainingError: if a neighbourhood of the SID space has no room left.
        """
        return self.assign_beside(self.rows, sources)[0]

    def assign_beside(
        self, taken: NDArray[np.unsignedinteger], sources: Sources
    ) -> tuple[NDArray[np.unsignedinteger], int]:
        """As `assign`, next to other rows than the catalogue's; also return how many did not get their nearest codes.

        :param taken: [m, levels], rows that must not be given.
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
        """Read what `save` wrote.

        :raises BundleError: if a file is missing or does not fit the others.
        """
        try:
            arrays = load((folder / "codebooks.safetensors").read_bytes())
            rows = np.load(folder / "sids.npy", allow_pickle=False)
            quality = SidQuality.load(folder / "quality.json")
        except (OSError, ValueError, SafetensorError) as error:
            raise BundleError(
                f"the semantic IDs in {folder} cannot be read ({error}); run the sids stage again"
            ) from error
        depth = sum(name.startswith("encoder.weight.") for name in arrays)
        encoder = tuple((arrays[f"encoder.weight.{i}"], arrays[f"encoder.bias.{i}"]) for i in range(depth))
        return SemanticIds(rows, Codebooks(arrays["centroids"], encoder), ItemSpace.from_arrays(arrays), quality)


def frozen_bytes(codebooks: Codebooks, space: ItemSpace) -> bytes:
    """Serialise everything that decides a new item's SID, as safetensors."""
    arrays = {"centroids": codebooks.centroids, **space.to_arrays()}
    for number, (weight, bias) in enumerate(codebooks.encoder):
        arrays[f"encoder.weight.{number}"] = weight
        arrays[f"encoder.bias.{number}"] = bias
    return save({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())})


def build_semantic_ids(sources: Sources, config: SidConfig, progress: Progress = SILENT) -> SemanticIds:
    """Fit codebooks on a catalogue's item sources and give every item a unique SID.

    :param sources: text, collaborative and image vectors, one row per item; any may be absent.
    :param config: method, sizes, weights, seed.
    :param progress: told about every level (or epoch, for RQ-VAE).
    :raises ConfigError: if the SID space is smaller than the catalogue.
    :raises TrainingError: if a codebook has collapsed, or uniqueness cannot be reached.
    """
    space = ItemSpace.fit(sources, config)
    vectors = space.fuse(sources)
    if len(vectors) > config.codes**config.levels:
        raise ConfigError(
            f"{config.levels} levels of {config.codes} codes name {config.codes**config.levels} items at most, the "
            f"catalogue has {len(vectors)}; raise sid.levels or sid.codes"
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
            f"codebook {quality.use.index(worst)} has collapsed: {worst:.0%} of its codes are used, "
            f"sid.min_use asks for {config.min_use:.0%}; check the item texts for near-duplicates, or lower sid.codes"
        )
    return SemanticIds(rows, codebooks, space, quality)
