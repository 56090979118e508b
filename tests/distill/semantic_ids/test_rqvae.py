"""RQ-VAE: codebooks like those of residual k-means, behind an encoder that numpy runs as torch does."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pocketrec.distill.config import SidConfig
from pocketrec.distill.progress import Progress
from pocketrec.distill.semantic_ids import rqvae
from pocketrec.distill.semantic_ids.fusion import Sources
from pocketrec.distill.semantic_ids.placement import nearest_codes
from pocketrec.distill.semantic_ids.rqvae import ResidualQuantiser, fit_rqvae, train_rqvae
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds, build_semantic_ids
from pocketrec.runtime.errors import TrainingError

TINY = SidConfig(method="rqvae", codes=8, text_dim=6)


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rqvae, "STEPS", 60)
        yield


def clustered(n=120, dim=6, clusters=10, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(clusters, dim))
    return (centres[np.arange(n) % clusters] + 0.2 * generator.normal(size=(n, dim))).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return train_rqvae(clustered(), TINY)


def greedy_codes(latent, centroids):
    codes = []
    for codebook in centroids:
        codes.append(nearest_codes(latent, codebook))
        latent = latent - codebook[codes[-1]]
    return np.stack(codes, 1)


def test_the_numpy_encoder_gives_what_torch_gives(model):
    unseen = clustered(seed=3)
    with torch.no_grad():
        expected = model.encoder(torch.from_numpy(unseen)).numpy()
    np.testing.assert_allclose(model.frozen().latent(unseen), expected, atol=1e-5)


def test_vectors_rebuilt_from_codes_are_nearer_than_the_mean(model):
    vectors = torch.from_numpy(clustered())
    with torch.no_grad():
        rebuilt, _ = model(vectors)
    assert (rebuilt - vectors).pow(2).sum() < 0.3 * (vectors - vectors.mean(0)).pow(2).sum()


def test_every_code_of_every_level_is_taken(model):
    codebooks = model.frozen()
    codes = greedy_codes(codebooks.latent(clustered()), codebooks.centroids)
    assert codebooks.centroids.shape[:2] == (3, 8)
    assert [len(np.unique(level)) for level in codes.T] == [8, 8, 8]


def test_latents_are_as_long_as_the_vectors(model):
    vectors = clustered()
    latent = model.frozen().latent(vectors)
    assert (latent**2).sum() == pytest.approx((vectors**2).sum(), rel=1e-4)


def test_the_same_seed_gives_the_same_bytes_and_leaves_torch_its_random_state(model):
    before = torch.get_rng_state()
    first, again = model.frozen(), fit_rqvae(clustered(), TINY)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.centroids.tobytes() == again.centroids.tobytes()
    assert [w.tobytes() for w, _ in first.encoder] == [w.tobytes() for w, _ in again.encoder]
    other = fit_rqvae(clustered(), SidConfig(method="rqvae", codes=8, text_dim=6, seed=1))
    assert other.centroids.tobytes() != first.centroids.tobytes()


def test_semantic_ids_are_unique_and_come_back_with_their_encoder(tmp_path):
    ids = build_semantic_ids(Sources(text=clustered()), TINY)
    assert len(np.unique(ids.rows, axis=0)) == 120
    ids.save(tmp_path)
    back = SemanticIds.load(tmp_path)
    assert back.sid_space == ids.sid_space
    new = Sources(text=clustered(seed=5)[:20])
    assert np.array_equal(back.assign(new), ids.assign(new))
    assert len(np.unique(np.concatenate((ids.rows, ids.assign(new))), axis=0)) == 140


def test_one_batch_moves_a_centroid_towards_the_mean_of_what_took_its_code():
    quantiser = ResidualQuantiser(torch.tensor([[[0.0], [10.0]]]))
    quantiser(torch.tensor([[1.0], [3.0]]))
    # Running means from 1: the mass becomes .99 + .01 * 2, the sum .99 * 0 + .01 * (1 + 3).
    assert quantiser.centroids[0, 0].item() == pytest.approx(0.04 / 1.01, rel=1e-4)
    assert quantiser.centroids[0, 1].item() == pytest.approx(10.0)


def test_gradients_pass_straight_through_and_the_loss_counts_every_level():
    quantiser = ResidualQuantiser(torch.tensor([[[2.0], [9.0]], [[0.5], [-9.0]]])).eval()
    latent = torch.tensor([[3.0]], requires_grad=True)
    quantised, commitment = quantiser(latent)
    assert quantised.item() == 2.5
    assert commitment.item() == pytest.approx((3.0 - 2.0) ** 2 + (3.0 - 2.5) ** 2)
    quantised.sum().backward()
    assert latent.grad.item() == 1.0


def test_a_code_that_nothing_takes_starts_again_at_a_vector():
    quantiser = ResidualQuantiser(torch.tensor([[[0.0], [100.0]]]))
    latent = torch.tensor([[1.0], [-1.0]])
    quantiser(latent)
    assert quantiser.restart_dead(latent, torch.Generator().manual_seed(0)) == 1
    assert quantiser.centroids[0, 1].item() in (1.0, -1.0)


def test_progress_is_told_about_every_epoch():
    class Recorded(Progress):
        @contextmanager
        def track(self, label, total):
            self.total, self.notes = total, []
            yield lambda n=1, note="": self.notes.append(note)

    progress = Recorded()
    fit_rqvae(clustered(), TINY, progress)
    assert len(progress.notes) == progress.total == 60
    assert all("loss" in note for note in progress.notes)


def test_vectors_that_are_not_numbers_are_refused():
    with pytest.raises(TrainingError, match="not finite"):
        fit_rqvae(np.full((20, 4), np.nan, np.float32), TINY)


def test_a_single_item_is_refused():
    with pytest.raises(TrainingError, match="at least 2 items"):
        fit_rqvae(np.ones((1, 4), np.float32), TINY)
