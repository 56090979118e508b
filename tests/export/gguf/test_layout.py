"""Rows in llama.cpp's order turn by neighbours exactly as transformers' rows turn by halves."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.export.gguf.layout import in_llama_cpp_order

HEADS, KV_HEADS, WIDTH, DIM = 3, 1, 8, 5


@pytest.mark.parametrize(("name", "heads"), [("attn_q", HEADS), ("attn_k", KV_HEADS)])
def test_neighbours_of_the_new_order_are_the_pairs_that_transformers_rotates(name, heads):
    weight = np.random.default_rng(0).standard_normal((heads * WIDTH, DIM)).astype(np.float32)
    ordered = in_llama_cpp_order(weight, name, HEADS, KV_HEADS).reshape(heads, WIDTH, DIM)
    halves = weight.reshape(heads, 2, WIDTH // 2, DIM)
    np.testing.assert_array_equal(ordered[:, 0::2], halves[:, 0])
    np.testing.assert_array_equal(ordered[:, 1::2], halves[:, 1])
    bias = in_llama_cpp_order(weight[:, 0], name, HEADS, KV_HEADS)
    np.testing.assert_array_equal(bias, ordered.reshape(-1, DIM)[:, 0])


@pytest.mark.parametrize("name", ["attn_v", "attn_output", "ffn_gate", "attn_norm"])
def test_all_other_tensors_stay_as_they_are(name):
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    assert in_llama_cpp_order(weight, name, HEADS, KV_HEADS) is weight
