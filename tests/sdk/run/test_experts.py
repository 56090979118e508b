"""A run with experts: crowd and words are built, weighed and shipped, and a refresh keeps them."""

from __future__ import annotations

import json

import pytest
from command import pocketrec, train_ring, write_ring

from pocketrec import Recommender

WITH_EXPERTS = ("--set", "experts.enabled=true", "--set", "train.epochs=1")  # a student that has learnt next to nothing


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    folder = write_ring(tmp_path_factory.mktemp("ring"))
    code, out, errors = train_ring(folder, folder / "run", *WITH_EXPERTS, "--json")
    assert code == 0, errors
    (folder / "result.json").write_text(out)
    return folder


def test_the_crowd_names_the_next_item_where_the_student_cannot(ring):
    bundle = ring / "run/export/bundle"
    with Recommender.load(bundle) as fused, Recommender.load(bundle, experts=False) as alone:
        hits = [
            [found.recommend([f"i{i}", f"i{i + 1}"], k=1)[0].item_id == f"i{i + 2}" for i in range(50)]
            for found in (fused, alone)
        ]
    assert sum(hits[0]) > 40 > sum(hits[1])


def test_the_bundle_lists_its_experts_and_their_weights(ring):
    manifest = json.loads((ring / "run/export/bundle/manifest.json").read_text())
    assert manifest["fusion"]["crowd"] > 0
    assert "graph.safetensors" in manifest["files"]


def test_the_run_and_its_report_say_what_the_graph_reveals(ring):
    sentence = "at least 2 people made"
    assert sentence in json.loads((ring / "run/experts/privacy.json").read_text())["sentence"]
    assert sentence in (ring / "run/report/report.html").read_text()
    assert sentence in json.loads((ring / "result.json").read_text())["privacy"]


def test_a_refreshed_catalogue_still_follows_the_crowd(ring, tmp_path):
    lines = (ring / "items.csv").read_text().splitlines()
    (tmp_path / "items.csv").write_text("\n".join([*lines[:-5], 'new,"Thing, new",kind 1']) + "\n")
    code, _, errors = pocketrec(
        "catalog", "refresh", ring / "run", "--items", tmp_path / "items.csv", "--out", tmp_path / "fresh"
    )
    assert code == 0, errors
    with Recommender.load(tmp_path / "fresh") as fresh:
        hits = [fresh.recommend([f"i{i}", f"i{i + 1}"], k=1)[0].item_id == f"i{i + 2}" for i in range(50)]
    assert sum(hits) > 40


def test_an_export_of_the_run_has_the_experts_too(ring, tmp_path):
    code, out, errors = pocketrec(
        "export", ring / "run", "--quantize", "int8", "--max-drop", "1", "--out", tmp_path / "int8", "--json"
    )
    assert code == 0, errors + out
    assert json.loads((tmp_path / "int8/manifest.json").read_text())["fusion"]["crowd"] > 0


def test_the_student_and_each_expert_are_measured_alone_on_the_same_users(ring):
    result = json.loads((ring / "result.json").read_text())
    assert {"student", "crowd"} <= result["alone"].keys()
    for alone in result["alone"].values():
        for own, whole in ((alone, result["metrics"]), (alone["seen excluded"], result["metrics"]["seen excluded"])):
            assert own["users"] == whole["users"]
            assert own["recall@10"] >= 0
    assert result["alone"]["student"]["recall@10"] < result["metrics"]["recall@10"]
    assert "+ student: recall@10" in result["verdict"]
    assert "above student alone (p\u00a0<\u00a0.001)" in result["verdict"]
    report = (ring / "run/report/report.html").read_text(encoding="utf-8")
    for text in ("Student alone", "Crowd alone", result["verdict"].replace("<", "&lt;")):
        assert text in report


def test_a_student_learns_beside_its_companions_from_a_committee_with_words(ring):
    """Semantic IDs from SASRec's embeddings, a committee with words, labels without what the device adds."""
    code, _, errors = train_ring(
        ring, ring / "taught", *WITH_EXPERTS, "--set", "teacher.enabled=true",
        "--set", 'soft_labels.members=["sasrec", "graph", "words"]', "--set", "distill.companions=1",
        "--set", "sid.collaborative_source=sasrec",
    )  # fmt: skip
    assert code == 0, errors
    record = json.loads((ring / "taught/soft-labels/committee.json").read_text())
    assert set(record["weights"]["exponents"]) == {"sasrec", "graph", "words"}
    assert record["companions"]["strength"] == 1
    assert record["companions"]["crowd"] > 0
    assert set(record["valid_ndcg"]) >= {"sasrec", "graph", "words", "by likelihood", "committee"}


def test_companions_without_experts_are_refused(ring):
    code, _, errors = train_ring(ring, ring / "none", "--set", "teacher.enabled=true", "--set", "distill.companions=1")
    assert code == 2
    assert "experts.enabled=true" in errors
