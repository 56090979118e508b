"""Read a bundle's weight file as float32, whichever type its tensors are stored in.

How a tensor `t` is stored in `model.safetensors`:

- `t`: float32, or float16;
- `t.int8`, int8 of the tensor's shape, and `t.scale`, float16, which broadcasts to it: t = int8 · scale;
- `t.int4`, uint8 with two values in a byte along the blocked axis (the first half of the axis in the low four bits, the
  second half in the high four), and `t.scale`, float16: [n / B, 1, m] if the first axis is cut into blocks of B values,
  [n, m / B, 1] if the second is. t = (value − 8) · the scale of its block.

`export/quantize.py` writes these; `export/onnx/graph.py` decodes them inside the ONNX graphs by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, load_file

from pocketrec.runtime.bundle.manifest import TOKENS_KIND, ModelSpec
from pocketrec.runtime.errors import BundleError, one_line
from pocketrec.runtime.files.safetensors import check_header

INT8, INT4, SCALE = ".int8", ".int4", ".scale"
MIDDLE = 8  # the 4-bit value that means 0


def read_weights(path: Path, spec: ModelSpec | None = None, elsewhere: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """Return every tensor by name: weights as float32, index tables as the integers they are.

    :param spec: the model whose tensors they must be; None: any.
    :param elsewhere: prefixes of the names of tensors that another file holds, so that this one may lack them.
    :raises BundleError: if the file is damaged, or its tensors are not the model's.
    """
    return _checked(path, load_file, path.name, spec, elsewhere)


def parse_weights(content: bytes, name: str, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """As `read_weights`, from the content of a file; `name` is for messages."""
    return _checked(content, load, name, spec, ())


_Source = TypeVar("_Source", Path, bytes)


def _checked(
    source: _Source,
    read: Callable[[_Source], dict[str, NDArray[Any]]],
    name: str,
    spec: ModelSpec | None,
    elsewhere: tuple[str, ...],
) -> dict[str, NDArray[Any]]:
    try:
        check_header(source)
        weights = _decoded(read(source))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise BundleError(f"{name} is damaged ({one_line(error)}); export the bundle again") from error
    if spec is not None:
        _check(weights, spec, name, elsewhere)
    return weights


def _decoded(stored: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    out: dict[str, NDArray[Any]] = {}
    for name, array in stored.items():
        if name.endswith((INT8, INT4)):
            base = name.removesuffix(INT8).removesuffix(INT4)
            scale = stored[base + SCALE]
            fits = _fits_int8 if name.endswith(INT8) else _fits_int4
            if scale.dtype != np.float16 or not fits(array, scale.shape):
                raise ValueError(f"the scale of {base!r} does not fit it")
            unpack = _unpack_int8 if name.endswith(INT8) else unpack_int4
            out[base] = unpack(array, scale)
        elif not name.endswith(SCALE):
            out[name] = array.astype(np.float32) if array.dtype == np.float16 else array
    return out


def _fits_int8(array: NDArray[Any], scale: tuple[int, ...]) -> bool:
    """Tell whether the scale broadcasts to the values' shape (and not the other way round)."""
    same_rank = array.dtype == np.int8 and len(scale) == array.ndim
    return same_rank and all(n in (1, m) for n, m in zip(scale, array.shape, strict=True))


def _fits_int4(array: NDArray[Any], scale: tuple[int, ...]) -> bool:
    if array.dtype != np.uint8 or array.ndim != 2 or len(scale) != 3 or 0 in (*scale, *array.shape):
        return False
    if blocked_axis(scale) == 0:
        return 2 * array.shape[0] % scale[0] == 0 and scale[1:] == (1, array.shape[1])
    return scale[0] == array.shape[0] and 2 * array.shape[1] % scale[1] == 0 and scale[2] == 1


def _unpack_int8(values: NDArray[np.int8], scale: NDArray[np.float16]) -> NDArray[np.float32]:
    return values.astype(np.float32) * scale.astype(np.float32)


def blocked_axis(scale_shape: tuple[int, ...]) -> int:
    """Return the axis that is cut into blocks, by the shape of the scales (see the module's docstring)."""
    return 0 if scale_shape[1] == 1 and scale_shape[2] > 1 else 1


def unpack_int4(packed: NDArray[np.uint8], scale: NDArray[np.float16]) -> NDArray[np.float32]:
    """Decode a 4-bit tensor: float32 [n, m]."""
    axis = blocked_axis(scale.shape)
    values = np.concatenate((packed & 15, packed >> 4), axis).astype(np.float32) - MIDDLE
    blocks = (scale.shape[0], -1, scale.shape[2]) if axis == 0 else (*scale.shape[:2], -1)
    return np.asarray((values.reshape(blocks) * scale.astype(np.float32)).reshape(values.shape), np.float32)


def _check(weights: Mapping[str, NDArray[Any]], spec: ModelSpec, file: str, elsewhere: tuple[str, ...]) -> None:
    """Check that all of a model's tensors are there, have its shapes, and that index tables are in range."""
    others = _token_shapes if spec.kind == TOKENS_KIND else _student_shapes
    wanted = {**_block_shapes(spec, weights), **others(spec, weights)}
    for name, shape in wanted.items():
        if name not in weights and not name.startswith(elsewhere):
            raise BundleError(f"{file} lacks the tensor {name!r}; export the bundle again")
        if name in weights and weights[name].shape != shape:
            found = list(weights[name].shape)
            raise BundleError(
                f"{file} has {name} of shape {found}, but the manifest makes it {list(shape)}; export the bundle again"
            )
        if name in weights and weights[name].dtype != np.float32 and name not in ("pair.keys", "tokens"):
            raise BundleError(f"{file} has {name} of type {weights[name].dtype}, not float; export the bundle again")
    for name, end in (("pair.keys", spec.codes**2), ("tokens", spec.vocab)):
        values = weights.get(name)
        if name in wanted and values is not None and not _within(values, end, rising=name == "pair.keys"):
            raise BundleError(f"{file} has values in {name} that are out of order or range; export the bundle again")


def _within(values: NDArray[Any], end: int, rising: bool) -> bool:
    if not np.issubdtype(values.dtype, np.integer) or (values.size and not 0 <= values.min() <= values.max() < end):
        return False
    return not rising or bool((np.diff(values.astype(np.int64)) > 0).all())


def positions(spec: ModelSpec) -> int:
    """Return the number of positions in the tables `rope.cos` and `rope.sin`."""
    if spec.kind == TOKENS_KIND:
        return spec.prompt + (spec.max_history + 1) * spec.levels + 1
    return spec.max_history + 1


def reading_length(spec: ModelSpec) -> int:
    """Return the number of tokens of the longest history, those before its first item included."""
    if spec.kind == TOKENS_KIND:
        return max(spec.prompt, 1) + spec.max_history * spec.levels
    return spec.max_history + 1


def _block_shapes(spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of `export.blocks`; biases are optional."""
    dim, queries, keys = spec.dim, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    rope = (positions(spec), spec.head_dim)
    out: dict[str, tuple[int, ...]] = {"norm": (dim,), "rope.cos": rope, "rope.sin": rope}
    matrices = {
        "qkv": (dim, queries + 2 * keys), "o": (queries, dim), "gate_up": (dim, 2 * spec.ffn), "down": (spec.ffn, dim),
    }  # fmt: skip
    for block in range(spec.blocks or spec.layers):
        for name, shape in matrices.items():
            out[f"layers.{block}.{name}"] = shape
            if f"layers.{block}.{name}_bias" in weights:
                out[f"layers.{block}.{name}_bias"] = shape[1:]
    return out


def _student_shapes(spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of `export.weights`, without the blocks."""
    dim, middle, codes = spec.dim, spec.decoder_dim, spec.codes
    out: dict[str, tuple[int, ...]] = {
        "start": (1, dim), "decoder.hidden": (dim, spec.levels * middle), "decoder.bias": (spec.levels * middle,),
    }  # fmt: skip
    for level in range(spec.levels):
        out |= {f"embed.{level}": (codes, dim), f"decoder.{level}.out": (middle, codes)}
        out[f"decoder.{level}.out_bias"] = (codes,)
        if level:
            out[f"decoder.{level}.prefix"] = (dim, middle)
    if spec.pair_dim:
        pairs = weights["pair.keys"].size if "pair.keys" in weights else 0
        out |= {"pair.keys": (pairs,), "pair.table": (1 + pairs, spec.pair_dim)}
        out |= {"pair.into": (spec.pair_dim, dim), "pair.query": (dim, spec.pair_dim)}
    return out


def _token_shapes(spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of `export.llama.weights`, without the blocks."""
    places = spec.levels * spec.codes + max(spec.prompt, 1)
    out: dict[str, tuple[int, ...]] = {"head": (spec.vocab, spec.dim), "tokens": (places,)}
    return out | {"embed": (places, spec.dim)} if "embed" in weights else out
