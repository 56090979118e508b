"""`pocketrec inspect`: the manifest, checked; the native engine, or why there is none; the operators of the graphs."""

from __future__ import annotations

import json
from pathlib import Path

from command import pocketrec

from pocketrec.runtime.compiled import NativeBuild, native


def test_inspect_shows_the_checked_manifest(trained):
    _, result = trained
    code, out, _ = pocketrec("inspect", result["bundle"], "--json")
    assert code == 0
    manifest = json.loads(out)
    assert manifest.pop("engine") == ("native" if native else "onnx")
    assert manifest.pop("native_engine")["available"] == (native is not None)
    assert manifest == json.loads((Path(result["bundle"]) / "manifest.json").read_text())
    assert manifest["metrics"]["seen kept"]["recall@10"] == result["metrics"]["recall@10"]
    code, out, _ = pocketrec("inspect", result["bundle"])
    assert code == 0
    assert "model.safetensors" in out
    assert "native engine of this installation" in out


def test_inspect_says_why_there_is_no_native_engine(trained, monkeypatch):
    _, result = trained
    why = NativeBuild((), reason="gcc could not compile a.c", compiler_output=("a.c:1: error: [/x] undeclared",))
    monkeypatch.setattr("pocketrec.runtime.compiled.native_build", lambda: why)
    code, out, _ = pocketrec("inspect", result["bundle"])
    assert code == 0
    assert "gcc could not compile a.c" in out
    assert "[/x] undeclared" in out
    code, out, _ = pocketrec("inspect", result["bundle"], "--json")
    assert json.loads(out)["native_engine"] == {
        "available": False,
        "kernels": [],
        "compiler": "",
        "reason": "gcc could not compile a.c",
        "compiler_output": ["a.c:1: error: [/x] undeclared"],
    }


def test_inspect_lists_operators_and_writes_them_for_a_reduced_build(trained, tmp_path):
    _, result = trained
    code, out, _ = pocketrec("inspect", result["bundle"], "--operators", "--ort-config", tmp_path / "ops", "--json")
    assert code == 0
    names = json.loads(out)["operators"]["ai.onnx 20"]
    assert {"TopK", "Gather", "MatMul"} <= set(names)
    assert f"ai.onnx;20;{','.join(names)}\n" in (tmp_path / "ops").read_text()
