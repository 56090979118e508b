"""`pocketrec train`: one object for scripts, resumable stages, a student that learns, with and without teachers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from command import MEASURES, train_ring
from transformers import LlamaConfig, LlamaModel


def test_train_prints_one_object_with_what_scripts_rely_on(trained):
    run, result = trained
    assert {"run", "bundle", "metrics", "baselines", "seconds"} <= result.keys()
    assert result["run"] == str(run)
    assert result["metrics"].keys() >= MEASURES
    assert set(result["baselines"]) == {
        "popularity",
        "co-occurrence",
        "transition graph",
        "graph and words",
        "SASRec-CE",
    }
    for measured in (result["metrics"], *result["baselines"].values()):
        assert measured["seen excluded"].keys() >= MEASURES
    assert (Path(result["bundle"]) / "manifest.json").is_file()
    assert "recommendations" in Path(result["report"]).read_text(encoding="utf-8").lower()


def test_the_student_learns_and_only_ever_names_items_that_exist(trained):
    _, result = trained
    assert result["metrics"]["invalid"] == 0
    assert result["metrics"]["recall@10"] > 1.5 * result["baselines"]["popularity"]["recall@10"]


def test_a_second_run_does_nothing_and_gives_the_same(trained, log):
    run, first = trained
    code, out, err = train_ring(log, run, "--json")
    assert code == 0
    assert err.count("done before") == 8
    assert "running" not in err
    assert json.loads(out)["metrics"] == first["metrics"]


def test_stages_are_listed_with_their_state(trained, log):
    run, _ = trained
    code, out, _ = train_ring(log, run, "--stages", "--json")
    assert code == 0
    assert [(s["name"], s["state"]) for s in json.loads(out)["stages"]] == [
        (name, "done") for name in ("data", "text", "sids", "sasrec", "student", "baselines", "export", "report")
    ]
    _, out, _ = train_ring(log, run, "--stages", "--json", "--set", "export.beam=7")
    states = {s["name"]: s["state"] for s in json.loads(out)["stages"]}
    assert (states["student"], states["export"]) == ("done", "changed")


def test_a_bundle_of_another_schema_is_exported_again_and_nothing_else_runs(trained, log, monkeypatch):
    monkeypatch.setattr("pocketrec.run.pipeline.SCHEMA_VERSION", 0)
    _, out, _ = train_ring(log, trained[0], "--stages", "--json")
    changed = [stage["name"] for stage in json.loads(out)["stages"] if stage["state"] != "done"]
    assert changed == ["export", "report"]


def test_the_same_run_from_nothing_gives_the_same_bundle_byte_for_byte(trained, log, tmp_path):
    run, _ = trained
    code, _, err = train_ring(log, tmp_path / "again")
    assert code == 0, err
    first, second = (json.loads((r / "export/bundle/manifest.json").read_text()) for r in (run, tmp_path / "again"))
    assert first == second


def test_a_committee_of_sasrec_and_the_graph_teaches_the_student(trained, log, tmp_path):
    run = tmp_path / "taught"
    shutil.copytree(trained[0], run)
    more = ("--set", "teacher.enabled=true", "--set", 'soft_labels.members=["sasrec","graph"]', "--json")
    more += ("--set", "preference.method=s-dpo", "--set", "soft_labels.copies=1", "--set", "soft_labels.sasrec_folds=2")
    more += ("--set", "student.pair_dim=8")
    code, out, err = train_ring(log, run, *more)
    assert code == 0, err
    assert err.count("done before") == 5  # all but the stages that a teacher changes
    result = json.loads(out)
    curve = json.loads((run / "preference" / "curve.json").read_text())
    assert curve["kept"] == (curve["after"]["ndcg@10"] > curve["before"]["ndcg@10"])
    assert result["teachers"]["committee"]["recall@10"] > result["baselines"]["popularity"]["recall@10"]
    assert result["metrics"]["invalid"] == 0
    assert result["metrics"]["recall@10"] > 1.5 * result["baselines"]["popularity"]["recall@10"]
    assert "committee" in Path(result["report"]).read_text(encoding="utf-8")
    code, _, err = train_ring(log, run, *more)
    assert (code, err.count("done before")) == (0, 11)


def test_a_language_model_teaches_with_features_and_first_layers(trained, log, tmp_path):
    run = tmp_path / "llm"
    shutil.copytree(trained[0], run)
    shape = LlamaConfig(
        vocab_size=8, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaModel(shape).save_pretrained(tmp_path / "llama")
    settings = (
        "teacher.enabled=true", f"teacher.backbone={tmp_path / 'llama'}", "teacher.layers=2", "teacher.train.epochs=2",
        "teacher.select=0.5", "soft_labels.features=2", "distill.cosine=1.0", "distill.norm=0.1",
        "distill.intermediate=0.5", "distill.start=teacher",
        "student.dim=32", "student.heads=2", "student.kv_heads=2", "student.ffn=48", "student.layers=2",
    )  # fmt: skip
    code, out, err = train_ring(log, run, "--json", *(part for setting in settings for part in ("--set", setting)))
    assert code == 0, err
    result = json.loads(out)
    assert set(result["teachers"]) == {"committee", "teacher LLM"}
    weights = json.loads((run / "soft-labels" / "committee.json").read_text())["weights"]["exponents"]
    assert set(weights) == {"llm", "sasrec", "graph"}
    assert result["metrics"]["recall@10"] > 1.5 * result["baselines"]["popularity"]["recall@10"]


def test_a_run_goes_on_from_a_stage(trained, log, tmp_path):
    run, first = trained
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    code, out, err = train_ring(log, copy, "--from", "export", "--json")
    assert code == 0
    assert err.count("done before") == 6
    assert json.loads(out)["metrics"] == first["metrics"]
