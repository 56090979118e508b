"""The engines that a device may run a student with; what needs the compiled one is left out where there is none."""

from __future__ import annotations

import pytest

from pocketrec.runtime.compiled import native

NEEDS_NATIVE = pytest.mark.skipif(native is None, reason="there was no C compiler when pocketrec was installed")
DEVICE_ENGINES = (pytest.param("native", marks=NEEDS_NATIVE), "onnx", "onnx-split", "reference")
