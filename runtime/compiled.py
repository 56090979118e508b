"""The compiled extension module, if this installation has it: `native` is `pocketrec.runtime._native`, or None.

It is compiled when pocketrec is installed, if there is a C compiler. Everything it does can also be done, more slowly,
in numpy or by ONNX Runtime.
"""

from __future__ import annotations

from types import ModuleType

native: ModuleType | None
try:
    from pocketrec.runtime import _native as native
except ImportError:
    native = None
