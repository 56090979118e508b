"""`pocketrec recommend`: items that exist, with titles; a damaged bundle is refused."""

from __future__ import annotations

import json
import shutil

import pytest
from command import pocketrec


def test_recommend_gives_items_with_titles_and_names_the_unknown(trained):
    _, result = trained
    code, out, _ = pocketrec("recommend", result["bundle"], "--history", "i1,nobody,i2", "-k", "4", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["unknown"] == ["nobody"]
    assert len(found["items"]) == 4
    assert all(i["title"] == f"Thing, number {i['item_id'][1:]}" for i in found["items"])
    assert not {"i1", "i2"} & {i["item_id"] for i in found["items"]}
    code, out, _ = pocketrec("recommend", result["bundle"], "--history", "", "-k", "1000", "--json")
    assert len(json.loads(out)["items"]) == 60


def test_explain_says_why_in_a_sentence_and_in_shares(trained):
    _, result = trained
    ask = ("recommend", result["bundle"], "--history", "i1,i2", "-k", "2", "--explain")
    code, out, _ = pocketrec(*ask, "--json")
    assert code == 0
    for item in json.loads(out)["items"]:
        assert sum(item["shares"].values()) == pytest.approx(1)
        assert set(item["history"]) == {"i1", "i2"}
        assert item["why"] in pocketrec(*ask)[1]


def test_a_damaged_bundle_is_refused(trained, tmp_path):
    _, result = trained
    copy = tmp_path / "bundle"
    shutil.copytree(result["bundle"], copy)
    graph = copy / "recommender.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    code, out, err = pocketrec("recommend", copy, "--history", "i1")
    assert (code, out) == (1, "")
    assert "recommender.onnx" in err
