"""The quality report of semantic IDs."""

from __future__ import annotations

import numpy as np

from pocketrec.distill.semantic_ids.quality import measure_quality


def test_quality_counts_use_entropy_and_neighbours():
    centroids = np.zeros((1, 4, 1), np.float32)
    centroids[0, :, 0] = [0.0, 1.0, 2.0, 3.0]
    latent = np.array([[0.0], [1.0]], np.float32)
    quality = measure_quality(latent, centroids, np.array([[0], [1]], np.uint8), moved=1)
    assert quality.use == [1.0]  # two items can use two codes at most
    assert quality.entropy_bits == [1.0]
    assert quality.counts == [[1, 1, 0, 0]]
    assert quality.moved_share == 0.5
    assert quality.neighbour_agreement == 1.0
