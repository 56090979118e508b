"""Quantised weights: the same model in fewer bytes, decoded when the bundle is opened.

Only weights are rounded, never activations. The ONNX graphs decode them with standard operators on constants, which
ONNX Runtime computes once, when it opens the file; a call then costs as much as with float32, on any CPU
(docs/decisions/0009-quantisation.md compares integer kernels). `pocketrec.runtime.bundle.weights` describes how a
tensor is stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from pocketrec.runtime.bundle.weights import INT4, INT8, MIDDLE, SCALE
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.files.atomic import atomic_write
from pocketrec.runtime.files.safetensors import read_header

BLOCK = 32  # values that share a scale, at most
CANDIDATES = np.linspace(0.7, 1.1, 17, dtype=np.float32)  # scales tried, relative to the scale of the largest value
INT8_STEPS, INT4_STEPS = (127, -127), (7, -8)
MIN_SCALE = 6e-5  # about the smallest normal float16; a smaller scale would lose digits
_TABLES = re.compile(r"embed(\.\d+)?|head|pair\.table")  # their rows are looked up, or are outputs
_KEPT = re.compile(r"start|norm|rope\..*|pair\.keys|.*bias")  # small, and every value counts

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Scheme:
    """A way to store weights.

    stores: a description for people. encode: (name, float32 [n, m]) → the tensors that stand for it in the file.
    """

    stores: str
    encode: Callable[[str, NDArray[np.float32]], dict[str, NDArray[Any]]]


def quantize(weights: Arrays, scheme: str) -> dict[str, NDArray[Any]]:
    """Encode a model's matrices and tables; biases, norms and positions stay as they are.

    :param weights: tensors of `export.weights` or `export.llama.weights`, float32 [n, m] where they are quantised.
    :param scheme: a name of `SCHEMES`.
    :raises ConfigError: on an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"there is no quantisation {scheme!r} for ONNX; choose one of {', '.join(SCHEMES)}")
    out: dict[str, NDArray[Any]] = {}
    for name, array in weights.items():
        kept = _KEPT.fullmatch(name) or array.dtype != np.float32
        out |= {name: array} if kept else SCHEMES[scheme].encode(name, array)
    return out


def save_weights(weights: Arrays, path: Path, scheme: str) -> None:
    """Write a model's tensors as a safetensors file; the same weights give the same bytes.

    :param weights: as for `quantize`.
    :param scheme: how they are stored, a name of `SCHEMES`.
    :raises ConfigError: on an unknown scheme.
    """
    atomic_write(path, [packed(weights, scheme)])


def packed(weights: Arrays, scheme: str) -> bytes:
    """Return the content of the file that `save_weights` writes."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    return bytes(save(dict(sorted(quantize(contiguous, scheme).items()))))


def tensor_types(path: Path) -> list[tuple[str, str, tuple[int, ...], int]]:
    """Return (name, type, shape, bytes) of every tensor in a weight file, types by safetensors' names."""
    return [(name, dtype, shape, size) for name, (dtype, shape, _, size) in read_header(path).items()]


def int8(name: str, array: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Round to [-127, 127] with a scale per output channel: a row of an embedding or a head, a column of all others."""
    by_row = name.startswith(("embed", "head"))
    groups = array[:, None, :] if by_row else array.T[:, None, :]  # [channels, 1, values]
    codes, scale = _round(groups, *INT8_STEPS)
    scale = scale.reshape(-1, 1) if by_row else scale.reshape(1, -1)
    codes = codes[:, 0] if by_row else codes[:, 0].T
    return {name + INT8: np.ascontiguousarray(codes).astype(np.int8), name + SCALE: scale}


def int4(name: str, array: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Round to [-8, 7] with a scale per block, along the rows of a table or the inputs of a matrix.

    A tensor whose blocked axis is odd, or that has one column, is stored by `int8`.
    """
    axis = 1 if _TABLES.fullmatch(name) else 0
    length = array.shape[axis]
    block = next(b for b in range(min(BLOCK, length), 0, -1) if length % b == 0)
    if length % 2 or array.shape[1] == 1:
        return int8(name, array)
    groups = (array if axis else array.T).reshape(-1, length // block, block)  # [other axis, blocks, values]
    codes, scale = _round(groups, *INT4_STEPS)
    flat = (codes + MIDDLE).reshape(-1, length).astype(np.uint8)  # [other axis, length]
    packed = flat[:, : length // 2] | flat[:, length // 2 :] << 4
    scale = scale[:, :, None] if axis else np.ascontiguousarray(scale.T[:, None])
    return {name + INT4: packed if axis else np.ascontiguousarray(packed.T), name + SCALE: scale}


def _round(groups: NDArray[np.float32], high: int, low: int) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
    """Round groups [..., B] to integers times a scale per group, float16 [...].

    Of `CANDIDATES`, the scale with the least square error is taken. Where the range is not symmetric (-8 to 7), the
    scale's sign gives the largest value the side with more room.
    """
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(-1, keepdims=True), -1)[..., 0]
    base = extreme / low if low != -high else np.abs(extreme) / high
    best, error = np.ones_like(base, np.float16), np.full(base.shape, np.inf, np.float32)
    for factor in CANDIDATES:
        scale = base * factor
        scale = np.where(np.abs(scale) < MIN_SCALE, MIN_SCALE, scale).astype(np.float16)
        wide = scale.astype(np.float32)[..., None]
        found = np.square(np.clip(np.rint(groups / wide), low, high) * wide - groups).sum(-1)
        better = found < error
        best, error = np.where(better, scale, best), np.where(better, found, error)
    codes = np.clip(np.rint(groups / best.astype(np.float32)[..., None]), low, high)
    return codes.astype(np.int32), best


def _float16(name: str, array: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    return {name: array.astype(np.float16)}


SCHEMES: dict[str, Scheme] = {
    "none": Scheme("float32", lambda name, array: {name: array}),
    "fp16": Scheme("float16", _float16),
    "int8": Scheme("8 bits, a scale per channel", int8),
    "int4": Scheme(f"4 bits, a scale per block of {BLOCK}, embeddings too", int4),
}
