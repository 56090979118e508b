"""Pruning from the command line and as a stage of a run."""

from __future__ import annotations

import json
import shutil

import pytest
from command import pocketrec, write_ring

from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.distill.training.student_training import load_student

SETTINGS = (
    "recipe.size=none", "text.encoder=none", "sid.codes=16", "student.dim=32", "student.ffn=32",
    "student.decoder_dim=32",
    "train.batch_size=32",
    "train.learning_rate=0.01", "sasrec.dim=16", "sasrec.train.epochs=2", "sasrec.train.batch_size=32",
    "teacher.enabled=true", 'soft_labels.members=["sasrec","graph"]', "student.pair_dim=8", "train.epochs=4",
    "prune.multiple=8", "prune.every=2", "prune.train.batch_size=32", "prune.train.epochs=4",
)  # fmt: skip


def flags(*settings):
    return [part for setting in settings for part in ("--set", setting)]


def train(log, run, *more):
    files = ("--interactions", log / "log.csv", "--items", log / "items.csv")
    return pocketrec("train", *files, "--out", run, *more)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_ring(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def run(log, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "taught"
    code, _, err = train(log, run, *flags(*SETTINGS))
    assert code == 0, err
    return run


@pytest.fixture(scope="module")
def pruned(run):
    code, out, err = pocketrec("prune", run, "--ratio", "0.5", "--out", run / "half", "--json")
    assert code == 0, err
    return run / "half", json.loads(out)


def test_prune_prints_one_object_and_leaves_a_checkpoint_that_loads(run, pruned):
    folder, result = pruned
    assert result["checkpoint"] == str(folder)
    assert result["after"]["parameters"] <= 0.5 * result["before"]["parameters"]
    student = load_student(folder, SemanticIds.load(run / "sids"))
    assert student.parameters_count == result["after"]["parameters"]
    note = json.loads((folder / "prune.json").read_text())
    assert (note["run"], note["start"]) == ("..", "../distill")
    assert note["soft_labels"]
    assert set(note["loss_by_units_kept"]) == {"layers", "dim", "heads", "ffn", "decoder_dim", "pair_dim"}
    curve = json.loads((folder / "curve.json").read_text())
    steps = [point["step"] for point in curve["losses"]]
    assert steps == sorted(steps)
    assert curve["validations"][-1]["epoch"] == 4


def test_the_same_command_again_does_nothing_and_says_the_same(run, pruned):
    folder, result = pruned
    written = (folder / "best.safetensors").stat().st_mtime_ns
    code, out, err = pocketrec("prune", run, "--ratio", "0.5", "--out", folder, "--json")
    assert code == 0, err
    assert json.loads(out) == result
    assert (folder / "best.safetensors").stat().st_mtime_ns == written


def test_a_pruned_student_is_pruned_again_to_so_many_bytes(run, pruned, tmp_path):
    folder, result = pruned
    limit = int(0.8 * result["after"]["bytes"])
    more = ("--bytes", str(limit), "--criterion", "magnitude", "--start", folder, "--out", tmp_path / "again")
    code, out, err = pocketrec("prune", run, *more, *flags("prune.train.epochs=1"), "--json")
    assert code == 0, err
    again = json.loads(out)
    assert again["before"] == result["after"]
    assert again["after"]["bytes"] <= limit
    assert json.loads((tmp_path / "again" / "prune.json").read_text())["run"] == str(run.resolve())


def test_a_run_with_a_target_prunes_exports_and_reports_the_smaller_student(run, log, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    more = flags(*SETTINGS, "prune.parameters=9000", "preference.method=grpo")
    code, out, err = train(log, copy, *more, "--json")
    assert code == 0, err
    assert err.count("done before") == 7  # data, text, sids, sasrec, soft-labels, distill, baselines
    manifest = json.loads((copy / "export/bundle/manifest.json").read_text())
    assert manifest["model"]["parameters"] <= 9000
    assert manifest["metrics"]["seen kept"]["recall@10"] == json.loads(out)["metrics"]["recall@10"]
    assert manifest["provenance"]["config"]["prune"]["parameters"] == 9000
    assert "pruned student" in (copy / "report/report.html").read_text(encoding="utf-8").lower()
    code, _, err = train(log, copy, *more)
    assert (code, err.count("done before")) == (0, 11)


def test_export_can_stop_at_the_first_layers(run, log, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    code, _, err = train(log, copy, *flags(*SETTINGS, "export.depth=1"))
    assert code == 0, err
    assert json.loads((copy / "export/bundle/manifest.json").read_text())["model"]["layers"] == 1
    code, _, err = train(log, copy, *flags(*SETTINGS, "export.depth=3"))
    assert code == 2
    assert "export.depth" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("RUN", "--out", "OUT"), 2, "give --ratio, --parameters or --bytes"),
        (("RUN", "--ratio", "0.5", "--parameters", "9", "--out", "OUT"), 2, "only one target: ratio"),
        (("RUN", "--ratio", "1.5", "--out", "OUT"), 2, r"prune.ratio"),
        (("RUN", "--parameters", "10", "--out", "OUT"), 2, "smallest student"),
        (("RUN", "--ratio", "0.5", "--out", "RUN"), 2, "no pruned checkpoint"),
        (("RUN", "--ratio", "0.5", "--start", "OUT", "--out", "OUT"), 1, "best.safetensors"),
        (("NOWHERE", "--ratio", "0.5", "--out", "OUT"), 2, "config.json"),
    ],
)
def test_errors_are_one_clear_line_and_an_exit_code(arguments, code, message, run, tmp_path):
    places = {"RUN": run, "OUT": tmp_path / "out", "NOWHERE": tmp_path / "nowhere"}
    found, out, err = pocketrec("prune", *(places.get(a, a) for a in arguments))
    assert found == code, err
    assert message in err
    assert out == ""
    assert "Traceback" not in err


def test_help_has_an_example():
    code, out, _ = pocketrec("prune", "--help")
    assert code == 0
    assert "pocketrec prune runs/first --ratio 0.2" in " ".join(out.split())


def test_a_pruned_checkpoint_is_exported_beside_the_student_before_it(pruned, tmp_path):
    folder, result = pruned
    code, out, err = pocketrec(
        "export", folder, "--quantize", "int8", "--out", tmp_path / "b", "--max-drop", 1, "--json"
    )
    assert code == 0, err
    rows = json.loads(out)["gates"]
    assert [row["artifact"] for row in rows] == ["onnx none, before pruning", "onnx none", "onnx int8"]
    assert rows[0]["bytes"] > rows[1]["bytes"] > rows[2]["bytes"]
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["model"]["parameters"] == result["after"]["parameters"]
