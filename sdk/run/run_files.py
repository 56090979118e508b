"""Names and small files inside a run's folder."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketrec.distill.config import RunConfig

BUNDLE, REPORT = "bundle", "report.html"
WEIGHTS, SHAPE, CURVE, PRUNED = "best.safetensors", "student.json", "curve.json", "prune.json"
GATES = "gates.json"  # what exports of the run's student measured
PACKAGES = ("numpy", "onnx", "onnxruntime", "polars", "scikit-learn", "torch", "transformers")


def versions() -> dict[str, str]:
    """Versions of pocketrec, Python and the packages that decide a run's numbers."""
    out = {"python": platform.python_version()}
    for name in ("pocketrec", *PACKAGES):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def student_stage(config: RunConfig) -> str:
    """The stage that trains the student."""
    return "distill" if config.teacher.enabled else "student"


def pruned_stage(config: RunConfig) -> str:
    """The stage that leaves the student as preferences or export find it."""
    return "prune" if config.prune.wanted else student_stage(config)


def weights_stage(config: RunConfig) -> str:
    """The stage whose weights are exported."""
    return pruned_stage(config) if config.preference.method == "none" else "preference"


def start_stage(config: RunConfig) -> str:
    """The stage whose weights `pocketrec prune` begins with, whatever target it is given."""
    return student_stage(config) if config.preference.method == "none" else "preference"


def influence_wanted(config: RunConfig) -> bool:
    """Whether SASRec is asked which histories the teacher LLM should learn from."""
    return config.teacher.select < 1 and config.teacher.select_by == "influence" and config.sasrec.enabled


def read_teachers(run: Path) -> dict[str, Any]:
    """Test measures of the committee and of the teacher LLM: name → convention → measure → value."""
    return dict(read_json(run / "soft-labels" / "committee.json")["test"])


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)
