"""Check a GGUF file before llama.cpp opens it, since llama.cpp ends the process on many malformed files.

Only files like those of `export/gguf/student.py` are accepted: version 3, little-endian; metadata entries for the
model's shape, equal to the manifest's, without vocabulary and arrays; every tensor of such a model once, of its shape,
and within the file. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Final

import numpy as np

from pocketrec.runtime.bundle.manifest import ModelSpec
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.files.atomic import open_plain

MAX_HEADER_BYTES: Final = 1 << 22  # about 80 for each tensor
MAX_ENTRIES: Final = 64
_TEXT, _U32, _F32 = 8, 4, 6
_LAYOUTS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# Numbers in a block and its bytes, by ggml's type: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, BF16.
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2),
}  # fmt: skip

Value = int | float | bytes


class _GgufError(Exception):
    """A fault in a file; the message is the end of a sentence that begins with the file's name."""


def check_gguf(path: Path, spec: ModelSpec) -> None:
    """Check that a file is a backbone of the manifest's shape, and that all its tensors lie within it.

    :raises BundleError: if it is not.
    """
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            _check(_Reader(file.read(MAX_HEADER_BYTES)), size, spec)
    except (OSError, _GgufError) as error:
        raise BundleError(f"{path.name} {error}; export the bundle again") from error


class _Reader:
    """Reads numbers and texts one after the other."""

    def __init__(self, content: bytes) -> None:
        """Begin at the first byte."""
        self.content, self.at = content, 0

    def take(self, count: int) -> bytes:
        """Read bytes."""
        if count > len(self.content) - self.at:
            raise _GgufError("is cut short, or its header is damaged")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self, layout: str = "<Q") -> int | float:
        """Read a number."""
        value: int | float = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def count(self, layout: str = "<Q") -> int:
        """Read an integer."""
        return int(self.number(layout))

    def text(self) -> bytes:
        """Read a text."""
        return self.take(self.count())


def _check(reader: _Reader, size: int, spec: ModelSpec) -> None:
    if reader.take(4) != b"GGUF":
        raise _GgufError("is not a GGUF file")
    version = reader.count("<I")
    if version != 3:
        raise _GgufError(f"has GGUF version {version}, and this runtime reads 3")
    tensors, entries = reader.count(), reader.count()
    if entries > MAX_ENTRIES:
        raise _GgufError(f"says that it has {entries} entries, over the limit of {MAX_ENTRIES}")
    alignment = _read_entries(reader, entries, _entries(spec))
    wanted = _tensor_shapes(spec)
    if tensors != len(wanted):
        raise _GgufError(f"has {tensors} tensors, but the manifest's model has {len(wanted)}")
    ends = [_read_tensor(reader, wanted, alignment) for _ in range(tensors)]
    if max(ends) > size - -(-reader.at // alignment) * alignment:
        raise _GgufError("has a tensor that ends after the file does")


def _entries(spec: ModelSpec) -> dict[bytes, Value]:
    """Return the metadata entries that describe a model's shape, by name."""
    shape: dict[str, Value] = {
        "general.architecture": b"llama", "tokenizer.ggml.model": b"none", "llama.vocab_size": 1,
        "llama.context_length": spec.max_history + 1, "llama.embedding_length": spec.dim,
        "llama.block_count": spec.layers, "llama.feed_forward_length": spec.ffn,
        "llama.attention.head_count": spec.heads, "llama.attention.head_count_kv": spec.kv_heads,
        "llama.attention.key_length": spec.head_dim, "llama.attention.value_length": spec.head_dim,
        "llama.rope.dimension_count": spec.head_dim, "llama.rope.freq_base": float(np.float32(spec.rope_theta)),
        "llama.attention.layer_norm_rms_epsilon": float(np.float32(spec.norm_eps)),
    }  # fmt: skip
    return {name.encode(): value for name, value in shape.items()}


def _read_entries(reader: _Reader, count: int, wanted: dict[bytes, Value]) -> int:
    """Compare the metadata entries with those wanted; return the alignment."""
    found: dict[bytes, Value] = {}
    kinds = {bytes: _TEXT, int: _U32, float: _F32}
    for _ in range(count):
        name, kind = reader.text(), reader.count("<I")
        if kind != _TEXT and kind not in _LAYOUTS:
            raise _GgufError(f"has an entry {name!r:.60} of the unsupported type {kind}")
        if name in found:
            raise _GgufError(f"has the entry {name!r:.60} twice")
        value = found[name] = reader.text() if kind == _TEXT else reader.number(_LAYOUTS[kind])
        if name in wanted and (value != wanted[name] or kind != kinds[type(wanted[name])]):
            raise _GgufError(f"says {name.decode()} = {value!r:.60}, but the manifest says {wanted[name]!r}")
        if name not in wanted and not name.startswith(b"general."):
            raise _GgufError(f"has an unexpected entry {name!r:.60}")
    if missing := wanted.keys() - found.keys():
        raise _GgufError(f"lacks the entry {min(missing).decode()}")
    alignment = found.get(b"general.alignment", 32)
    if alignment not in (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096):
        raise _GgufError(f"has the invalid alignment {alignment!r:.60}")
    return int(alignment)


def _tensor_shapes(spec: ModelSpec) -> dict[bytes, tuple[int, ...]]:
    """Return the shapes of a backbone's tensors in ggml's order, inputs first."""
    dim, queries, keys = spec.dim, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    block = {
        "attn_norm": (dim,), "attn_q": (dim, queries), "attn_k": (dim, keys), "attn_v": (dim, keys),
        "attn_output": (queries, dim), "ffn_norm": (dim,), "ffn_gate": (dim, spec.ffn), "ffn_up": (dim, spec.ffn),
        "ffn_down": (spec.ffn, dim),
    }  # fmt: skip
    shapes = {f"blk.{layer}.{name}.weight": shape for layer in range(spec.layers) for name, shape in block.items()}
    shapes |= {"token_embd.weight": (dim,), "output_norm.weight": (dim,)}
    return {name.encode(): shape for name, shape in shapes.items()}


def _read_tensor(reader: _Reader, wanted: dict[bytes, tuple[int, ...]], alignment: int) -> int:
    """Read a tensor's entry and remove it from those wanted; return where its data end, from the start of all data."""
    name, dimensions = reader.text(), reader.count("<I")
    if name not in wanted or not 1 <= dimensions <= 4:
        raise _GgufError(f"has an unexpected or repeated tensor {name!r:.60}")
    shape = [reader.count() for _ in range(dimensions)]
    kind, offset = reader.count("<I"), reader.count()
    needed = wanted.pop(name)
    if tuple(shape[: len(needed)]) != needed or any(size != 1 for size in shape[len(needed) :]):
        raise _GgufError(f"has {name.decode()} of shape {shape}, but the manifest implies {list(needed)}")
    block, size = _BLOCKS.get(kind, (0, 0))
    if not block or shape[0] % block or offset % alignment:
        raise _GgufError(f"has {name.decode()} of an unsupported type ({kind}) or at a wrong offset ({offset})")
    return offset + math.prod(shape) // block * size
