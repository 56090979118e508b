"""The command line from end to end on a small log: its contract with scripts, its exit codes, its resuming."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from command import pocketrec, write_ring
from transformers import LlamaConfig, LlamaModel

SETTINGS = (
    "sid.codes=16", "student.dim=32", "student.ffn=32", "student.decoder_dim=32", "train.epochs=12",
    "train.batch_size=32", "train.learning_rate=0.01", "sasrec.dim=16",
    "sasrec.train.epochs=2", "sasrec.train.batch_size=32",
)  # fmt: skip
MEASURES = {"recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr", "invalid", "users"}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_ring(tmp_path_factory.mktemp("input"))


def train(log, run, *more):
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return pocketrec(
        "train", "--interactions", log / "log.csv", "--items", log / "items.csv", "--out", run, *settings, *more
    )


@pytest.fixture(scope="module")
def trained(log, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "first"
    code, out, err = train(log, run, "--json")
    assert code == 0, err
    return run, json.loads(out)


def test_train_prints_one_object_with_what_scripts_rely_on(trained):
    run, result = trained
    assert {"run", "bundle", "metrics", "baselines", "seconds"} <= result.keys()
    assert result["run"] == str(run)
    assert result["metrics"].keys() >= MEASURES
    assert set(result["baselines"]) == {"popularity", "co-occurrence", "transition graph", "SASRec-CE"}
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
    code, out, err = train(log, run, "--json")
    assert code == 0
    assert err.count("done before") == 8
    assert "running" not in err
    assert json.loads(out)["metrics"] == first["metrics"]


def test_stages_are_listed_with_their_state(trained, log):
    run, _ = trained
    code, out, _ = train(log, run, "--stages", "--json")
    assert code == 0
    assert [(s["name"], s["state"]) for s in json.loads(out)["stages"]] == [
        (name, "done") for name in ("data", "text", "sids", "sasrec", "student", "baselines", "export", "report")
    ]
    _, out, _ = train(log, run, "--stages", "--json", "--set", "export.beam=7")
    states = {s["name"]: s["state"] for s in json.loads(out)["stages"]}
    assert (states["student"], states["export"]) == ("done", "changed")


def test_the_same_run_from_nothing_gives_the_same_bundle_byte_for_byte(trained, log, tmp_path):
    run, _ = trained
    code, _, err = train(log, tmp_path / "again")
    assert code == 0, err
    first, second = (json.loads((r / "export/bundle/manifest.json").read_text()) for r in (run, tmp_path / "again"))
    assert first == second


def test_a_committee_of_sasrec_and_the_graph_teaches_the_student(trained, log, tmp_path):
    run = tmp_path / "taught"
    shutil.copytree(trained[0], run)
    more = ("--set", "teacher.enabled=true", "--set", 'soft_labels.members=["sasrec","graph"]', "--json")
    more += ("--set", "preference.method=s-dpo", "--set", "soft_labels.copies=1", "--set", "soft_labels.sasrec_folds=2")
    more += ("--set", "student.pair_dim=8")
    code, out, err = train(log, run, *more)
    assert code == 0, err
    assert err.count("done before") == 5  # all but the stages that a teacher changes
    result = json.loads(out)
    curve = json.loads((run / "preference" / "curve.json").read_text())
    assert curve["kept"] == (curve["after"]["ndcg@10"] > curve["before"]["ndcg@10"])
    assert result["teachers"]["committee"]["recall@10"] > result["baselines"]["popularity"]["recall@10"]
    assert result["metrics"]["invalid"] == 0
    assert result["metrics"]["recall@10"] > 1.5 * result["baselines"]["popularity"]["recall@10"]
    assert "committee" in Path(result["report"]).read_text(encoding="utf-8")
    code, _, err = train(log, run, *more)
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
    code, out, err = train(log, run, "--json", *(part for setting in settings for part in ("--set", setting)))
    assert code == 0, err
    result = json.loads(out)
    assert set(result["teachers"]) == {"committee", "teacher LLM"}
    weights = json.loads((run / "soft-labels" / "committee.json").read_text())["weights"]["exponents"]
    assert set(weights) == {"llm", "sasrec", "graph"}
    assert result["metrics"]["recall@10"] > 1.5 * result["baselines"]["popularity"]["recall@10"]


def test_evaluate_gives_what_training_measured(trained, log):
    _, result = trained
    code, out, err = pocketrec("evaluate", result["bundle"], "--interactions", log / "log.csv", "--json")
    assert code == 0, err
    measured = json.loads(out)
    assert {"p50_ms", "p95_ms", "bytes", "parameters", *MEASURES} <= measured.keys()
    for name in ("recall@5", "recall@10", "ndcg@10", "mrr", "users"):
        assert measured[name] == result["metrics"][name]
    assert measured["bytes"]["model.safetensors"] > 0
    for option in (("--exclude-seen",), ("--split", "valid"), ("--engine", "reference"), ("--beam", "5")):
        code, out, err = pocketrec("evaluate", result["bundle"], "--interactions", log / "log.csv", "--json", *option)
        assert code == 0, err
        if option == ("--exclude-seen",):
            assert json.loads(out)["recall@10"] == result["metrics"]["seen excluded"]["recall@10"]


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


def test_inspect_shows_the_checked_manifest(trained):
    _, result = trained
    code, out, _ = pocketrec("inspect", result["bundle"], "--json")
    assert code == 0
    manifest = json.loads(out)
    assert manifest == json.loads((Path(result["bundle"]) / "manifest.json").read_text())
    assert manifest["metrics"]["seen kept"]["recall@10"] == result["metrics"]["recall@10"]
    code, out, _ = pocketrec("inspect", result["bundle"])
    assert code == 0
    assert "model.safetensors" in out


def test_inspect_lists_operators_and_writes_them_for_a_reduced_build(trained, tmp_path):
    _, result = trained
    code, out, _ = pocketrec("inspect", result["bundle"], "--operators", "--ort-config", tmp_path / "ops", "--json")
    assert code == 0
    names = json.loads(out)["operators"]["ai.onnx 20"]
    assert {"TopK", "Gather", "MatMul"} <= set(names)
    assert f"ai.onnx;20;{','.join(names)}\n" in (tmp_path / "ops").read_text()


def test_data_check_lists_findings_with_rows(log, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text((log / "log.csv").read_text() + "u1,i-unknown,1600000000\nu2,i3,yesterday\n")
    code, out, _ = pocketrec("data", "check", "--interactions", bad, "--items", log / "items.csv", "--json")
    assert code == 0
    findings = {f["code"]: f for f in json.loads(out)["findings"]}
    assert findings["D307"]["count"] == 1
    assert findings["D304"]["count"] == 1
    assert "1603" in json.dumps(findings["D304"]["examples"])
    code, out, _ = pocketrec("data", "check", "--interactions", bad, "--items", log / "items.csv")
    assert code == 0
    assert "D307" in out


def test_a_run_goes_on_from_a_stage(trained, log, tmp_path):
    run, first = trained
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    code, out, err = train(log, copy, "--from", "export", "--json")
    assert code == 0
    assert err.count("done before") == 6
    assert json.loads(out)["metrics"] == first["metrics"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "--interactions", "LOG", "--out", "OUT", "--set", "train.epoch=1"), 2, "epoch"),
        (("train", "--interactions", "nowhere.csv", "--out", "OUT"), 1, "nowhere.csv"),
        (("train", "--interactions", "LOG", "--out", "OUT", "--from", "wine"), 2, "data, text, sids"),
        (("train", "--out", "OUT"), 2, "--interactions"),
        (("evaluate", "OUT", "--interactions", "LOG"), 1, "give the path of a bundle"),
        (("recommend", "OUT", "--history", "a"), 1, "give the path of a bundle"),
        (("nonsense",), 2, "nonsense"),
        (("train", "--interactions", "LOG", "--user", "who", "--out", "OUT"), 1, "who"),
    ],
)
def test_errors_are_one_clear_line_and_an_exit_code(arguments, code, message, log, tmp_path):
    places = {"LOG": log / "log.csv", "OUT": tmp_path / "out"}
    found, out, err = pocketrec(*(places.get(a, a) for a in arguments))
    assert found == code, err
    assert message in err
    assert out == ""
    assert "Traceback" not in err


def test_a_damaged_bundle_is_refused(trained, tmp_path):
    _, result = trained
    copy = tmp_path / "bundle"
    shutil.copytree(result["bundle"], copy)
    graph = copy / "recommender.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    code, out, err = pocketrec("recommend", copy, "--history", "i1")
    assert (code, out) == (1, "")
    assert "recommender.onnx" in err


def test_an_export_is_measured_beside_float32_and_shown_in_the_report(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    code, out, err = pocketrec("export", run, "--quantize", "int8", "--out", tmp_path / "b", "--max-drop", 1, "--json")
    assert code == 0, err
    first, own = json.loads(out)["gates"]
    assert (first["artifact"], own["artifact"]) == ("onnx none", "onnx int8")
    assert own["bytes"] < first["bytes"]
    assert set(own) == {"artifact", "bytes", "recall@10", "ndcg@10", "agreement@10", "p50_ms", "peak_mb"}
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["model"]["quantization"] == "int8"
    assert [row["artifact"] for row in manifest["gates"]] == ["onnx none", "onnx int8"]
    assert "onnx int8" in (run / "report" / "report.html").read_text()
    code, out, _ = pocketrec("recommend", tmp_path / "b", "--history", "i1,i2", "-k", "3", "--json")
    assert code == 0
    assert len(json.loads(out)["items"]) == 3


def test_an_export_that_lost_too_much_takes_no_name_and_the_row_is_named(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("pocketrec.export.quantize.INT4_STEPS", (1, -1))
    code, out, err = pocketrec("export", trained[0], "--quantize", "int4", "--out", tmp_path / "b", "--max-drop", 0)
    assert (code, out) == (1, "")
    assert "onnx int4 has ndcg@10" in err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--quantize", "int3"], "onnx int8"),
        (["--preset", "riscv"], "arm64"),
        (["--format", "onnx", "--max-drop", 2], ""),
    ],
)
def test_a_format_that_does_not_exist_is_a_usage_error(trained, tmp_path, arguments, said):
    code, _, err = pocketrec("export", trained[0], "--out", tmp_path / "b", *arguments)
    assert code == 2
    assert said in err


def test_an_export_of_no_run_says_what_to_give(tmp_path):
    code, _, err = pocketrec("export", tmp_path, "--out", tmp_path / "b")
    assert code == 1
    assert "pocketrec train" in err


@pytest.mark.parametrize("command", ["quickstart", "train", "evaluate", "recommend", "inspect", "export", "data check"])
def test_help_has_an_example(command):
    code, out, _ = pocketrec(*command.split(), "--help")
    assert code == 0
    assert "Example" in out
    assert f"pocketrec {command}" in " ".join(out.split())
