"""The same model over another catalogue: what stays, what goes, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pocketrec.export.refresh import Resemblances, write_refreshed
from pocketrec.runtime.bundle.bundle import COLD_FILE, open_bundle, write_manifest
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import BundleError
from tiny import CODES, SPACE, random_rows, tiny_bundle, tiny_student

COLD = Resemblances(
    np.array([0], np.int32), np.array([1, 2], np.int32), np.array([0.5, 0.25], np.float16), np.array([2], np.uint8)
)


def trie_of(items, space=SPACE):
    return ItemTrie.from_rows(
        random_rows(items, 3), [f"new-{i}" for i in range(items)], codes_per_level=CODES, sid_space=space
    )


@pytest.fixture
def base(tmp_path):
    bundle = open_bundle(tiny_bundle(tmp_path / "base", tiny_student(), random_rows(20)))
    write_manifest(bundle.path, dataclasses.replace(bundle.manifest, metrics={"ndcg@10": 0.1}, gates=({"a": 1},)))
    return open_bundle(bundle.path)


def test_the_model_stays_and_the_catalogue_is_the_new_one(base, tmp_path):
    manifest = write_refreshed(base, trie_of(30), tmp_path / "new", COLD)
    new = open_bundle(tmp_path / "new")
    assert new.manifest == manifest
    assert new.manifest.model == base.manifest.model
    for name in ("model.safetensors", "encoder.onnx", "search.onnx", "recommender.onnx"):
        assert new.manifest.files[name] == base.manifest.files[name]
    assert len(new.load_trie()) == new.manifest.catalogue.items == 30
    assert COLD_FILE in new.manifest.files


def test_metrics_of_the_old_catalogue_move_to_the_provenance_and_stay_there(base, tmp_path):
    once = write_refreshed(base, trie_of(30), tmp_path / "once", COLD)
    twice = write_refreshed(open_bundle(tmp_path / "once"), trie_of(25), tmp_path / "twice")
    for manifest in (once, twice):
        assert (manifest.metrics, manifest.gates) == ({}, ())
        assert manifest.provenance["measured_before"] == {"items": 20, "metrics": {"ndcg@10": 0.1}}
    assert COLD_FILE not in twice.files  # it was of the catalogue before


def test_a_catalogue_of_other_codebooks_is_refused_and_nothing_is_written(base, tmp_path):
    with pytest.raises(BundleError, match="sid_space"):
        write_refreshed(base, trie_of(30, "1" * 32), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
