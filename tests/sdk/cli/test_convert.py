"""`pocketrec export --index`: a causal Llama trained elsewhere, through the command line."""

from __future__ import annotations

import json

import pytest
from command import pocketrec

from pocketrec.runtime.recommender import Recommender
from tiny import random_rows
from tiny_llama import tiny_llama, write_index


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    tiny_llama(folder / "model", hidden_size=64, intermediate_size=96)
    write_index(folder / "index.json", random_rows(30))
    (folder / "titles.csv").write_text("item_id,title\nitem-3,Three\n")
    return folder


def export(model, out, *arguments):
    return pocketrec("export", model / "model", "--index", model / "index.json", "--out", out, *arguments)


def found(bundle, engine=None):
    with Recommender.load(bundle, engine) as recommender:
        return recommender.recommend(["item-1", "item-2"], k=30, exclude_seen=False)


@pytest.mark.parametrize("scheme", ["none", "fp16", "int8", "int4"])
def test_a_llama_becomes_a_bundle_in_any_onnx_format(model, tmp_path, scheme):
    code, out, err = export(model, tmp_path / "b", "--quantize", scheme, "--max-history", 6, "--json")
    assert code == 0, err
    written = json.loads(out)
    assert (written["bundle"], written["items"]) == (str(tmp_path / "b"), 30)
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["model"]["quantization"] == scheme
    by_graph, by_numpy = ({r.item_id: r.score for r in found(tmp_path / "b", e)} for e in ("onnx", "reference"))
    assert len(by_graph) == 30
    assert by_graph == pytest.approx(by_numpy, abs=1e-4)


def test_eight_bits_are_smaller_and_nearly_the_same(model, tmp_path):
    sizes, scores = {}, {}
    for scheme in ("none", "int8"):
        export(model, tmp_path / scheme, "--quantize", scheme, "--max-history", 6)
        sizes[scheme] = (tmp_path / scheme / "model.safetensors").stat().st_size
        scores[scheme] = {item.item_id: item.score for item in found(tmp_path / scheme)}
    assert sizes["int8"] < sizes["none"]
    assert scores["int8"] != scores["none"]
    assert scores["int8"] == pytest.approx(scores["none"], abs=1)


def test_titles_and_the_prompt_reach_the_bundle(model, tmp_path):
    arguments = ("--titles", model / "titles.csv", "--prompt-ids", "1,4", "--max-history", 6, "--json")
    code, out, err = export(model, tmp_path / "b", *arguments)
    assert code == 0, err
    assert json.loads(out)["prompt_tokens"] == 2
    assert {item.item_id: item.title for item in found(tmp_path / "b")}["item-3"] == "Three"


def test_a_llama_becomes_a_gguf_with_its_index(model, tmp_path):
    code, out, err = export(model, tmp_path / "g", "--format", "gguf", "--quantize", "q8_0", "--json")
    assert code == 0, err
    assert (tmp_path / "g" / "model.gguf").stat().st_size == json.loads(out)["bytes"]
    assert len(json.loads((tmp_path / "g" / "index.json").read_text())["items"]) == 30


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prompt", "a", "--prompt-ids", "1"), "give one"),
        (("--prompt-ids", "one"), "whole numbers"),
        (("--format", "gguf", "--quantize", "q4_k"), "q4_k"),
        (("--max-history", 100000), "max_position_embeddings"),
    ],
)
def test_what_cannot_be_converted_is_a_usage_error_and_writes_nothing(model, tmp_path, arguments, said):
    code, out, err = export(model, tmp_path / "b", *arguments)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_llama_without_its_index_is_told_apart_from_a_run(model, tmp_path):
    code, _, err = pocketrec("export", model / "model", "--out", tmp_path / "b")
    assert code == 1
    assert "--index" in err


def test_an_index_goes_with_its_options_only(model, tmp_path):
    code, _, err = pocketrec("export", model / "model", "--prompt", "x", "--out", tmp_path / "b")
    assert code == 2
    assert "--index" in err
