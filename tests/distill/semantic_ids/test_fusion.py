"""Fusion of item sources into one vector, and what stands in for an unseen item."""

from __future__ import annotations

import numpy as np

from pocketrec.distill.config import SidConfig
from pocketrec.distill.semantic_ids.fusion import ItemSpace, Sources


def clustered(n=120, dim=12, clusters=10, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(clusters, dim))
    return (centres[np.arange(n) % clusters] + 0.2 * generator.normal(size=(n, dim))).astype(np.float32)


def test_an_unseen_item_gets_the_vector_that_its_text_predicts():
    # Collaborative vectors are a linear function of text, so the prediction can be exact.
    text = clustered(200)
    config = SidConfig(codes=8, text_dim=12, collaborative_dim=12)
    collaborative = text.copy()
    space = ItemSpace.fit(Sources(text, collaborative), config)
    hidden = space.fuse(Sources(text, None))
    shown = space.fuse(Sources(text, collaborative))
    cosine = (hidden * shown).sum(1) / np.linalg.norm(hidden, axis=1) / np.linalg.norm(shown, axis=1)
    assert cosine.min() > 0.95


def test_a_log_without_any_training_event_predicts_collaborative_vectors_of_zero():
    text = clustered(30)
    config = SidConfig(codes=8, text_dim=6, collaborative_dim=4)
    space = ItemSpace.fit(Sources(text, np.zeros((30, 4), np.float32)), config)
    fused = space.fuse(Sources(text, None))
    assert fused.shape == (30, 10)
    assert (fused[:, 6:] == 0).all()
