"""A converted Llama as GGUF gives transformers' logits, in llama.cpp and read back by transformers."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from pocketrec.export.gguf.llama import convert_llama_gguf
from pocketrec.runtime.errors import ConfigError
from tiny import random_rows
from tiny_llama import VOCAB, tiny_llama, tokens_of, write_index

LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
WIDE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES = {
    "plain": {},
    "grouped and tied": {"tie_word_embeddings": True},
    "own head width, base": {"head_dim": 32, "rope_theta": 500.0},
    "llama3 positions": {"rope_scaling": LLAMA3},
    "linear positions": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "attention biases": {"attention_bias": True},
}


@pytest.fixture(params=SHAPES)
def model(request, tmp_path):
    return tiny_llama(tmp_path / "model", **{**WIDE, **copy.deepcopy(SHAPES[request.param])})


def convert(folder, **more):
    rows = random_rows(30)
    return convert_llama_gguf(folder / "model", write_index(folder / "i.json", rows), folder / "out", **more), rows


@torch.no_grad()
def truth(model, tokens):
    return model(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize(("quantize", "error"), [("none", 1e-3), ("f16", 0.01), ("q8_0", 0.1)])
def test_llama_cpp_gives_the_logits_of_transformers(model, tmp_path, quantize, error):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    written, _ = convert(tmp_path, quantize=quantize)
    tokens = np.random.default_rng(0).integers(0, VOCAB, 24).tolist()
    llama = llama_cpp.Llama(
        written["gguf"], n_ctx=64, n_threads=1, logits_all=True, verbose=False, type_k=0, type_v=0
    )  # a cache of float32 (ggml type 0)
    llama.eval(tokens)  # ids: this file has no vocabulary to tokenise with
    found = np.array(llama.scores[: len(tokens)])
    expected = truth(model, tokens)
    if quantize == "none":
        assert np.abs(found - expected).max() < error
    assert (found - expected).std() < error * expected.std()


@pytest.mark.parametrize("shape", ["plain", "grouped and tied"])
def test_transformers_reads_it_back(shape, tmp_path):
    model = tiny_llama(tmp_path / "model", **{**WIDE, **SHAPES[shape]})
    convert(tmp_path, quantize="none")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file="model.gguf", dtype=torch.float32)
    tokens = list(range(3, 30))
    np.testing.assert_allclose(truth(again.eval(), tokens), truth(model, tokens), atol=1e-3)


def test_the_index_lies_beside_it_in_token_ids(tmp_path):
    tiny_llama(tmp_path / "model", **WIDE)
    written, rows = convert(tmp_path, prompt=[1, 4])
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert index["prompt"] == [1, 4]
    assert index["items"] == {f"item-{i}": tokens for i, tokens in enumerate(tokens_of(rows).tolist())}
    assert written["items"] == 30
    assert written["bytes"] == (tmp_path / "out" / "model.gguf").stat().st_size


def test_an_unknown_type_is_refused(tmp_path):
    tiny_llama(tmp_path / "model", **WIDE)
    with pytest.raises(ConfigError, match="none, f16, q8_0"):
        convert(tmp_path, quantize="int3")
