"""Ways to damage a bundle: bytes, the manifest's fields, a trie's header, a graph with a constant result."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

MANIFEST, TRIE, COLD, GRAPH = "manifest.json", "trie.safetensors", "cold_items.safetensors", "recommender.onnx"


def constants(rows: Any, scores: Any, history: str = "history", scores_name: str = "scores") -> bytes:
    """A graph with a constant result."""
    outputs, nodes = [], []
    for name, array in (("rows", rows), (scores_name, scores)):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        outputs.append(helper.make_tensor_value_info(name, kind, list(array.shape)))
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
    inputs = [(history, TensorProto.INT32, ["n", 3]), ("first_child", TensorProto.INT32, ["a"])]
    inputs += [("codes", TensorProto.UINT8, ["b"]), ("exclude", TensorProto.INT32, ["c"])]
    values = [helper.make_tensor_value_info(*each) for each in [*inputs, ("beam", TensorProto.INT64, [1])]]
    made = helper.make_graph(nodes, "constants", values, outputs)
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString())


def elsewhere(path: Path) -> None:
    """Make a graph read its weights from a file outside the bundle."""
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../secret.bin"
    path.write_bytes(model.SerializeToString())


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def cut(path: Path, end: int) -> None:
    path.write_bytes(path.read_bytes()[:end])


def put(path: Path, place: int, value: bytes) -> None:
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place : place + len(value)] = value
    path.write_bytes(content)


def replace(bundle: Path, old: str, new: str) -> None:
    text = (bundle / MANIFEST).read_text()
    assert old in text, old
    (bundle / MANIFEST).write_text(text.replace(old, new, 1))


def edit(bundle: Path, where: list[str], value: Any) -> None:
    """Set a field of the manifest; None: leave it out."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    inner = manifest
    for name in where[:-1]:
        inner = inner[name]
    inner.pop(where[-1], None)
    if value is not None:
        inner[where[-1]] = value
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def rename(bundle: Path, name: str) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"][name] = manifest["files"][TRIE]
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def sealed(bundle: Path, change: Callable[[], None]) -> None:
    """Change files, and write their new sizes and hashes into the manifest."""
    change()
    manifest = json.loads((bundle / MANIFEST).read_text())
    for name, entry in manifest["files"].items():
        content = (bundle / name).read_bytes()
        entry["sha256"], entry["bytes"] = hashlib.sha256(content).hexdigest(), len(content)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def read_header(path: Path) -> tuple[dict[str, Any], bytearray]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])


def rewrite(
    bundle: Path,
    file: str,
    change: Callable[[dict[str, Any]], Any] | None,
    data: tuple[str, int, bytes | None] | None,
) -> None:
    """Change a file's header, or bytes of one of its tensors; value None: repeat its first bytes."""
    header, content = read_header(bundle / file)
    if change:
        change(header)
    if data:
        name, place, value = data
        start = header[name]["data_offsets"][0]
        value = bytes(content[start : start + place]) if value is None else value
        content[start + place : start + place + len(value)] = value
    text = json.dumps(header).encode()
    sealed(bundle, lambda: write(bundle / file, struct.pack("<Q", len(text)) + text + content))


def rewrite_ids(bundle: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the ids of a trie; their total length must not change."""
    header, content = read_header(bundle / TRIE)
    (first, last), (start, end) = (header[name]["data_offsets"] for name in ("id_lengths", "id_bytes"))
    ends = list(itertools.accumulate(struct.unpack(f"<{(last - first) // 2}H", content[first:last])))
    text = content[start:end].decode()
    ids = change([text[a:b] for a, b in zip([0, *ends], ends, strict=False)])
    assert len("".join(ids)) == end - start
    content[first:last] = struct.pack(f"<{len(ids)}H", *map(len, ids))
    content[start:end] = "".join(ids).encode()
    blob = (bundle / TRIE).read_bytes()
    sealed(bundle, lambda: write(bundle / TRIE, blob[: len(blob) - len(content)] + content))


def twice(ids: list[str]) -> list[str]:
    """Replace the last id by another one of the same length."""
    return [*ids[:-1], next(other for other in ids if len(other) == len(ids[-1]))]


def double(path: Path) -> None:
    """List a tensor twice in the header."""
    header, content = read_header(path)
    text = json.dumps(header)
    codes = f'"codes": {json.dumps(header["codes"])}'
    assert codes in text
    text = text.replace(codes, f"{codes}, {codes}")
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + content)


def empty(header: dict[str, Any]) -> dict[str, Any]:
    """An entry for a tensor of nothing, at the file's end."""
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    return {"dtype": "U8", "shape": [0], "data_offsets": [end, end]}
