"""Quality of semantic IDs, measured before anything is trained on them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.semantic_ids.text_vectors import normalise

NEIGHBOURS = 10
SAMPLE = 2_000


@dataclass(frozen=True)
class SidQuality:
    """The quality report.

    use: share of each codebook's codes that at least one item has. entropy_bits: entropy of each level's codes, at most
    log2 K. counts: items per code, in descending order, per level. moved: items that did not get their nearest codes,
    because SIDs are unique. neighbour_agreement: share of an item's 10 nearest neighbours that remain among its 10
    nearest when every item is replaced by the sum of its codes' centroids.
    """

    items: int
    codes: int
    use: list[float]
    entropy_bits: list[float]
    counts: list[list[int]]
    moved: int
    neighbour_agreement: float

    @property
    def moved_share(self) -> float:
        """Share of the catalogue that did not get its nearest codes."""
        return self.moved / max(1, self.items)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> SidQuality:
        """Read what `save` wrote."""
        return SidQuality(**json.loads(path.read_text(encoding="utf-8")))


def measure_quality(
    latent: NDArray[np.float32],
    centroids: NDArray[np.float32],
    rows: NDArray[np.unsignedinteger],
    moved: int,
    seed: int = 0,
) -> SidQuality:
    """Measure SIDs against the vectors that they quantise.

    :param latent: float32 [n, d], the quantised vectors.
    :param centroids: float32 [levels, codes, d].
    :param rows: SIDs, [n, levels].
    :param moved: number of items that did not get their nearest codes.
    :param seed: seed of the sample of items whose neighbours are compared.
    """
    codes = centroids.shape[1]
    counts = [np.bincount(rows[:, level], minlength=codes) for level in range(rows.shape[1])]
    rebuilt = np.zeros_like(latent)
    for level in range(rows.shape[1]):
        rebuilt += centroids[level][rows[:, level]]
    return SidQuality(
        items=len(rows),
        codes=int(codes),
        use=[float((c > 0).sum() / min(codes, len(rows))) for c in counts],
        entropy_bits=[_entropy(c) for c in counts],
        counts=[np.sort(c)[::-1].tolist() for c in counts],
        moved=moved,
        neighbour_agreement=_agreement(latent, rebuilt, seed),
    )


def _entropy(counts: NDArray[np.int64]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def _agreement(before: NDArray[np.float32], after: NDArray[np.float32], seed: int) -> float:
    k = min(NEIGHBOURS, len(before) - 1)
    sample = np.random.default_rng(seed).permutation(len(before))[:SAMPLE]
    if k < 1:
        return 1.0
    near = [_neighbours(normalise(vectors), sample, k) for vectors in (before, after)]
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(*near, strict=True)]))


def _neighbours(vectors: NDArray[np.float32], sample: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    out = []
    for begin in range(0, len(sample), 256):
        rows = sample[begin : begin + 256]
        similar = vectors[rows] @ vectors.T
        similar[np.arange(len(rows)), rows] = -np.inf
        out.append(np.argpartition(-similar, k - 1, axis=1)[:, :k])
    return np.concatenate(out)
