"""Quantised weights: the same model in fewer bytes, decoded when it is opened.

Weights alone are rounded. The device graphs decode them by plain operators whose inputs are all constants, so ONNX
Runtime does it once, when it opens the file: calls cost what float32 costs, on any CPU, and no activation is rounded
(docs/decisions/0009-quantisation.md has what integer kernels would have cost). How a tensor is stored stands in
`pocketrec.runtime.bundle.weights`.
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
CANDIDATES = np.linspace(0.7, 1.1, 17, dtype=np.float32)  # scales tried, relative to that of the largest value
INT8_STEPS, INT4_STEPS = (127, -127), (7, -8)
SMALLEST = 6e-5  # the least normal float16; a smaller scale would lose its digits
_TABLES = re.compile(r"embed(\.\d+)?|head|pair\.table")  # rows are looked up, or are outputs
_KEPT = re.compile(r"start|norm|rope\..*|pair\.keys|.*bias")  # small, and every value counts

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Scheme:
    """A way to store weights; `encode` maps (name, float32 [n, m]) to what stands for it in the file."""

    does: str
    encode: Callable[[str, NDArray[np.float32]], dict[str, NDArray[Any]]]


def quantize(weights: Arrays, scheme: str) -> dict[str, NDArray[Any]]:
    """Encode a model's matrices and tables; biases, norms and positions stay as they are.

    :param weights: tensors of `export.weights` or `export.token_weights`, float32 [n, m] where they are quantised.
    :param scheme: a name of `SCHEMES`.
    :raises ConfigError: on an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"there is no quantisation {scheme!r} for ONNX; choose one of {', '.join(SCHEMES)}")
    out: dict[str, NDArray[Any]] = {}
    for name, array in weights.items():
        plain = _KEPT.fullmatch(name) or array.dtype != np.float32
        out |= {name: array} if plain else SCHEMES[scheme].encode(name, array)
    return out


def save_weights(weights: Arrays, path: Path, scheme: str) -> None:
    """Write a model's tensors as a safetensors file; the same weights give the same bytes.

    :param weights: as for `quantize`. scheme: how they are stored, a name of `SCHEMES`.
    :raises ConfigError: on an unknown scheme.
    """
    atomic_write(path, [packed(weights, scheme)])


def packed(weights: Arrays, scheme: str) -> bytes:
    """Return what `save_weights` writes."""
    plain = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    return bytes(save(dict(sorted(quantize(plain, scheme).items()))))


def tensor_types(path: Path) -> list[tuple[str, str, tuple[int, ...], int]]:
    """Read what a weight file really holds: (name, type, shape, bytes) of every tensor, as safetensors names types."""
    return [(name, dtype, shape, size) for name, (dtype, shape, _, size) in read_header(path).items()]


def int8(name: str, array: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Round to [-127, 127] with a scale per output channel: per row of an embedding or a head, else per column."""
    by_row = name.startswith(("embed", "head"))
    groups = array[:, None, :] if by_row else array.T[:, None, :]  # [channels, 1, values]
    codes, scale = _round(groups, *INT8_STEPS)
    scale = scale.reshape(-1, 1) if by_row else scale.reshape(1, -1)
    codes = codes[:, 0] if by_row else codes[:, 0].T
    return {name + INT8: np.ascontiguousarray(codes).astype(np.int8), name + SCALE: scale}


def int4(name: str, array: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Round to [-8, 7] with a scale per block: along a table's rows, along a matrix's inputs.

    A tensor whose blocked axis is odd keeps eight bits.
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
    """Round groups [..., B] to whole multiples of a scale each, float16 [...].

    Of some candidates, the scale of the least square error is taken. Where the range is not even (-8 to 7), the largest
    value takes the side with more room.
    """
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(-1, keepdims=True), -1)[..., 0]
    base = extreme / low if low != -high else np.abs(extreme) / high
    best, error = np.ones_like(base, np.float16), np.full(base.shape, np.inf, np.float32)
    for factor in CANDIDATES:
        scale = base * factor
        scale = np.where(np.abs(scale) < SMALLEST, SMALLEST, scale).astype(np.float16)
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
