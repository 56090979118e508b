"""Collaborative vectors: items taken together are near, unseen ones are zero."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.semantic_ids.collaborative import collaborative_vectors, cooccurrence

lists = st.lists(st.lists(st.integers(0, 7), max_size=8), min_size=1, max_size=8)


@settings(max_examples=50)
@given(lists, st.integers(1, 4))
def test_cooccurrence_counts_pairs_within_the_window_weighted_by_distance(histories, window):
    expected = np.zeros((8, 8))
    for history in histories:
        for i, left in enumerate(history):
            for j in range(i + 1, min(i + window, len(history) - 1) + 1):
                if left != history[j]:
                    expected[left, history[j]] += 1 / (j - i)
                    expected[history[j], left] += 1 / (j - i)
    counts = cooccurrence(Sequences.from_lists(histories), 8, window)
    np.testing.assert_allclose(counts.toarray(), expected)


def test_items_taken_together_are_near_and_unseen_ones_are_zero():
    histories = [[0, 1, 2, 0, 1], [2, 1, 0]] * 20 + [[3, 4, 5, 3], [5, 4, 3]] * 20 + [[2, 3]]
    vectors = collaborative_vectors(Sequences.from_lists(histories), 8, dim=4)
    assert vectors.shape == (8, 4)
    assert (vectors[6:] == 0).all()
    similar = vectors @ vectors.T
    together, apart = similar[:3, :3].mean(), similar[:3, 3:6].mean()
    assert together > apart + 0.3


@pytest.mark.parametrize("histories", [[[]], [[3]], [[2, 2, 2]]])
def test_a_log_without_pairs_gives_zeros(histories):
    assert (collaborative_vectors(Sequences.from_lists(histories), 5, dim=3) == 0).all()
