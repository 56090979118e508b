"""`pocketrec bench`: every peer answers as the bundle's rules say, and its rows hold what they promise."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from command import pocketrec

from pocketrec.bench.systems import OURS, PEERS, SYSTEMS
from pocketrec.runtime.compiled import native
from pocketrec.runtime.recommender import Recommender
from tiny import random_rows, tiny_bundle, tiny_student

ITEMS, LONGEST, BEAM = 60, 6, 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bench") / "b", tiny_student(), random_rows(ITEMS), beam=ITEMS)


def test_all_rows_are_there_and_a_missing_package_leaves_one_out(bundle, tmp_path):
    code, out, err = pocketrec(
        "bench", bundle, "--against", "dense", "--against", "onnx-loop", "--calls", 4, "--rounds", 2, "-k", 5,
        "--plot", tmp_path / "p.svg", "--json",
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(out)
    mine = OURS if native else OURS[:2]
    assert [row["system"] for row in result["rows"]] == [*mine, "dense", "onnx-loop"]
    for row in result["rows"]:
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["cold_s"] > 0
        assert row["rss_mb"] > 10
    assert set(result["faster_than"]) == {"dense", "onnx-loop"}
    assert result["ratios"]["pocketrec"] == result["faster_than"]
    assert set(result["ratios"]) == set(mine)
    drawn = ElementTree.parse(tmp_path / "p.svg").getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 1 + len(mine) + 2


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


def test_an_unknown_peer_is_a_usage_error(bundle):
    code, _, err = pocketrec("bench", bundle, "--against", "guess")
    assert code == 2
    for name in PEERS:
        assert name in " ".join(err.split())
