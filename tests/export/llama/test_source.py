"""A model with its index and prompt: token strings and prompts in words, by the model's tokenizer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from pocketrec.export.llama.source import read_source
from pocketrec.runtime.errors import ConfigError, DataError
from tiny import CODES
from tiny_llama import FIRST, VOCAB, tiny_source


def tokenizer(folder):
    """One that knows `<a_0>` … `<c_7>` under the ids of `tokens_of`, and two words."""
    words = {f"word{i}": i for i in range(FIRST)}
    tokens = Tokenizer(WordLevel(words, unk_token="word0"))
    tokens.add_tokens([AddedToken(f"<{x}_{c}>", special=False) for x in "abc" for c in range(CODES)])
    PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="word0").save_pretrained(folder)


def test_token_strings_and_a_prompt_in_words_mean_their_ids(tmp_path):
    _, index, rows = tiny_source(tmp_path)
    by_ids = read_source(tmp_path / "model", index, [FIRST])
    tokenizer(tmp_path / "model")
    strings = {f"item-{i}": [f"<{x}_{c}>" for x, c in zip("abc", row, strict=True)] for i, row in enumerate(rows)}
    (tmp_path / "strings.json").write_text(json.dumps(strings))
    by_words = read_source(tmp_path / "model", tmp_path / "strings.json", "<a_0>")
    assert by_words.prompt == by_ids.prompt == (FIRST,)
    assert by_words.index.item_ids == by_ids.index.item_ids
    np.testing.assert_array_equal(by_words.index.item_tokens(), by_ids.index.item_tokens())


def test_strings_that_the_tokenizer_does_not_know_are_named(tmp_path):
    tiny_source(tmp_path)
    (tmp_path / "i.json").write_text('{"a": ["<a_1>", "<b_77>"]}')
    with pytest.raises(ConfigError, match=r"cannot be loaded .*; give token ids in the index and the prompt"):
        read_source(tmp_path / "model", tmp_path / "i.json")
    tokenizer(tmp_path / "model")
    with pytest.raises(DataError, match="does not know 1 tokens, the first is '<b_77>'"):
        read_source(tmp_path / "model", tmp_path / "i.json")


def test_a_prompt_outside_the_vocabulary_is_refused(tmp_path):
    _, index, _ = tiny_source(tmp_path)
    with pytest.raises(ConfigError, match=f"has token {VOCAB}, but the model's vocabulary has {VOCAB} tokens"):
        read_source(tmp_path / "model", index, [VOCAB])
