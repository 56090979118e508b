"""A minimal writer of ONNX graphs, node by node, over `onnx.helper`.

The device graphs are written by hand rather than traced, so that every node is chosen, the file holds nothing of the
exporter's machine, and the graph does not change with torch's version (docs/decisions/0002-graphs-by-hand.md). Weights
stay outside, in the bundle's one safetensors file: ONNX external data is a file, an offset and a length, and a
safetensors tensor has exactly these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pocketrec.runtime.bundle.weights import INT4, INT8, MIDDLE, SCALE, blocked_axis
from pocketrec.runtime.files.safetensors import read_header

OPSET = 20
IR_VERSION = 9
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
UINT8, UINT16 = TensorProto.UINT8, TensorProto.UINT16
_TYPES = {
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "U16": TensorProto.UINT16,
    "I8": TensorProto.INT8,
    "U8": TensorProto.UINT8,
    "I32": TensorProto.INT32,
}


class WeightFile:
    """A safetensors file and where each of its tensors lies."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        :raises ValueError: if it is damaged.
        """
        self.name, self._path = path.name, path
        self.tensors = read_header(path)

    @property
    def names(self) -> set[str]:
        """Names of the model's tensors, however they are stored."""
        return {name.removesuffix(SCALE).removesuffix(INT8).removesuffix(INT4) for name in self.tensors}

    def integers(self, name: str) -> NDArray[np.int64]:
        """Read a tensor of uint16, uint8 or int32."""
        dtype, shape, offset, _ = self.tensors[name]
        kind = helper.tensor_dtype_to_np_dtype(_TYPES[dtype]).newbyteorder("<")  # as safetensors files are
        return np.fromfile(self._path, kind, int(np.prod(shape)), offset=offset).reshape(shape).astype(np.int64)

    def external(self, name: str) -> TensorProto:
        """Return an initializer that refers to the tensor in this file."""
        dtype, shape, offset, length = self.tensors[name]
        tensor = TensorProto(name=name, data_type=_TYPES[dtype], dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.name), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        return tensor


class Graph:
    """Collects nodes. Calling it adds one and returns its output name: `y = g("MatMul", x, w)`."""

    def __init__(self, weights: WeightFile) -> None:
        """Start an empty graph over a weight file."""
        self.weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._decoded: dict[str, str] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.split(op, 1, *inputs, **attributes)[0]

    def split(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        names = [f"{op}_{len(self._nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=names[0], **attributes))
        return names

    def weight(self, name: str) -> str:
        """Return the name of a tensor of the weight file, decoded to float32 where it is stored as something less.

        The nodes of the decoding have constants alone as inputs, so ONNX Runtime runs them once, at load
        (`pocketrec.runtime.bundle.weights` has the rule).
        """
        if name not in self._decoded:
            self._decoded[name] = self._decode(name)
        return self._decoded[name]

    def _decode(self, name: str) -> str:
        tensors = self.weights.tensors
        if name + INT8 in tensors:
            values = self("Cast", self._stored(name + INT8), to=TensorProto.FLOAT)
            return self("Mul", values, self("Cast", self._stored(name + SCALE), to=TensorProto.FLOAT))
        if name + INT4 in tensors:
            return self._decode_int4(name)
        stored = self._stored(name)
        return self("Cast", stored, to=TensorProto.FLOAT) if tensors[name].dtype == "F16" else stored

    def _decode_int4(self, name: str) -> str:
        packed, scale = self._stored(name + INT4), self._stored(name + SCALE)
        (rows, columns), shape = self.weights.tensors[name + INT4].shape, self.weights.tensors[name + SCALE].shape
        axis = blocked_axis(shape)
        low = self("BitwiseAnd", packed, self.const(15, np.uint8))
        high = self("BitShift", packed, self.const(4, np.uint8), direction="RIGHT")
        values = self("Cast", self("Concat", low, high, axis=axis), to=TensorProto.FLOAT)
        values = self("Sub", values, self.const(MIDDLE, np.float32))
        blocks = (shape[0], -1, shape[2]) if axis == 0 else (shape[0], shape[1], -1)
        scaled = self("Mul", self("Reshape", values, self.ints(*blocks)), self("Cast", scale, to=TensorProto.FLOAT))
        whole = (rows * 2, columns) if axis == 0 else (rows, columns * 2)
        return self("Reshape", scaled, self.ints(*whole))

    def _stored(self, name: str) -> str:
        """The name of a tensor as it lies in the weight file."""
        self._initializers[name] = self.weights.external(name)
        return name

    def const(self, value: Any, dtype: type[np.generic]) -> str:
        """Return the name of a small constant kept in the graph; equal constants are one."""
        array: NDArray[Any] = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"const_{len(self._constants)}"
            self._constants[key] = name
            self._initializers[name] = numpy_helper.from_array(array, name)
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """Return an int64 vector constant (axes, shapes, slice bounds)."""
        return self.const(values, np.int64)

    def rename(self, name: str, to: str) -> None:
        """Give a node's output the name that users of the graph see."""
        self._nodes.append(helper.make_node("Identity", [name], [to], name=to))

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """Close the graph. Check it once it lies beside its weight file."""
        graph = helper.make_graph(self._nodes, name, list(inputs), list(outputs), list(self._initializers.values()))
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="pocketrec",
        )


def value(name: str, dtype: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """Describe a graph input or output; strings are free dimensions."""
    return helper.make_tensor_value_info(name, dtype, list(shape))
