"""The compiled extension module, if this installation has it: `native` is `pocketrec.runtime._native`, or None.

It is compiled when pocketrec is installed, if there is a C compiler. Everything it does can also be done, more slowly,
in numpy or by ONNX Runtime. `native_build` says whether it was built, and if not why.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

native: ModuleType | None
_import_error = ""
try:
    from pocketrec.runtime import _native as native
except ImportError as error:
    native, _import_error = None, str(error)

_RECORD = Path(__file__).with_name("_build.json")  # written by setup.py


class NativeBuild(NamedTuple):
    """How the installation of the native engine went.

    kernels: names of the instruction sets that it can use on this processor, the best first; empty if it was not built.
    compiler: name and version; empty if unknown. reason: why there is no native engine; empty if there is one.
    compiler_output: the last lines of a compiler that failed.
    """

    kernels: tuple[str, ...]
    compiler: str = ""
    reason: str = ""
    compiler_output: tuple[str, ...] = ()


def native_build() -> NativeBuild:
    """Return whether this installation has the native engine, by which compiler, or why not."""
    record = _record()
    if native is not None:
        return NativeBuild(tuple(native.kernels()), str(record.get("compiler", "")))
    if record.get("built"):
        return NativeBuild((), str(record.get("compiler", "")), f"it was built but cannot be loaded: {_import_error}")
    lines = tuple(str(line) for line in record.get("compiler_output", ()))
    return NativeBuild((), "", str(record.get("reason", "this is not an installation: no build was recorded")), lines)


def _record() -> dict[str, Any]:
    try:
        record = json.loads(_RECORD.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
