"""Converting a causal Llama: parity with `generate`, what is read, what is refused and in which words."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from pocketrec.export.llama.convert import convert_llama
from pocketrec.export.llama.index import read_index
from pocketrec.export.llama.read import LlamaShape, inverse_frequencies, read_llama
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.errors import ConfigError, DataError, PocketRecError
from pocketrec.runtime.recommender import Recommender
from tiny import CODES, LEVELS, random_rows
from tiny_llama import BOS, FIRST, PROMPT, VOCAB, judge, tiny_llama, tokens_of, write_index

ITEMS = 60


def made(folder, **settings):
    """A model and the index of a small catalogue in a folder."""
    rows = random_rows(ITEMS)
    return tiny_llama(folder / "model", **settings), write_index(folder / "index.json", rows), rows


def convert(folder, index=None, **options):
    options = {"max_history": 6, "beam": 8, **options}
    return convert_llama(folder / "model", index or folder / "index.json", folder / "bundle", **options)


def by_generate(model, rows, history, prompt, beam, k):
    """Items and log-probabilities that constrained beam search by transformers finds."""
    tokens = tokens_of(rows).tolist()
    allowed = {}
    for row in tokens:
        for end, token in enumerate(row):
            allowed.setdefault(tuple(row[:end]), set()).add(token)
    read = torch.tensor([[*prompt, *(t for item in history for t in tokens[item])]])
    length = read.shape[1]
    found = model.generate(
        read, attention_mask=torch.ones_like(read), num_beams=beam, num_return_sequences=k, max_new_tokens=LEVELS,
        do_sample=False, pad_token_id=0, return_dict_in_generate=True, output_scores=True,
        prefix_allowed_tokens_fn=lambda _, sofar: sorted(allowed[tuple(sofar[length:].tolist())]),
    )  # fmt: skip
    items = [tokens.index(row) for row in found.sequences[:, length:].tolist()]
    return [f"item-{i}" for i in items], found.sequences_scores.numpy() * LEVELS


@pytest.mark.parametrize("prompt", [(), PROMPT])
@pytest.mark.parametrize(
    "settings", [{}, {"num_attention_heads": 4, "num_key_value_heads": 1}], ids=["plain", "shared"]
)
def test_it_recommends_what_constrained_generate_finds_with_the_same_scores(tmp_path, prompt, settings):
    model, _, rows = made(tmp_path, **settings)
    convert(tmp_path, prompt=prompt)
    generator = np.random.default_rng(0)
    with Recommender.load(tmp_path / "bundle") as recommender:
        for length in (1, 2, 6, 6, 6):
            history = generator.choice(ITEMS, length, replace=False).tolist()
            items, scores = by_generate(model, rows, history, prompt, beam=8, k=5)
            found = recommender.recommend([f"item-{i}" for i in history], k=5, exclude_seen=False)
            assert [r.item_id for r in found] == items
            np.testing.assert_allclose([r.score for r in found], scores, atol=1e-4)


def test_a_longer_history_is_read_from_its_newest_items(tmp_path):
    made(tmp_path)
    convert(tmp_path, max_history=2)
    with Recommender.load(tmp_path / "bundle") as recommender:
        long, short = (
            recommender.recommend(ids, k=5, exclude_seen=False)
            for ids in (["item-9", "item-1", "item-2"], ["item-1", "item-2"])
        )
        assert long == short


def test_titles_come_along_and_items_without_one_have_none(tmp_path):
    made(tmp_path)
    convert(tmp_path, item_titles={"item-3": "Three"})
    with Recommender.load(tmp_path / "bundle") as recommender:
        titles = {r.item_id: r.title for r in recommender.recommend([], k=ITEMS)}
    assert titles["item-3"] == "Three"
    assert titles["item-4"] is None


@pytest.mark.parametrize("prompt", [(), PROMPT])
@pytest.mark.parametrize("steps", [(1, 1, 1, 1), (3, 2, 1), (6,)])
def test_reading_a_history_in_pieces_gives_what_reading_it_at_once_gives(tmp_path, prompt, steps):
    made(tmp_path, num_attention_heads=4, num_key_value_heads=2)
    spec = convert(tmp_path, prompt=prompt).model
    encoder, search = (
        ort.InferenceSession(str(tmp_path / "bundle" / f"{n}.onnx"), providers=["CPUExecutionProvider"])
        for n in ("encoder", "search")
    )
    past = np.zeros((spec.layers, 2, spec.kv_heads, 0, spec.head_dim), np.float32)
    history = random_rows(sum(steps), seed=3).astype(np.int32) % spec.codes
    whole = encoder.run(None, {"history": history, "past": past})
    done = 0
    for step in steps:
        hidden, past = encoder.run(None, {"history": history[done : done + step], "past": past})
        done += step
    np.testing.assert_allclose(hidden, whole[0], atol=1e-5)
    np.testing.assert_allclose(past, whole[1], atol=1e-5)
    assert past.shape[3] == len(prompt) + LEVELS * len(history)
    trie = open_bundle(tmp_path / "bundle").load_trie()
    feed = {
        "first_child": trie.first_child, "codes": trie.codes, "exclude": np.empty(0, np.int32), "beam": np.array([5]),
        "bias": np.zeros(1, np.float32),
    }  # fmt: skip
    rows, _ = search.run(None, {"hidden": hidden, "present": past, **feed})
    with Recommender.load(tmp_path / "bundle") as recommender:
        assert rows.tolist() == recommender.engine.search(history, trie, feed["exclude"], 5)[0].tolist()


def test_graphs_are_plain_onnx_and_weights_lie_once(tmp_path):
    model, _, _ = made(tmp_path, tie_word_embeddings=True)
    manifest = convert(tmp_path)
    assert manifest.model.parameters == sum(p.numel() for p in model.parameters())
    for name in ("encoder.onnx", "search.onnx", "recommender.onnx"):
        graph = onnx.load(tmp_path / "bundle" / name, load_external_data=False)
        assert {n.domain for n in graph.graph.node} == {""}
        assert not {n.op_type for n in graph.graph.node} & {"If", "Loop", "Scan"}
        inside = [t for t in graph.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
        assert all(np.prod(t.dims) <= 64 for t in inside)
    weights = manifest.files["model.safetensors"].bytes
    assert weights < 4 * model.num_parameters() + 20_000


def test_the_same_model_gives_the_same_bytes(tmp_path):
    made(tmp_path)
    assert convert(tmp_path) == convert(tmp_path)


def test_another_spelling_is_another_space(tmp_path):
    made(tmp_path)
    spaces = {convert(tmp_path).model.sid_space}
    shifted = {f"item-{i}": [t - FIRST for t in row] for i, row in enumerate(tokens_of(random_rows(ITEMS)).tolist())}
    (tmp_path / "other.json").write_text(json.dumps(shifted))
    spaces.add(convert(tmp_path, tmp_path / "other.json").model.sid_space)
    assert len(spaces) == 2


# --- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_become_float32(tmp_path, dtype):
    model, _, rows = made(tmp_path)
    model.to(dtype).save_pretrained(tmp_path / "model")
    convert(tmp_path)
    with Recommender.load(tmp_path / "bundle") as recommender:
        found = recommender.recommend(["item-0"], k=ITEMS, exclude_seen=False)
    again = LlamaForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    truth = judge(again, (), rows[:1], rows)
    np.testing.assert_allclose([r.score for r in found], np.sort(truth)[::-1], atol=1e-4)


def test_shards_are_read_as_the_whole_file_is(tmp_path):
    model, _, _ = made(tmp_path)
    whole = convert(tmp_path)
    (tmp_path / "model" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "model", max_shard_size="8KB")
    assert len(list((tmp_path / "model").glob("model-*.safetensors"))) > 1
    assert convert(tmp_path) == whole


def test_old_and_new_fields_of_rotary_positions_mean_the_same(tmp_path):
    made(tmp_path)
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


def tokenizer(folder):
    """One that knows `<a_0>` … `<c_7>` under the ids of `tokens_of`, and two words."""
    words = {f"word{i}": i for i in range(FIRST)}
    tokens = Tokenizer(WordLevel(words, unk_token="word0"))
    tokens.add_tokens([AddedToken(f"<{x}_{c}>", special=False) for x in "abc" for c in range(CODES)])
    PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="word0").save_pretrained(folder)


def test_an_index_of_token_strings_and_a_prompt_in_words_mean_the_ids(tmp_path):
    _, _, rows = made(tmp_path)
    by_ids = convert(tmp_path, prompt=[FIRST])
    tokenizer(tmp_path / "model")
    strings = {f"item-{i}": [f"<{x}_{c}>" for x, c in zip("abc", row, strict=True)] for i, row in enumerate(rows)}
    (tmp_path / "strings.json").write_text(json.dumps(strings))
    assert convert(tmp_path, tmp_path / "strings.json", prompt="<a_0>") == by_ids


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "no object of items"),
        ("{}", "no object of items"),
        ('{"a": [9, 17, 25], "a": [9, 17, 26]}', "twice"),
        ('{"a": "<a_1>"}', "must be a list of 1 to 8 tokens"),
        ('{"a": [9, 17, 25], "b": [9, 17]}', "item 'b' is .* the first item has 3 tokens"),
        ('{"a": [9, 17, 25], "b": [9, 17, "x"]}', "item 'b' is .* strings everywhere or token ids"),
        ('{"a": [9, 17, 25], "b": [9, 17, true]}', "item 'b' is"),
        ('{"a": [9, 17, 25], "b": [9, 17, 40]}', "item 'b' has a token outside the model's 40"),
        ('{"a": [9, 17, 25], "b": [-1, 17, 25]}', "item 'b' has a token outside"),
        ('{"a": [9, 17, 99999999999999999999]}', "beyond 64 bits"),
        ('{"a": [9, 17, 25], "b": [9, 18, 25], "c": [9, 17, 25]}', "items 'a' and 'c' are spelt alike"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused_by_name(tmp_path, index, message):
    (tmp_path / "i.json").write_text(index)
    with pytest.raises(DataError, match=message):
        read_index(tmp_path / "i.json", VOCAB, dict)


def test_strings_that_the_tokenizer_does_not_know_are_named(tmp_path):
    made(tmp_path)
    (tmp_path / "i.json").write_text('{"a": ["<a_1>", "<b_77>"]}')
    with pytest.raises(ConfigError, match="no tokenizer that loads"):
        convert(tmp_path, tmp_path / "i.json")
    tokenizer(tmp_path / "model")
    with pytest.raises(DataError, match="does not know 1 tokens, the first is '<b_77>'"):
        convert(tmp_path, tmp_path / "i.json")


def test_a_token_may_serve_several_levels(tmp_path):
    model = tiny_llama(tmp_path / "model")
    items = {f"{a}{b}{c}": [20 + a, 20 + b, 20 + c] for a in range(3) for b in range(3) for c in range(3)}
    (tmp_path / "i.json").write_text(json.dumps(items))
    convert(tmp_path, tmp_path / "i.json")
    with Recommender.load(tmp_path / "bundle") as recommender:
        best = recommender.recommend(["012"], k=1, beam=27, exclude_seen=False)[0]
    read = torch.tensor([[20, 21, 22, *items[best.item_id]]])
    with torch.no_grad():
        log_p = model(read).logits.log_softmax(-1)[0, 2:-1].gather(1, read[0, 3:, None]).sum()
    assert abs(best.score - float(log_p)) < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral"}, "model_type 'mistral'; only 'llama'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "type 'yarn' cannot be converted"),
        ({"rope_parameters": None, "partial_rotary_factor": 0.5}, None),
        ({"num_key_value_heads": 3}, "do not fit together"),
        ({"hidden_size": None}, "not a whole Llama configuration"),
        ({"intermediate_size": 25}, "config.json makes it"),
        ({"num_hidden_layers": 3}, r"lacks the tensor 'layers\.2"),
        ({"num_hidden_layers": 1}, r"has a tensor 'layers\.1"),
    ],
)
def test_a_model_that_is_not_understood_is_refused(tmp_path, change, message):
    made(tmp_path)
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    if message is None:
        change = {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        message = "a part of each head"
    with pytest.raises(ConfigError, match=message):
        convert(tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_missing_and_broken_files_are_named(tmp_path):
    made(tmp_path)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read"):
        convert(tmp_path)
    weights.unlink()
    with pytest.raises(ConfigError, match=r"neither model\.safetensors nor"):
        convert(tmp_path)
    (tmp_path / "model" / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../../secret"}}')
    with pytest.raises(ConfigError, match="no plain file name"):
        convert(tmp_path)
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        convert(tmp_path)


def test_adapters_beside_the_weights_are_refused(tmp_path):
    made(tmp_path)
    path = tmp_path / "model" / "model.safetensors"
    save_file({**load_file(path), "model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 16)}, path)
    with pytest.raises(ConfigError, match="merge adapters"):
        convert(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_history": 0}, "max_history 0"),
        ({"headroom": 0.5}, "headroom 0.5"),
        ({"max_history": 21}, "made for 64"),
        ({"prompt": [BOS, VOCAB]}, f"has token {VOCAB}"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, message):
    made(tmp_path)
    with pytest.raises(PocketRecError, match=message):
        convert(tmp_path, **options)
