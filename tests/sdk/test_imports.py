"""Light on the device: what an app imports never pulls in torch or transformers, proven in fresh processes."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from pocketrec.runtime.compiled import native
from tiny import random_rows, tiny_bundle, tiny_student

HEAVY = ("torch", "transformers", "polars", "sklearn", "scipy", "onnx", "pandas", "typer", "rich")


def loaded_after(code):
    script = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_pocketrec_imports_nothing_heavy():
    assert loaded_after("import pocketrec") == []


def test_the_runtime_recommends_without_torch(tmp_path):
    bundle = tiny_bundle(tmp_path / "b", tiny_student(), random_rows(30))
    for engine in (*(("native",) if native else ()), "onnx", "onnx-split", "reference"):
        code = (
            "from pocketrec import Recommender\n"
            f"found = Recommender.load({str(bundle)!r}, engine={engine!r}).recommend(['item-1'], k=3)\n"
            "assert len(found) == 3"
        )
        assert loaded_after(code) == []


def test_every_runtime_module_imports_without_torch():
    code = (
        "import pkgutil, importlib, pocketrec.runtime as r\n"
        "for m in pkgutil.walk_packages(r.__path__, 'pocketrec.runtime.'): importlib.import_module(m.name)"
    )
    assert loaded_after(code) == []


def test_help_is_shown_without_loading_what_training_needs():
    code = (
        "import sys; sys.argv = ['pocketrec', 'train', '--help']\n"
        "from pocketrec.__main__ import main\n"
        "import io, contextlib\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()"
    )
    assert not set(loaded_after(code)) & {"torch", "transformers", "polars", "sklearn", "onnx"}


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("clang")), reason="no C compiler here")
def test_the_native_engine_is_compiled_where_there_is_a_compiler():
    assert native is not None


@pytest.mark.parametrize("name", ["Recommender", "ItemTrie", "Pipeline", "Recommendation", "SyncClient"])
def test_public_names_are_found_and_listed(name):
    import pocketrec

    assert name in pocketrec.__all__
    assert name in dir(pocketrec)
    assert getattr(pocketrec, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error():
    import pocketrec

    with pytest.raises(AttributeError, match="Nonsense"):
        _ = pocketrec.Nonsense


def test_sync_without_its_extra_names_it(tmp_path):
    code = (
        "import sys\n"
        "for name in ('filelock', 'tuf', 'urllib3', 'zstandard'): sys.modules[name] = None\n"
        "from pocketrec import SyncClient\n"
        "from pocketrec.runtime.errors import MissingExtraError\n"
        f"client = SyncClient('https://example.com', {str(tmp_path)!r}, b'')\n"
        "try: client.refresh()\n"
        "except MissingExtraError as error: assert 'pocketrec[sync]' in str(error)\n"
        "else: raise SystemExit('no error')"
    )
    assert loaded_after(code) == []
