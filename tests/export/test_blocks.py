"""One layout for Llama blocks: the same names and shapes for both kinds of model, and transformers' hidden states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.export.bundle import BundleSettings
from pocketrec.export.llama.source import read_source
from pocketrec.export.llama.weights import token_spec, token_weights
from pocketrec.export.weights import device_weights
from pocketrec.runtime.engines.numpy_blocks import hidden_state
from tiny import CODES, LEVELS, tiny_student
from tiny_llama import tiny_source

SHAPES = {
    "plain": {},
    "shared keys": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "own head width": {"head_dim": 12, "num_key_value_heads": 1},
}


def converted(folder, **settings):
    model, index, _ = tiny_source(folder, **settings)
    source = read_source(folder / "model", index)
    spec = token_spec(source, 6, BundleSettings(beam=4, headroom=1.0), (CODES,) * LEVELS)
    return model, spec, token_weights(source, 6)


@pytest.mark.parametrize("shape", SHAPES)
def test_numpy_gives_the_hidden_state_of_transformers(tmp_path, shape):
    model, spec, weights = converted(tmp_path, **SHAPES[shape])
    assert ("layers.0.qkv_bias" in weights) is (shape == "biases")
    x = np.random.default_rng(0).standard_normal((2, 9, spec.dim)).astype(np.float32)
    with torch.no_grad():
        expected = model.model(inputs_embeds=torch.from_numpy(x)).last_hidden_state[:, -1].numpy()
    np.testing.assert_allclose(hidden_state(spec, weights, x), expected, atol=2e-5)


def test_a_student_and_a_converted_model_of_one_shape_have_the_same_tensors(tmp_path):
    student = device_weights(tiny_student())
    _, _, llama = converted(tmp_path)

    def blocks(tensors):
        return {name: t.shape for name, t in tensors.items() if name.startswith("layers.") or name == "norm"}

    assert blocks(student) == blocks(llama)
    assert set(blocks(student)) == {
        f"layers.{layer}.{name}" for layer in (0, 1) for name in ("qkv", "o", "gate_up", "down")
    } | {"norm"}
