"""The engines that a device may run a student with; what needs the compiled one is left out where there is none."""

from __future__ import annotations

import pytest

from pocketrec.runtime.compiled import native, native_build

NEEDS_NATIVE = pytest.mark.skipif(native is None, reason=f"no native engine: {native_build().reason}")
DEVICE_ENGINES = (pytest.param("native", marks=NEEDS_NATIVE), "onnx", "onnx-split", "reference")
