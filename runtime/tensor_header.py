"""The header of a safetensors file, looked at before the library reads it.

The library takes headers of 100 MB, of which it makes gigabytes, sizes that numpy cannot hold, and of a tensor that
stands twice the last. Where tensors lie, and that they fill the file, is its to check.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pocketrec.runtime.strict_json import parse_json

MAX_HEADER_BYTES: Final = 1 << 20
MAX_DIMENSIONS: Final = 8
MAX_LENGTH: Final = 1 << 31
MAX_NAME: Final = 256


def check_header(path: Path) -> None:
    """Make sure that a header is short, has one meaning, and that its names and shapes are sane.

    :raises ValueError: if it is not; the message is the reason alone.
    :raises OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"its header says that it has {length} bytes, over the limit of {MAX_HEADER_BYTES}")
        header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    for name, entry in header.items():
        if len(name) > MAX_NAME:
            raise ValueError(f"it has a tensor whose name has {len(name)} characters")
        if name != "__metadata__" and not (isinstance(entry, dict) and _is_shape(entry.get("shape"))):
            raise ValueError(f"its tensor {name!r} has no shape that it could have")


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size <= MAX_LENGTH for size in shape)
    )
