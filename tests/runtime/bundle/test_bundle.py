"""A bundle opens when every byte is what the manifest says, and otherwise says what is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from device_engines import DEVICE_ENGINES
from pocketrec.runtime.bundle.bundle import (
    MANIFEST_FILE,
    TRIE_FILE,
    CatalogueSpec,
    check_fit,
    describe_file,
    open_bundle,
)
from pocketrec.runtime.errors import BundleError
from small_bundles import FILES, ROWS, edit, make, model, refused, trie


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make(tmp_path / "bundle")


def test_a_sound_bundle_opens_with_everything_it_holds(bundle):
    opened = open_bundle(bundle)
    assert opened.manifest.model == model()
    assert opened.manifest.catalogue == CatalogueSpec(3, "space-1")
    assert opened.manifest.provenance == {"seed": 0, "stages": [{"name": "data"}]}
    assert opened.manifest.metrics == {"recall@10": 0.08}
    assert opened.manifest.files["README.md"].bytes == 6
    assert opened.graph("recommender") == bundle / "recommender.onnx"
    assert opened.load_trie().rows.tolist() == ROWS
    with pytest.raises(BundleError, match="no 'search' graph"):
        opened.graph("search")
    with pytest.raises(BundleError, match="no file 'stray'"):
        opened.file("stray")


def test_a_bundle_may_be_reached_through_a_link_and_hold_files_nobody_reads(bundle, tmp_path):
    (bundle / "stray.bin").write_bytes(b"not listed")
    (tmp_path / "current").symlink_to(bundle)
    assert len(open_bundle(tmp_path / "current").load_trie()) == 3


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(bundle, name):
    content = (bundle / name).read_bytes()
    for length in (0, len(content) // 2, len(content) - 1):
        (bundle / name).write_bytes(content[:length])
        refused(bundle, f"{name} has {length} bytes, but the manifest says {len(content)}")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_wherever_it_is(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    for place in (0, len(content) // 2, len(content) - 1):
        content[place] ^= 1
        (bundle / name).write_bytes(content)
        refused(bundle, f"{name} is not the file of the manifest")
        content[place] ^= 1


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(bundle, name):
    (bundle / name).unlink()
    refused(bundle, f"{name} is missing")


@pytest.mark.parametrize("name", [*FILES, MANIFEST_FILE])
def test_a_link_a_folder_or_a_pipe_in_a_files_place_is_refused(bundle, tmp_path, name):
    (bundle / name).rename(tmp_path / "elsewhere")
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    refused(bundle, "not a plain file")
    (bundle / name).unlink()
    (bundle / name).mkdir()
    refused(bundle, "not a plain file")
    (bundle / name).rmdir()
    os.mkfifo(bundle / name)  # opening it for reading would wait for ever
    refused(bundle, "not a plain file")


def test_files_swapped_between_bundles_are_refused(bundle, tmp_path):
    other = make(tmp_path / "other", catalogue=trie(first="z"))
    assert (other / TRIE_FILE).stat().st_size == (bundle / TRIE_FILE).stat().st_size
    (other / TRIE_FILE).replace(bundle / TRIE_FILE)
    refused(bundle, f"{TRIE_FILE} is not the file of the manifest")


def test_a_folder_without_a_manifest_and_no_folder_are_refused(bundle, tmp_path):
    (bundle / MANIFEST_FILE).unlink()
    refused(bundle, "has no manifest.json")
    refused(tmp_path / "absent", "is not a directory")


def test_a_catalogue_of_other_codebooks_is_refused(tmp_path, bundle):
    edit(bundle, lambda data: data["catalogue"].update(sid_space="space-2"))
    refused(bundle, "sid_space 'space-2' is not the model's 'space-1'")
    refused(make(tmp_path / "b", catalogue=trie("space-2")), "sid_space 'space-2' is not the model's 'space-1'")


def test_a_trie_that_does_not_fit_the_model_is_refused(tmp_path):
    refused(make(tmp_path / "a", levels=3, max_branch=(3, 3, 3)), "2 levels of 4 codes, but the model 3 of 4")
    refused(make(tmp_path / "b", codes=8), "2 levels of 4 codes, but the model 2 of 8")
    refused(make(tmp_path / "c", max_branch=(2, 1)), "2 children at level 1, but the model's graph has room for 1")
    check_fit(model(max_branch=(2, 2)), trie())


def test_a_count_of_items_that_is_not_the_tries_is_refused(bundle):
    edit(bundle, lambda data: data["catalogue"].update(items=4))
    refused(bundle, "holds 3 items, but the manifest says 4")


def test_a_malformed_trie_under_a_sound_manifest_is_an_error_of_the_bundle(bundle):
    (bundle / TRIE_FILE).write_bytes(b"not a trie")
    entry = describe_file(bundle / TRIE_FILE)
    edit(bundle, lambda data: data["files"].update({TRIE_FILE: {"sha256": entry.sha256, "bytes": entry.bytes}}))
    refused(bundle, f"{TRIE_FILE} is damaged")


@pytest.mark.parametrize("elsewhere", ["../outside.bin", "unlisted.bin", "/etc/hostname"])
def test_a_graph_that_takes_weights_from_elsewhere_is_refused_before_it_is_opened(tmp_path, elsewhere):
    import onnx

    from pocketrec.runtime.recommender import Recommender
    from tiny import random_rows, tiny_bundle, tiny_student

    folder = tiny_bundle(tmp_path / "b", tiny_student(), random_rows(20))
    (tmp_path / "outside.bin").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "unlisted.bin").write_bytes((folder / "model.safetensors").read_bytes())
    graph = onnx.load(str(folder / "recommender.onnx"), load_external_data=False)
    place = next(e for t in graph.graph.initializer for e in t.external_data if e.key == "location")
    place.value = elsewhere
    (folder / "recommender.onnx").write_bytes(graph.SerializeToString())
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    entry = describe_file(folder / "recommender.onnx")
    manifest["files"]["recommender.onnx"] = {"sha256": entry.sha256, "bytes": entry.bytes}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="does not list"):
        Recommender.load(folder, "onnx")


@pytest.mark.parametrize("how", ["replaced", "changed in place", "removed"])
@pytest.mark.parametrize("name", [TRIE_FILE, "recommender.onnx"])
def test_a_file_that_changes_after_it_was_checked_is_not_used(bundle, name, how):
    opened = open_bundle(bundle)
    path = opened.file(name)
    content = path.read_bytes()
    if how == "replaced":
        (bundle / "new").write_bytes(content)
        (bundle / "new").replace(path)
    elif how == "changed in place":
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    for use in (lambda: opened.file(name), opened.check_unchanged):
        done = "deleted or moved" if how == "removed" else "changed"
        with pytest.raises(BundleError, match=rf"{name} was {done} after it was checked.*; open the bundle again"):
            use()


def test_weights_that_are_replaced_before_a_graph_is_first_needed_are_not_mixed_with_the_others(tmp_path):
    from pocketrec.runtime.recommender import Recommender
    from tiny import random_rows, tiny_bundle, tiny_student

    folder = tiny_bundle(tmp_path / "b", tiny_student(), random_rows(20))
    with Recommender.load(folder, "onnx") as recommender:
        session = recommender.session(["item-1"])
        os.link(folder / "model.safetensors", tmp_path / "kept")  # another name for it changes nothing
        assert session.recommend(3)
    with Recommender.load(folder, "onnx") as recommender:
        tiny_bundle(tmp_path / "b", tiny_student(seed=1), random_rows(20))
        assert recommender.recommend(["item-1"], 3)
        with pytest.raises(BundleError, match="was changed after it was checked"):
            recommender.session(["item-1"]).recommend(3)


@pytest.mark.parametrize("engine", DEVICE_ENGINES)
def test_weights_that_are_no_numbers_never_reach_the_caller(tmp_path, engine):
    import torch

    from pocketrec.runtime.recommender import Recommender
    from tiny import random_rows, tiny_bundle, tiny_student

    for value in (float("nan"), float("inf"), 3e38, 1e30):
        student = tiny_student()
        with torch.no_grad():
            student.decoder.out[1].weight[3] = value
            student.decoder.out[2].bias[1] = value
        with Recommender.load(tiny_bundle(tmp_path / "b", student, random_rows(40)), engine) as recommender:
            for item in recommender.recommend(["item-1"], 40):
                assert abs(item.score) < 1e9
