"""One rule for k and beam, whatever the engine and the call: whole numbers from 1 on, cut to the catalogue's size."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from device_engines import DEVICE_ENGINES
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.recommender import Recommender
from tiny import random_rows, tiny_bundle, tiny_student

ITEMS = 40
HISTORY = ["item-3", "item-17"]
WIDE = [ITEMS, 10**6, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, np.int64(2**62), np.uint64(2**63), np.uint8(200)]
WRONG = [0, -1, -(2**63), -(2**64), True, False, np.True_, 2.0, np.float32(3), "4", b"4", [4], None, np.int64(-1)]
CALLS = {
    "list": lambda rec, **how: rec.recommend(HISTORY, **how),
    "tuple": lambda rec, **how: rec.recommend(tuple(HISTORY), **how),
    "async": lambda rec, **how: asyncio.run(rec.recommend_async(HISTORY, **how)),
    "batch": lambda rec, **how: rec.recommend_batch([HISTORY], **how)[0],
    "session": lambda rec, **how: rec.session(HISTORY).recommend(**how),
    "control": lambda rec, **how: rec.recommend(HISTORY, control=rec.control(bias={"item-5": 1.0}), **how),
    "diverse": lambda rec, **how: rec.recommend(HISTORY, control=rec.control(diversity=0.5), **how),
    "within": lambda rec, **how: rec.recommend(HISTORY, within=rec.trie.filter_ids(["item-3", "item-4"]), **how),
    "rows": lambda rec, **how: list(
        zip(*map(np.ndarray.tolist, rec.recommend_rows(rec.trie.table.find(HISTORY), **how)), strict=True)
    ),
}


@pytest.fixture(scope="module", params=DEVICE_ENGINES)
def rec(request, tmp_path_factory):
    folder = tiny_bundle(tmp_path_factory.mktemp("arguments") / "b", tiny_student(), random_rows(ITEMS))
    with Recommender.load(folder, request.param) as recommender:
        yield recommender


def same(found, expected):
    assert [item[0] for item in found] == [item[0] for item in expected]
    np.testing.assert_allclose([item[1] for item in found], [item[1] for item in expected], atol=1e-4)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", WIDE, ids=repr)
def test_a_number_above_the_catalogue_is_as_good_as_its_size(rec, call, number):
    same(CALLS[call](rec, k=number), CALLS[call](rec, k=ITEMS))
    same(CALLS[call](rec, k=5, beam=number), CALLS[call](rec, k=5, beam=ITEMS))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", WRONG, ids=repr)
def test_anything_but_a_whole_number_from_one_on_is_refused(rec, call, number):
    with pytest.raises(ConfigError, match="k is"):
        CALLS[call](rec, k=number)
    if number is not None:  # the model's own beam
        with pytest.raises(ConfigError, match="beam is"):
            CALLS[call](rec, beam=number)


def test_a_numpy_number_is_as_good_as_an_int(rec):
    for call in CALLS.values():
        same(call(rec, k=np.int32(3), beam=np.uint16(7)), call(rec, k=3, beam=7))
