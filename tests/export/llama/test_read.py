"""Reading a `LlamaForCausalLM` directory: shards, rotary positions, and what is refused in which words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pocketrec.export.llama.read import LlamaShape, inverse_frequencies, read_llama
from pocketrec.runtime.errors import ConfigError
from tiny_llama import tiny_conversion, tiny_source


def test_shards_are_read_as_the_whole_file_is(tmp_path):
    model, _, _ = tiny_source(tmp_path)
    whole = tiny_conversion(tmp_path)
    (tmp_path / "model" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "model", max_shard_size="8KB")
    assert len(list((tmp_path / "model").glob("model-*.safetensors"))) > 1
    assert tiny_conversion(tmp_path) == whole


def test_old_and_new_fields_of_rotary_positions_mean_the_same(tmp_path):
    tiny_source(tmp_path)
    path = tmp_path / "model" / "config.json"
    config = {k: v for k, v in json.loads(path.read_text()).items() if not k.startswith("rope")}
    spaces = []
    for rope in (
        {"rope_theta": 77.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_theta": 77.0, "rope_type": "linear", "factor": 2.0}},
    ):
        path.write_text(json.dumps({**config, **rope}))
        spaces.append(read_llama(tmp_path / "model").shape)
    assert spaces[0] == spaces[1]
    path.write_text(json.dumps(config))
    assert read_llama(tmp_path / "model").shape.rope_theta == 10000.0


@settings(max_examples=40)
@given(
    head_dim=st.sampled_from([4, 16, 64]), theta=st.sampled_from([100.0, 1e4, 5e5]),
    factor=st.floats(1.0, 32.0), low=st.floats(0.5, 2.0), span=st.floats(0.5, 6.0), original=st.integers(8, 8192),
)  # fmt: skip
def test_llama3_frequencies_are_those_of_transformers(head_dim, theta, factor, low, span, original):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": low + span,
        "original_max_position_embeddings": original,
    }  # fmt: skip
    config = LlamaConfig(
        hidden_size=2 * head_dim, num_attention_heads=2, rope_theta=theta, rope_scaling=dict(scaling),
        max_position_embeddings=131072,
    )  # fmt: skip
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    shape = LlamaShape(
        8, 2 * head_dim, 8, 1, 2, 2, head_dim, 1e-6, 64, False, False, False, theta, scaling, None
    )  # fmt: skip
    np.testing.assert_allclose(inverse_frequencies(shape), expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral"}, "model_type 'mistral'; only 'llama'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "type 'yarn' cannot be converted"),
        ({"rope_parameters": None, "partial_rotary_factor": 0.5}, None),
        ({"num_key_value_heads": 3}, "do not fit together"),
        ({"hidden_size": None}, "not a complete Llama configuration"),
        ({"intermediate_size": 25}, "config.json makes it"),
        ({"num_hidden_layers": 3}, r"tensors, the first is 'layers\.2"),
        ({"num_hidden_layers": 1}, r"that a Llama does not have, the first is 'layers\.1"),
    ],
)
def test_a_model_that_cannot_be_converted_is_refused(tmp_path, change, message):
    tiny_source(tmp_path)
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    if message is None:
        change = {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        message = "only some numbers of each head"
    with pytest.raises(ConfigError, match=message):
        tiny_conversion(tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_missing_and_broken_files_are_named(tmp_path):
    tiny_source(tmp_path)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read"):
        tiny_conversion(tmp_path)
    weights.unlink()
    with pytest.raises(ConfigError, match=r"neither model\.safetensors nor"):
        tiny_conversion(tmp_path)
    (tmp_path / "model" / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../../secret"}}')
    with pytest.raises(ConfigError, match="not a simple file name"):
        tiny_conversion(tmp_path)
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        tiny_conversion(tmp_path)


def test_adapters_beside_the_weights_are_refused(tmp_path):
    tiny_source(tmp_path)
    path = tmp_path / "model" / "model.safetensors"
    save_file({**load_file(path), "model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 16)}, path)
    with pytest.raises(ConfigError, match="merge adapters"):
        tiny_conversion(tmp_path)
