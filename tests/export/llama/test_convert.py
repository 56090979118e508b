"""Converting a causal Llama: parity with `generate`, titles, and options that are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from pocketrec.runtime.errors import PocketRecError
from pocketrec.runtime.recommender import Recommender
from tiny import LEVELS
from tiny_llama import BOS, ITEMS, PROMPT, VOCAB, judge, tiny_conversion, tiny_llama, tiny_source, tokens_of


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
    model, _, rows = tiny_source(tmp_path, **settings)
    tiny_conversion(tmp_path, prompt=prompt)
    generator = np.random.default_rng(0)
    with Recommender.load(tmp_path / "bundle") as recommender:
        for length in (1, 2, 6, 6, 6):
            history = generator.choice(ITEMS, length, replace=False).tolist()
            items, scores = by_generate(model, rows, history, prompt, beam=8, k=5)
            found = recommender.recommend([f"item-{i}" for i in history], k=5, exclude_seen=False, beam=8)
            assert [r.item_id for r in found] == items
            np.testing.assert_allclose([r.score for r in found], scores, atol=1e-4)


def test_a_longer_history_is_read_from_its_newest_items(tmp_path):
    tiny_source(tmp_path)
    tiny_conversion(tmp_path, max_history=2)
    with Recommender.load(tmp_path / "bundle") as recommender:
        long, short = (
            recommender.recommend(ids, k=5, exclude_seen=False)
            for ids in (["item-9", "item-1", "item-2"], ["item-1", "item-2"])
        )
        assert long == short


def test_titles_come_along_and_items_without_one_have_none(tmp_path):
    tiny_source(tmp_path)
    tiny_conversion(tmp_path, item_titles={"item-3": "Three"})
    with Recommender.load(tmp_path / "bundle") as recommender:
        titles = {r.item_id: r.title for r in recommender.recommend([], k=ITEMS)}
    assert titles["item-3"] == "Three"
    assert titles["item-4"] is None


def test_the_same_model_gives_the_same_bytes(tmp_path):
    tiny_source(tmp_path)
    assert tiny_conversion(tmp_path) == tiny_conversion(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_become_float32(tmp_path, dtype):
    model, _, rows = tiny_source(tmp_path)
    model.to(dtype).save_pretrained(tmp_path / "model")
    tiny_conversion(tmp_path)
    with Recommender.load(tmp_path / "bundle") as recommender:
        found = recommender.recommend(["item-0"], k=ITEMS, exclude_seen=False)
    again = LlamaForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    truth = judge(again, (), rows[:1], rows)
    np.testing.assert_allclose([r.score for r in found], np.sort(truth)[::-1], atol=1e-4)


def test_a_token_may_serve_several_levels(tmp_path):
    model = tiny_llama(tmp_path / "model")
    items = {f"{a}{b}{c}": [20 + a, 20 + b, 20 + c] for a in range(3) for b in range(3) for c in range(3)}
    (tmp_path / "i.json").write_text(json.dumps(items))
    tiny_conversion(tmp_path, tmp_path / "i.json")
    with Recommender.load(tmp_path / "bundle") as recommender:
        best = recommender.recommend(["012"], k=1, beam=27, exclude_seen=False)[0]
    read = torch.tensor([[20, 21, 22, *items[best.item_id]]])
    with torch.no_grad():
        log_p = model(read).logits.log_softmax(-1)[0, 2:-1].gather(1, read[0, 3:, None]).sum()
    assert abs(best.score - float(log_p)) < 1e-4


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
    tiny_source(tmp_path)
    with pytest.raises(PocketRecError, match=message):
        tiny_conversion(tmp_path, **options)
