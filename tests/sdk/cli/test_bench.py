"""`pocketrec bench`: its rows hold what they promise, and a system that cannot run is left out."""

from __future__ import annotations

import json
import sys
from xml.etree import ElementTree

import pytest
from command import pocketrec

from pocketrec.bench.systems import OURS, PEERS
from pocketrec.runtime.compiled import native
from tiny import random_rows, tiny_bundle, tiny_student

ITEMS = 60


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


def test_a_chart_without_jinja2_is_refused_before_anything_is_measured(bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("pocketrec.bench.bench.bench", lambda *arguments: pytest.fail("it was measured"))
    code, _, err = pocketrec("bench", bundle, "--alone", "--plot", tmp_path / "p.svg")
    assert code == 1
    assert "pocketrec[train]" in err


def test_an_unknown_peer_is_a_usage_error(bundle):
    code, _, err = pocketrec("bench", bundle, "--against", "guess")
    assert code == 2
    for name in PEERS:
        assert name in " ".join(err.split())
