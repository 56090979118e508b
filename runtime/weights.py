"""Reads a bundle's weight file back as float32, whatever its tensors are stored as.

What stands for a tensor `t` in `model.safetensors`:

- `t`: float32, or float16;
- `t.int8` int8 of the tensor's shape and `t.scale` float16, which broadcasts to it: t = int8 · scale;
- `t.int4` uint8, two values a byte along the blocked axis (its first half in the low four bits, its second in the
  high ones), and `t.scale` float16: [n / B, 1, m] where the first axis is cut into blocks of B, [n, m / B, 1] where the
  second is. t = (value − 8) · its block's scale.

`export/quantize.py` writes these, `export/graph.py` decodes them inside the ONNX graphs by the same rule.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

INT8, INT4, SCALE = ".int8", ".int4", ".scale"
MIDDLE = 8  # what stands for 0 in four bits


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Return every tensor by name: float32, and integers that are no weights as they are."""
    stored = load_file(path)
    out: dict[str, NDArray[Any]] = {}
    for name, array in stored.items():
        if name.endswith(INT8):
            base = name.removesuffix(INT8)
            out[base] = array.astype(np.float32) * stored[base + SCALE].astype(np.float32)
        elif name.endswith(INT4):
            base = name.removesuffix(INT4)
            out[base] = unpack_int4(array, stored[base + SCALE])
        elif not name.endswith(SCALE):
            out[name] = array.astype(np.float32) if array.dtype == np.float16 else array
    return out


def blocked_axis(scale_shape: tuple[int, ...]) -> int:
    """The axis that is cut into blocks, from the shape of the scales (see the module)."""
    return 0 if scale_shape[1] == 1 and scale_shape[2] > 1 else 1


def unpack_int4(packed: NDArray[np.uint8], scale: NDArray[np.float16]) -> NDArray[np.float32]:
    """Decode a 4-bit tensor: float32 [n, m]."""
    axis = blocked_axis(scale.shape)
    values = np.concatenate((packed & 15, packed >> 4), axis).astype(np.float32) - MIDDLE
    blocks = (scale.shape[0], -1, scale.shape[2]) if axis == 0 else (*scale.shape[:2], -1)
    return np.asarray((values.reshape(blocks) * scale.astype(np.float32)).reshape(values.shape), np.float32)
