"""Writing a bundle: whole or not at all, with room for the catalogue to grow, and a card of what was measured."""

from __future__ import annotations

import pytest

from pocketrec.export.bundle import BundleItems, BundleSettings, Measured, write_bundle
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.errors import ConfigError, TrieError
from tiny import CODES, SPACE, random_rows, tiny_bundle, tiny_student

ROWS = random_rows(20)
ITEMS = BundleItems(ROWS, [f"item-{i}" for i in range(20)], None, SPACE)
SETTINGS = BundleSettings(beam=4, headroom=1.0)


def test_what_is_measured_on_the_files_goes_into_manifest_and_card(tmp_path):
    seen = []

    def measure(folder):
        seen.append(open_bundle(folder).manifest.metrics)
        return Measured({"seen kept": {"ndcg@10": 0.123456}}, [{"artifact": "onnx none"}])

    manifest = write_bundle(tmp_path / "b", tiny_student(), ITEMS, SETTINGS, {"run": "x"}, measure)
    assert seen == [{}]  # a complete bundle, measured before it has its name
    assert open_bundle(tmp_path / "b").manifest == manifest
    assert manifest.metrics == {"seen kept": {"ndcg@10": 0.123456}}
    assert manifest.gates == ({"artifact": "onnx none"},)
    assert manifest.provenance == {"run": "x"}
    assert "| seen kept, ndcg@10 | 0.12346 |" in (tmp_path / "b" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("older", [True, False])
def test_a_bundle_that_fails_its_measurement_leaves_what_was_there(tmp_path, older):
    if older:
        tiny_bundle(tmp_path / "b", tiny_student(1), ROWS)
        before = open_bundle(tmp_path / "b").manifest

    def measure(folder):
        raise RuntimeError("lost too much")

    with pytest.raises(RuntimeError, match="lost too much"):
        write_bundle(tmp_path / "b", tiny_student(), ITEMS, SETTINGS, measure=measure)
    assert [path.name for path in tmp_path.iterdir()] == (["b"] if older else [])
    assert not older or open_bundle(tmp_path / "b").manifest == before


def test_a_bundle_replaces_an_older_one(tmp_path):
    tiny_bundle(tmp_path / "b", tiny_student(1), ROWS)
    (tmp_path / "b" / "left over").write_text("x")
    manifest = write_bundle(tmp_path / "b", tiny_student(), ITEMS, SETTINGS)
    assert open_bundle(tmp_path / "b").manifest == manifest
    assert not (tmp_path / "b" / "left over").exists()


@pytest.mark.parametrize(("headroom", "factor"), [(1.0, 1), (2.0, 2), (100.0, 100)])
def test_the_graph_has_room_for_wider_branches_but_never_for_more_than_all_codes(headroom, factor):
    trie = ITEMS.trie(CODES)
    expected = tuple(min(CODES, branch * factor) for branch in trie.max_branch)
    assert BundleSettings(4, headroom).max_branch(trie) == expected


def test_items_and_schemes_that_cannot_be_are_refused(tmp_path):
    twice = BundleItems(ROWS[[0, 0]], ["a", "b"], None, SPACE)
    with pytest.raises(TrieError):
        write_bundle(tmp_path / "b", tiny_student(), twice, SETTINGS)
    with pytest.raises(ConfigError, match="no quantisation 'int3'"):
        write_bundle(tmp_path / "b", tiny_student(), ITEMS, BundleSettings(4, 1.0, quantize="int3"))
    assert not (tmp_path / "b").exists()
