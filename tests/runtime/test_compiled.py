"""The native engine is optional, and an installation says whether it was compiled, and if not why."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from device_engines import NEEDS_NATIVE
from pocketrec.runtime import compiled
from pocketrec.runtime.compiled import native, native_build

ROOT = Path(__file__).parents[2]
NEEDS_SETUPTOOLS = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None, reason="setuptools is not installed: pip install 'setuptools>=77'"
)
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
REPORT = """
import json, sys
# the finder of an editable installation would find its own extension module for this copy
sys.meta_path = [finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith("__editable__")]
from pocketrec.runtime.compiled import native, native_build
from pocketrec.runtime.engines.native import NativeEngine
from pocketrec.runtime.errors import MissingExtraError
try:
    NativeEngine(None)
except MissingExtraError as error:
    message = str(error)
print(json.dumps([native is None, native_build()._asdict(), message]))
"""


@NEEDS_NATIVE
def test_an_installation_with_the_engine_names_compiler_and_kernels():
    build = native_build()
    assert build.reason == ""
    assert build.kernels == tuple(native.kernels())
    assert "portable" in build.kernels


@pytest.fixture
def tree(tmp_path):
    """A copy of what an installation is built from."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "_build.json")
    for name in ("sdk", "runtime", "distill", "export"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    return tree


def run_build(tree, hook, folder, **environment):
    """Call a hook of the build backend; return what it wrote to stderr."""
    folder.mkdir()
    command = [sys.executable, "-c", BUILD, hook, str(folder)]
    inherited = {name: value for name, value in os.environ.items() if name not in ("CC", "POCKETREC_REQUIRE_NATIVE")}
    done = subprocess.run(
        command, cwd=tree, env={**inherited, **environment}, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stderr


def report_of(packages):
    """What a process says that imports pocketrec from a folder: no native engine?, the report, the engine's error."""
    site = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(
        [sys.executable, "-c", REPORT], cwd=packages, env=site, capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def installed(tree, folder, **environment):
    """Build a wheel and unpack it; return the folder and what the build said."""
    said = run_build(tree, "build_wheel", folder, **environment)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site", said


def break_source(tree):
    with (tree / "runtime" / "native" / "kernels" / "available.c").open("a") as file:  # the first that is compiled
        file.write("int broken(void) { return undeclared_name; }\n")


@NEEDS_SETUPTOOLS
@pytest.mark.skipif(os.name != "posix", reason="CC names the compiler on POSIX systems alone")
@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/bin/false", "/bin/false could not compile runtime/native/"),
        ("no-such-compiler", "there is no C compiler (no-such-compiler is not found)"),
    ],
)
def test_without_a_working_compiler_it_is_installed_and_says_why(tree, tmp_path, compiler, reason):
    site, said = installed(tree, tmp_path / "out", CC=compiler)
    assert f"the native engine was not built: {reason}" in said
    missing, build, message = report_of(site)
    assert missing
    assert build["kernels"] == []
    assert build["reason"].startswith(reason)
    assert reason in message


@NEEDS_SETUPTOOLS
@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="needs gcc on Linux")
def test_a_source_that_does_not_compile_is_installed_and_says_why(tree, tmp_path):
    break_source(tree)
    site, said = installed(tree, tmp_path / "out")
    assert "undeclared_name" in said
    missing, build, message = report_of(site)
    assert missing
    assert "could not compile runtime/native/kernels/available.c" in build["reason"]
    assert any("undeclared_name" in line for line in build["compiler_output"])
    assert build["reason"] in message
    with pytest.raises(RuntimeError, match="undeclared_name"):
        run_build(tree, "build_wheel", tmp_path / "required", POCKETREC_REQUIRE_NATIVE="1")


@NEEDS_SETUPTOOLS
@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="needs gcc on Linux")
def test_an_editable_installation_records_it_in_the_source_tree_and_drops_the_module_of_an_earlier_build(
    tree, tmp_path
):
    stale = tree / "runtime" / "_native.cpython-00-earlier.so"
    stale.write_bytes(b"")
    break_source(tree)
    run_build(tree, "build_editable", tmp_path / "out")
    assert "available.c" in json.loads((tree / "runtime" / "_build.json").read_text())["reason"]
    assert not stale.exists()


def test_what_cannot_be_loaded_or_was_not_recorded_says_so(monkeypatch, tmp_path):
    record = tmp_path / "_build.json"
    monkeypatch.setattr(compiled, "native", None)
    monkeypatch.setattr(compiled, "_RECORD", record)
    monkeypatch.setattr(compiled, "_import_error", "undefined symbol: expf")
    assert "no build was recorded" in native_build().reason
    for damaged in ("", "[]", "{", "\x00"):
        record.write_text(damaged)
        assert "no build was recorded" in native_build().reason
    record.write_text('{"built": true, "compiler": "gcc 12"}')
    assert native_build().reason == "it was built but cannot be loaded: undefined symbol: expf"
