"""A converted model's tensors beside the blocks: its tokens, their embeddings, its head."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.export.llama.source import read_source
from pocketrec.export.llama.weights import token_weights
from tiny import LEVELS
from tiny_llama import BOS, PROMPT, tiny_source


@pytest.mark.parametrize(("prompt", "leading"), [((), [BOS]), (PROMPT, list(PROMPT))], ids=["no prompt", "prompt"])
def test_tokens_are_those_of_the_codes_and_then_the_prompt_or_the_first_token(tmp_path, prompt, leading):
    _, index, rows = tiny_source(tmp_path)
    source = read_source(tmp_path / "model", index, prompt)
    tokens = token_weights(source, max_history=4)["tokens"]
    of_codes = tokens[: LEVELS * source.index.codes].reshape(LEVELS, -1)
    assert tokens[of_codes.size :].tolist() == leading
    spelt = of_codes[np.arange(LEVELS), source.index.rows.astype(np.int64)]
    np.testing.assert_array_equal(spelt, source.index.item_tokens())
    assert len(spelt) == len(rows)


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_are_kept_only_where_the_head_does_not_hold_them(tmp_path, tied):
    model, index, _ = tiny_source(tmp_path, tie_word_embeddings=tied)
    tensors = token_weights(read_source(tmp_path / "model", index), max_history=4)
    table = model.model.embed_tokens.weight.detach().numpy()
    rows = tensors["head"][tensors["tokens"]] if tied else tensors["embed"]
    assert ("embed" in tensors) is not tied
    np.testing.assert_array_equal(rows, table[tensors["tokens"]])
    np.testing.assert_array_equal(tensors["head"], model.lm_head.weight.detach().numpy())
