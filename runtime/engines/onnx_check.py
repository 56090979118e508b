"""Check an ONNX file before ONNX Runtime opens it: its weights may lie only in files that the manifest lists.

A tensor of a graph can lie in another file, at a path that the graph names (`TensorProto.external_data` in onnx.proto):
any file of the device, or, for ONNX Runtime, an address in memory. Only protobuf fields on the way to such a path are
parsed; messages that do not contain its key, "location", are skipped. All other checks are left to ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_KEY: Final = b"location"
_PIECE: Final = 1 << 20
_MAX_DEPTH: Final = 64
# Message type -> its fields on the way to a tensor, by number -> their types.
_INTO: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "place"},
}


def check_graph(path: Path, sizes: Mapping[str, int]) -> None:
    """Check that a graph refers only to listed files, and to bytes within them.

    :param sizes: sizes in bytes of the files that it may refer to, by name.
    :raises ValueError: if it does not; the message is the end of a sentence that begins with its name.
    :raises OSError: if it cannot be read.
    """
    if not path.is_file():
        raise ValueError("is damaged or no ONNX file")
    with path.open("rb") as file:
        before, graph = b"", b""
        while piece := file.read(_PIECE):  # a text encoder's graph contains its weights, and is not needed in memory
            if _KEY in before + piece:
                file.seek(0)
                graph = file.read()
                break
            before = piece[-len(_KEY) :]
    for place in _places(graph, "model", 0):
        name = place.get("location", "")
        if name not in sizes:
            raise ValueError(f"takes weights from a file {name[:60]!r} that the manifest does not list")
        numbers = [place.get(key, "0") for key in ("offset", "length")]
        if not all(text.isascii() and text.isdigit() and len(text) < 16 for text in numbers):
            raise ValueError(f"has no valid place in {name}: offset {numbers[0][:20]!r}, length {numbers[1][:20]!r}")
        if sum(map(int, numbers)) > sizes[name]:
            raise ValueError(f"refers to bytes past the end of {name}")


def _places(message: bytes, kind: str, depth: int) -> Iterator[dict[str, str]]:
    """Yield the external_data entries, by key, of each tensor that lies in another file."""
    if depth > _MAX_DEPTH:
        raise ValueError("is nested too deeply")
    place: dict[str, str] = {}
    for number, value in _fields(message):
        inner = _INTO[kind].get(number)
        if inner == "place":
            entry = {n: v.decode("utf-8", "replace") for n, v in _fields(value)}  # of a repeated field, the last counts
            key = entry.get(1, "")
            if key in place:
                raise ValueError(f"gives the {key[:20]!r} of a tensor twice")
            place[key] = entry.get(2, "")
        elif inner is not None and _KEY in value:
            yield from _places(value, inner, depth + 1)
    if "location" in place:
        yield place


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and content of every length-delimited field of a message; others are skipped."""
    at, end = 0, len(message)
    while at < end:
        tag, at = (message[at], at + 1) if message[at] < 128 else _varint(message, at)
        wire = tag & 7
        if wire == 2:
            size, at = (message[at], at + 1) if at < end and message[at] < 128 else _varint(message, at)
        elif wire == 0:
            at, size = _varint(message, at)[1], 0
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:  # groups, which ONNX does not use
            raise ValueError("is damaged or no ONNX file")
        if size > end - at:
            raise ValueError("is damaged or no ONNX file")
        if wire == 2:
            yield (tag & 0xFFFFFFFF) >> 3, message[at : at + size]  # protobuf reads 32 bits of a tag
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("is damaged or no ONNX file")
