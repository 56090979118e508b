"""The item index: what it must hold, and what is refused in which words."""

from __future__ import annotations

import json

import pytest

from pocketrec.export.llama.index import read_index
from pocketrec.runtime.errors import DataError
from tiny import random_rows
from tiny_llama import FIRST, ITEMS, VOCAB, tiny_conversion, tiny_source, tokens_of


def test_other_tokens_are_another_space(tmp_path):
    tiny_source(tmp_path)
    spaces = {tiny_conversion(tmp_path).model.sid_space}
    shifted = {f"item-{i}": [t - FIRST for t in row] for i, row in enumerate(tokens_of(random_rows(ITEMS)).tolist())}
    (tmp_path / "other.json").write_text(json.dumps(shifted))
    spaces.add(tiny_conversion(tmp_path, tmp_path / "other.json").model.sid_space)
    assert len(spaces) == 2


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "not an object of items"),
        ("{}", "not an object of items"),
        ('{"a": [9, 17, 25], "a": [9, 17, 26]}', "twice"),
        ('{"a": "<a_1>"}', "must be a list of 1 to 8 tokens"),
        ('{"a": [9, 17, 25], "b": [9, 17]}', "item 'b' is .* the first item has 3 tokens"),
        ('{"a": [9, 17, 25], "b": [9, 17, "x"]}', "item 'b' is .* strings for all items, or token ids"),
        ('{"a": [9, 17, 25], "b": [9, 17, true]}', "item 'b' is"),
        ('{"a": [9, 17, 25], "b": [9, 17, 40]}', "item 'b' has a token outside the model's vocabulary of 40"),
        ('{"a": [9, 17, 25], "b": [-1, 17, 25]}', "item 'b' has a token outside"),
        ('{"a": [9, 17, 99999999999999999999]}', "more than 64 bits"),
        ('{"a": [9, 17, 25], "b": [9, 18, 25], "c": [9, 17, 25]}', "items 'a' and 'c' have the same tokens"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused_by_name(tmp_path, index, message):
    (tmp_path / "i.json").write_text(index)
    with pytest.raises(DataError, match=message):
        read_index(tmp_path / "i.json", VOCAB, dict)
