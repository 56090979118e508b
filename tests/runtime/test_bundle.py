"""A bundle opens when every byte is what the manifest says, and otherwise says what is wrong."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.runtime.bundle import (
    MANIFEST_FILE,
    TRIE_FILE,
    CatalogueSpec,
    FileEntry,
    Manifest,
    ModelSpec,
    check_fit,
    describe_file,
    open_bundle,
    write_manifest,
)
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.manifest import MAX_FILES, MAX_MANIFEST_BYTES, parse_manifest
from pocketrec.runtime.trie import ItemTrie

ROWS = [[0, 1], [0, 2], [3, 0]]
FILES = (TRIE_FILE, "recommender.onnx", "README.md")


def model(**changes: Any) -> ModelSpec:
    sizes = {
        "dim": 8,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "head_dim": 4,
        "ffn": 16,
        "decoder_dim": 8,
        "pair_dim": 4,
    }
    fields: dict[str, Any] = {
        "kind": "llama-sid",
        "sid_space": "space-1",
        "levels": 2,
        "codes": 4,
        "max_history": 5,
        "beam": 3,
        "max_branch": (3, 3),
        "rope_theta": 10000.0,
        "norm_eps": 1e-6,
        "parameters": 1000,
        **sizes,
    }
    return ModelSpec(**{**fields, **changes})


def trie(sid_space: str = "space-1", first: str = "a") -> ItemTrie:
    return ItemTrie.from_rows(ROWS, [first, "b", "c"], codes_per_level=4, sid_space=sid_space)


def make(folder: Path, *, catalogue: ItemTrie | None = None, **changes: Any) -> Path:
    """Write a sound bundle; `changes` go to the model's spec."""
    folder.mkdir()
    catalogue = catalogue or trie()
    catalogue.save(folder / TRIE_FILE)
    (folder / "recommender.onnx").write_bytes(bytes(range(256)) * 2000)  # more than one read
    (folder / "README.md").write_text("a card")
    spec = model(**changes)
    manifest = Manifest(
        model=spec,
        catalogue=CatalogueSpec(items=len(catalogue), sid_space=spec.sid_space),
        files={name: describe_file(folder / name) for name in FILES},
        graphs={"recommender": "recommender.onnx"},
        provenance={"seed": 0, "stages": [{"name": "data"}]},
        metrics={"recall@10": 0.08},
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make(tmp_path / "bundle")


def edit(bundle: Path, change: Any) -> None:
    """Rewrite the manifest by hand, as an attacker or a broken tool would."""
    data = json.loads((bundle / MANIFEST_FILE).read_text())
    change(data)
    (bundle / MANIFEST_FILE).write_text(json.dumps(data))


def refused(bundle: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(bundle).load_trie()
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value), "it says what to do"


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


def test_the_manifest_reads_back_as_it_was_and_always_has_the_same_bytes(bundle, tmp_path):
    manifest = open_bundle(bundle).manifest
    assert parse_manifest(manifest.to_json()) == manifest
    reordered = parse_manifest(json.dumps(dict(reversed(manifest.to_dict().items()))).encode())
    write_manifest(tmp_path, reordered)
    assert (tmp_path / MANIFEST_FILE).read_bytes() == (bundle / MANIFEST_FILE).read_bytes()


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


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../secret",
            "..",
            ".",
            "",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "C:x",
            ".hidden",
            "a\0b",
            "é",
            "a" * 200,
            "con.",
        ),
        *("x\n", MANIFEST_FILE, "Manifest.JSON"),
    ],
)
def test_a_name_that_is_no_plain_name_is_refused_before_any_file_is_opened(bundle, name):
    (bundle.parent / "secret").write_text("x")
    edit(bundle, lambda data: data["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
    refused(bundle, "no plain name")


def test_a_graph_or_a_trie_that_is_not_listed_is_refused(bundle):
    edit(bundle, lambda data: data["graphs"].update(encoder="encoder.onnx"))
    refused(bundle, "does not list 'encoder.onnx'")
    edit(bundle, lambda data: (data["graphs"].clear(), data["files"].pop(TRIE_FILE)))
    refused(bundle, f"does not list '{TRIE_FILE}'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "no object"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a":' * 100_000, "not valid JSON"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "over the limit"),
        (b'{"schema_version": NaN}', "not valid JSON"),
        (b'{"schema_version": 1, "schema_version": 1}', "name twice"),
        (b'{"schema_version": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"schema_version": 2}', "schema_version 2.*update pocketrec"),
        (b'{"schema_version": "1"}', "schema_version is '1'"),
        (b'{"schema_version": 1}', "files is missing"),
    ],
)
def test_a_manifest_that_is_none_is_refused(bundle, content, message):
    (bundle / MANIFEST_FILE).write_bytes(content)
    refused(bundle, message)


def test_a_manifest_with_too_many_files_is_refused(bundle):
    entry = {"sha256": "0" * 64, "bytes": 1}
    edit(bundle, lambda data: data["files"].update({f"f{i}": entry for i in range(MAX_FILES)}))
    refused(bundle, "over the limit of")


def typed_fields() -> list[tuple[str, ...]]:
    data = Manifest(model(), CatalogueSpec(3, "s"), {"f": FileEntry("0" * 64, 1)}, {"g": "f"}).to_dict()
    paths: list[tuple[str, ...]] = [(name,) for name in data]
    for section in ("model", "catalogue", "graphs"):
        paths += [(section, name) for name in data[section]]
    return [*paths, ("files", "f"), ("files", "f", "sha256"), ("files", "f", "bytes")]


@pytest.mark.parametrize("path", typed_fields(), ids=".".join)
def test_a_field_of_a_wrong_type_or_value_is_named(bundle, path):
    path = tuple({"f": "README.md", "g": "recommender"}.get(step, step) for step in path)
    sound = json.loads((bundle / MANIFEST_FILE).read_text())
    for wrong in (None, True, -1, 1e400, 10**400, [], [1], ["a"], "", "x" * 300, [[1, 1]], "missing"):
        if path == ("gates",) and wrong == []:
            continue  # nothing was compared
        data = copy.deepcopy(sound)
        spot = data
        for step in path[:-1]:
            spot = spot[step]
        if wrong == "missing":
            del spot[path[-1]]
            if path[0] in ("graphs", "files") and len(path) == 2:
                continue  # these are names that a bundle may lack
            if path in (("model", "blocks"), ("model", "quantization"), ("gates",)):
                continue  # bundles had no such field at first
        else:
            spot[path[-1]] = wrong
        with pytest.raises(BundleError) as caught:
            parse_manifest(json.dumps(data).encode())
        assert path[-1] in str(caught.value) or "Infinity" in str(caught.value)
        assert len(str(caught.value)) < 400


TOO_MUCH = {
    "beam": 1 << 15, "max_history": 1 << 17, "dim": 1 << 19, "layers": 1 << 11, "heads": 1 << 11, "ffn": 1 << 19,
    "head_dim": 1 << 19, "decoder_dim": 1 << 19, "pair_dim": 1 << 19, "blocks": 2,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [*TOO_MUCH.items(), ("kv_heads", 3), ("head_dim", 5)])
def test_a_size_that_no_model_has_is_refused_before_memory_is_made_for_it(bundle, name, value):
    edit(bundle, lambda data: data["model"].update({name: value}))
    refused(bundle, f"model.{name} is {value}")


def test_pairs_of_too_many_codes_are_refused(bundle):
    edit(bundle, lambda data: data["model"].update(codes=1 << 13, pair_dim=4))
    refused(bundle, "model.pair_dim is 4, where a whole number from 0 to 0")


FIELDS = st.sampled_from(["schema_version", "model", "catalogue", "files", "graphs", "provenance", "metrics"])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner),
    max_leaves=20,
)


@given(ANY_JSON)
def test_no_json_at_all_gets_past_the_manifest_but_as_an_error_of_ours(data):
    with pytest.raises(BundleError):
        parse_manifest(json.dumps(data).encode())


def test_fields_of_a_later_minor_version_are_passed_over(bundle):
    edit(bundle, lambda data: (data.update(later={}), data["model"].update(later=1)))
    assert open_bundle(bundle).manifest.model == model()


def test_a_manifest_that_would_be_refused_is_not_written(tmp_path, bundle):
    manifest = open_bundle(bundle).manifest
    bad = Manifest(manifest.model, manifest.catalogue, manifest.files, {"g": "absent"})
    with pytest.raises(BundleError, match="does not list 'absent'"):
        write_manifest(tmp_path, bad)
    with pytest.raises(BundleError, match="finite numbers"):
        write_manifest(
            tmp_path,
            Manifest(manifest.model, manifest.catalogue, manifest.files, {}, {}, {"x": float("nan")}),
        )
    assert not (tmp_path / MANIFEST_FILE).exists()


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


TOKENS = {"kind": "llama-tokens", "decoder_dim": 0, "pair_dim": 0, "vocab": 9, "prompt": 0}


def test_a_converted_model_says_how_many_tokens_it_knows_and_has_no_decoder(tmp_path):
    bundle = make(tmp_path / "b", **TOKENS)
    assert open_bundle(bundle).manifest.model == model(**TOKENS)
    assert "vocab" not in Manifest(model(), CatalogueSpec(3, "s"), {}, {}).to_dict()["model"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("vocab", 0), ("vocab", None), ("prompt", -1), ("prompt", "1"), ("decoder_dim", 1), ("pair_dim", 1)],
)
def test_a_converted_models_fields_are_checked_as_strictly(tmp_path, name, value):
    bundle = make(tmp_path / "b", **TOKENS)
    edit(bundle, lambda data: data["model"].update({name: value}))
    refused(bundle, f"model.{name} is")


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
        Recommender.load(folder)


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
        with pytest.raises(BundleError, match=f"{name} was changed after it was checked; open the bundle again"):
            use()


def test_weights_that_are_replaced_before_a_graph_is_first_needed_are_not_mixed_with_the_others(tmp_path):
    from pocketrec.runtime.recommender import Recommender
    from tiny import random_rows, tiny_bundle, tiny_student

    folder = tiny_bundle(tmp_path / "b", tiny_student(), random_rows(20))
    with Recommender.load(folder) as recommender:
        session = recommender.session(["item-1"])
        os.link(folder / "model.safetensors", tmp_path / "kept")  # another name for it changes nothing
        assert session.recommend(3)
    with Recommender.load(folder) as recommender:
        tiny_bundle(tmp_path / "b", tiny_student(seed=1), random_rows(20))
        assert recommender.recommend(["item-1"], 3)
        with pytest.raises(BundleError, match="was changed after it was checked"):
            recommender.session(["item-1"]).recommend(3)


@pytest.mark.parametrize("engine", ["onnx", "reference"])
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
