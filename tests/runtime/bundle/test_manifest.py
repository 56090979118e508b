"""A manifest is read only if every field is what it must be, and otherwise the field is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.runtime.bundle.bundle import (
    MANIFEST_FILE,
    TRIE_FILE,
    CatalogueSpec,
    FileEntry,
    Manifest,
    open_bundle,
    write_manifest,
)
from pocketrec.runtime.bundle.manifest import MAX_FILES, MAX_MANIFEST_BYTES, parse_manifest
from pocketrec.runtime.errors import BundleError
from small_bundles import edit, make, model, refused


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make(tmp_path / "bundle")


def test_the_manifest_reads_back_as_it_was_and_always_has_the_same_bytes(bundle, tmp_path):
    manifest = open_bundle(bundle).manifest
    assert parse_manifest(manifest.to_json()) == manifest
    reordered = parse_manifest(json.dumps(dict(reversed(manifest.to_dict().items()))).encode())
    write_manifest(tmp_path, reordered)
    assert (tmp_path / MANIFEST_FILE).read_bytes() == (bundle / MANIFEST_FILE).read_bytes()


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
    refused(bundle, "not a plain file name")


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
        (b"[]", "not an object"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a":' * 100_000, "not valid JSON"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "over the limit"),
        (b'{"schema_version": NaN}', "not valid JSON"),
        (b'{"schema_version": 1, "schema_version": 1}', "name twice"),
        (b'{"schema_version": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"schema_version": 3}', "schema_version 3, and this pocketrec reads 2; update pocketrec"),
        (b'{"schema_version": 1}', "schema_version 1, and this pocketrec reads 2; export the bundle again"),
        (b'{"schema_version": "2"}', "schema_version is '2'"),
        (b'{"schema_version": 2}', "files is missing"),
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
