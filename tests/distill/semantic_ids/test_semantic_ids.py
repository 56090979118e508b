"""Semantic IDs: unique, near their centroids, frozen, the same from the same data."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from pocketrec.distill.config import SidConfig
from pocketrec.distill.semantic_ids.fusion import Sources
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds, build_semantic_ids, frozen_bytes
from pocketrec.runtime.errors import BundleError, ConfigError, TrainingError

SMALL = {"codes": 8, "text_dim": 6, "collaborative_dim": 4}


def clustered(n=120, dim=12, clusters=10, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(clusters, dim))
    return (centres[np.arange(n) % clusters] + 0.2 * generator.normal(size=(n, dim))).astype(np.float32)


def sources(n=120, seed=0):
    collaborative = clustered(n, 8, 6, seed + 1)
    collaborative[::9] = 0.0  # never seen in training
    return Sources(text=clustered(n, seed=seed), collaborative=collaborative)


@pytest.fixture(scope="module")
def ids():
    return build_semantic_ids(sources(), SidConfig(**SMALL))


def test_every_item_has_a_sid_of_its_own(ids):
    assert ids.rows.shape == (120, 3)
    assert ids.rows.dtype == np.uint8
    assert len(np.unique(ids.rows, axis=0)) == 120


def test_items_of_unlike_text_never_share_their_first_code():
    text = build_semantic_ids(Sources(text=clustered(clusters=4)), SidConfig(**SMALL))
    codes = [set(text.rows[cluster::4, 0].tolist()) for cluster in range(4)]
    assert sum(map(len, codes)) == len(set.union(*codes))


def test_the_same_data_and_seed_give_the_same_sids_and_the_same_space(ids):
    again = build_semantic_ids(sources(), SidConfig(**SMALL))
    assert np.array_equal(again.rows, ids.rows)
    assert again.sid_space == ids.sid_space
    other = build_semantic_ids(sources(), SidConfig(**SMALL, seed=1))
    assert other.sid_space != ids.sid_space


def test_saved_sids_come_back_whole(ids, tmp_path):
    ids.save(tmp_path)
    back = SemanticIds.load(tmp_path)
    assert np.array_equal(back.rows, ids.rows)
    assert back.sid_space == ids.sid_space
    assert back.quality == ids.quality
    assert frozen_bytes(back.codebooks, back.space) == (tmp_path / "codebooks.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["codebooks.safetensors", "sids.npy", "quality.json"])
def test_damaged_files_are_refused_with_the_way_out(ids, tmp_path, name):
    ids.save(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:40])
    with pytest.raises(BundleError, match="run the sids stage again"):
        SemanticIds.load(tmp_path)


def test_files_of_something_else_are_refused_with_the_way_out(ids, tmp_path):
    ids.save(tmp_path)
    (tmp_path / "quality.json").write_text("{}")
    with pytest.raises(BundleError, match="run the sids stage again"):
        SemanticIds.load(tmp_path)
    ids.save(tmp_path)
    save_file({"other": np.zeros(3, np.float32)}, tmp_path / "codebooks.safetensors")
    with pytest.raises(BundleError, match="run the sids stage again"):
        SemanticIds.load(tmp_path)


def test_a_new_item_takes_a_free_sid_and_changes_no_other(ids):
    new = clustered(30, seed=5)
    given_rows = ids.rows.copy()
    rows = ids.assign(Sources(text=new))
    assert np.array_equal(ids.rows, given_rows)
    both = np.concatenate((ids.rows, rows))
    assert len(np.unique(both, axis=0)) == len(both)


def test_a_new_item_that_equals_an_old_one_shares_all_but_its_last_code(ids):
    everything = sources()
    one = Sources(text=everything.text[5:6], collaborative=everything.collaborative[5:6])
    assert ids.assign(one)[0, :2].tolist() == ids.rows[5, :2].tolist()


def test_a_catalogue_larger_than_the_space_is_refused_before_any_work():
    with pytest.raises(ConfigError, match="at most"):
        build_semantic_ids(Sources(text=clustered(10)), SidConfig(codes=2, levels=3))


def test_a_collapsed_codebook_fails():
    same = np.ones((300, 4), np.float32)
    same[0] = [1.0, 2.0, 0.0, 0.0]
    with pytest.raises(TrainingError, match="collapsed"):
        build_semantic_ids(Sources(text=same), SidConfig(codes=64, levels=3, text_dim=4))


def test_without_any_source_there_are_no_sids():
    with pytest.raises(ConfigError, match="source"):
        build_semantic_ids(Sources(), SidConfig())
