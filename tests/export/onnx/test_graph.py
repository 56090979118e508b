"""The writer of graphs: weights decoded in a graph are those that numpy decodes, and equal constants are one."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from pocketrec.export.onnx.graph import FLOAT, Graph, WeightFile, value
from pocketrec.export.quantize import SCHEMES, save_weights
from pocketrec.runtime.bundle.weights import read_weights

MATRICES = {"layers.0.down": (12, 7), "embed.0": (5, 8), "decoder.bias": (6,)}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_decoded_in_a_graph_are_those_that_numpy_decodes(tmp_path, scheme):
    generator = np.random.default_rng(0)
    tensors = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in MATRICES.items()}
    save_weights(tensors, tmp_path / "w.safetensors", scheme)
    file = WeightFile(tmp_path / "w.safetensors")
    assert file.names == set(MATRICES)
    g = Graph(file)
    outputs = []
    for number, name in enumerate(MATRICES):
        g.rename(g.weight(name), f"out{number}")
        outputs.append(value(f"out{number}", FLOAT, MATRICES[name]))
    (tmp_path / "g.onnx").write_bytes(g.model("g", [], outputs).SerializeToString())
    session = ort.InferenceSession(str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"])
    expected = read_weights(tmp_path / "w.safetensors")
    for name, found in zip(MATRICES, session.run(None, {}), strict=True):
        np.testing.assert_array_equal(found, expected[name])


def test_equal_constants_are_one_and_others_are_not(tmp_path):
    save_weights({"norm": np.ones(1, np.float32)}, tmp_path / "w.safetensors", "none")
    g = Graph(WeightFile(tmp_path / "w.safetensors"))
    assert g.ints(1, 2) == g.const([1, 2], np.int64)
    assert len({g.ints(1, 2), g.const([1, 2], np.int32), g.const([[1, 2]], np.int64), g.ints(2, 1)}) == 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_integers_are_read_back_whatever_their_width(tmp_path, dtype):
    save_weights({"pair.keys": np.array([3, 200], dtype)}, tmp_path / "w.safetensors", "none")
    found = WeightFile(tmp_path / "w.safetensors").integers("pair.keys")
    assert (found.tolist(), found.dtype) == ([3, 200], np.int64)
