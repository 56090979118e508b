"""The systems that `pocketrec bench` times: peers search the same space, and ours recommend what the runtime does."""

from __future__ import annotations

import pytest

from pocketrec.bench.systems import SYSTEMS
from pocketrec.runtime.recommender import Recommender
from tiny import random_rows, tiny_bundle, tiny_student

ITEMS, LONGEST, BEAM = 60, 6, 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bench") / "b", tiny_student(), random_rows(ITEMS), beam=ITEMS)


@pytest.mark.parametrize("peer", ["generate", "onnx-loop", "llama.cpp"])
def test_peers_search_the_same_space_and_agree_with_one_another(bundle, tmp_path, peer):
    if peer == "llama.cpp":
        pytest.importorskip("llama_cpp", reason="llama.cpp runs on llama-cpp-python")
    (tmp_path / "truth").mkdir()
    (tmp_path / "peer").mkdir()
    history = [f"item-{i}" for i in range(LONGEST)]
    expected = SYSTEMS["generate"](bundle, tmp_path / "truth", BEAM, 10)(history)
    assert SYSTEMS[peer](bundle, tmp_path / "peer", BEAM, 10)(history) == expected
    assert len(set(expected)) == 10


def test_a_session_of_the_bench_gives_what_a_call_gives(bundle, tmp_path):
    history = [f"item-{i}" for i in range(LONGEST)]
    with Recommender.load(bundle) as recommender:
        expected = [item.item_id for item in recommender.recommend(history, 5)]
    for name in ("pocketrec", "pocketrec session", "pocketrec onnx", "pocketrec onnx session"):
        assert SYSTEMS[name](bundle, tmp_path, ITEMS, 5)(history) == expected
