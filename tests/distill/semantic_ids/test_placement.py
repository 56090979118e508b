"""Placement: unique rows, each item as near its centroids as uniqueness allows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.semantic_ids.placement import nearest_codes, place
from pocketrec.runtime.errors import TrainingError


def brute_force_cost(latent, centroids, prefix):
    """The least total distance of dealing distinct last codes to the items of one prefix."""
    residual = latent - centroids[0][prefix]
    cost = ((residual[:, None] - centroids[1][None]) ** 2).sum(-1)
    n = len(latent)
    return min(cost[np.arange(n), list(p)].sum() for p in itertools.permutations(range(len(centroids[1])), n))


def test_the_last_codes_of_a_prefix_are_dealt_out_at_the_least_total_distance():
    generator = np.random.default_rng(0)
    centroids = generator.normal(size=(2, 5, 3)).astype(np.float32)
    centroids[0, 1:] += 100.0  # everybody's first code is 0
    latent = generator.normal(size=(4, 3)).astype(np.float32)
    rows, _ = place(latent, centroids)
    assert (rows[:, 0] == 0).all()
    cost = ((latent - centroids[0][0] - centroids[1][rows[:, 1]]) ** 2).sum()
    assert cost == pytest.approx(brute_force_cost(latent, centroids, 0), rel=1e-5)


@settings(max_examples=30)
@given(st.integers(1, 27), st.integers(0, 1000))
def test_placement_is_unique_up_to_a_full_space(n, seed):
    generator = np.random.default_rng(seed)
    centroids = generator.normal(size=(3, 3, 2)).astype(np.float32)
    latent = generator.normal(size=(n, 2)).astype(np.float32)
    try:
        rows, moved = place(latent, centroids)
    except TrainingError:
        assert n > 9  # a crowd can fill all prefixes that differ in their last code alone
        return
    assert len(np.unique(rows, axis=0)) == n
    assert 0 <= moved <= n


def test_items_beyond_a_prefix_full_of_them_go_to_the_next_nearest():
    centroids = np.zeros((2, 2, 1), np.float32)
    centroids[0] = [[0.0], [10.0]]
    centroids[1] = [[-1.0], [1.0]]
    latent = np.array([[0.0], [0.1], [0.2]], np.float32)
    rows, moved = place(latent, centroids)
    assert sorted(rows[:, 0].tolist()) == [0, 0, 1]
    assert moved >= 1
    with pytest.raises(TrainingError, match=r"raise sid\.codes"):
        place(np.zeros((5, 1), np.float32), centroids)


def test_nearest_codes_agree_with_trying_all():
    generator = np.random.default_rng(0)
    vectors, centroids = generator.normal(size=(50, 3)), generator.normal(size=(7, 3))
    expected = ((vectors[:, None] - centroids[None]) ** 2).sum(-1).argmin(1)
    assert nearest_codes(vectors.astype(np.float32), centroids.astype(np.float32)).tolist() == expected.tolist()
