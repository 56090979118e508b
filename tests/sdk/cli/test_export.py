"""`pocketrec export` of a run: measured beside float32, shown in the report, refused if it lost too much."""

from __future__ import annotations

import json
import shutil

import pytest
from command import pocketrec


def test_an_export_is_measured_beside_float32_and_shown_in_the_report(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    code, out, err = pocketrec("export", run, "--quantize", "int8", "--out", tmp_path / "b", "--max-drop", 1, "--json")
    assert code == 0, err
    first, own = json.loads(out)["gates"]
    assert (first["artifact"], own["artifact"]) == ("onnx none", "onnx int8")
    assert own["bytes"] < first["bytes"]
    assert own.keys() >= {"artifact", "bytes", "recall@10", "ndcg@10", "agreement@10", "p50_ms", "peak_mb", "verdict"}
    assert own["loss_low"] <= own["loss"] <= own["loss_high"]
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
