"""Safetensors headers: checked before the library opens a file, and written so that equal contents give equal files.

The library accepts headers of 100 MB, from which it builds gigabytes of objects, sizes that numpy cannot hold, and a
tensor that is listed twice (the last entry wins). The checks here refuse those; that the tensors' places are sound and
fill the file is checked by the library. It also writes metadata in any order, which `write_tensors` does not.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.files.atomic import atomic_write
from pocketrec.runtime.files.strict_json import parse_json

MAX_HEADER_BYTES: Final = 1 << 20
MAX_DIMENSIONS: Final = 8
MAX_LENGTH: Final = 1 << 31
MAX_NAME: Final = 256

_NAMES: Final = {np.dtype(k): n for n, k in {"U8": "u1", "U16": "u2", "I32": "i4", "F16": "f2", "F32": "f4"}.items()}


class TensorPlace(NamedTuple):
    """A tensor's type as the header spells it ("F32"), its shape, and where its bytes lie in the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    bytes: int


def check_header(source: Path | bytes) -> None:
    """Make sure that a header is short, has one meaning, and that its names and shapes are sane.

    :param source: the file, or its content.
    :raises ValueError: if it is not; the message is the reason alone.
    :raises OSError: if the file cannot be read.
    """
    _checked_header(source)


def read_header(path: Path) -> dict[str, TensorPlace]:
    """Return where each tensor of a file lies, in the order of the header; checks as `check_header`.

    :raises ValueError: as `check_header`, and if an entry lacks a type or a place.
    :raises OSError: if the file cannot be read.
    """
    length, header = _checked_header(path)
    places = {}
    for name, entry in header.items():
        if name != "__metadata__":
            try:
                dtype, (begin, end) = str(entry["dtype"]), map(int, entry["data_offsets"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"its tensor {name!r} has no type or no place in the file") from error
            places[name] = TensorPlace(dtype, tuple(entry["shape"]), 8 + length + begin, end - begin)
    return places


def _checked_header(source: Path | bytes) -> tuple[int, dict[str, Any]]:
    """The header's length in bytes, and its entries by name."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"its header says that it has {length} bytes, over the limit of {MAX_HEADER_BYTES}")
        header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    for name, entry in header.items():
        if len(name) > MAX_NAME:
            raise ValueError(f"it has a tensor name of {len(name)} characters")
        if name != "__metadata__" and not (isinstance(entry, dict) and _is_shape(entry.get("shape"))):
            raise ValueError(f"its tensor {name!r} has an invalid shape")
    return length, header


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size <= MAX_LENGTH for size in shape)
    )


def write_tensors(path: str | Path, metadata: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write a safetensors file atomically; equal contents give equal bytes.

    :param tensors: in the order in which they are to lie; the widest types first keep all of them aligned.
    :raises OSError: if the file cannot be written; a file that was there is then untouched.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, tensor in tensors.items():
        place = [end, end + tensor.nbytes]
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        end += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    blobs = [_little_endian_bytes(tensor) for tensor in tensors.values()]
    atomic_write(path, [struct.pack("<Q", len(text)), text, *blobs])


def _little_endian_bytes(tensor: NDArray[Any]) -> memoryview:
    flat = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8).data
