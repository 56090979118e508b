"""A text encoder's files are refused in one line where they are not what they should be, and so are its vectors."""

from __future__ import annotations

import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.text_encoder import TextEncoder

tokenizers = pytest.importorskip("tokenizers", reason="text encoders need tokenizers: pip install 'pocketrec[text]'")
SETTINGS = {"graph": "model.onnx", "output": "y", "dim": 4, "max_tokens": 8, "pooling": "mean"}


def graph(table=None, inputs=("input_ids",), outside=False) -> onnx.ModelProto:
    """A row of a table for every token."""
    table = np.eye(3, 4, dtype=np.float32) if table is None else table
    tensor = numpy_helper.from_array(table, "table")
    if outside:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
    nodes = [helper.make_node("Gather", ["table", inputs[0]], ["y"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in inputs]
    kind = helper.np_dtype_to_tensor_dtype(table.dtype)
    whole = helper.make_graph(nodes, "g", ports, [helper.make_tensor_value_info("y", kind, None)], [tensor])
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.fixture
def folder(tmp_path):
    model = tokenizers.models.WordLevel({"[UNK]": 0, "red": 1, "shoe": 2}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "text-encoder.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "model.onnx").write_bytes(graph().SerializeToString())
    return tmp_path


def refused(folder, message):
    with pytest.raises(BundleError, match=message) as caught:
        TextEncoder(folder).encode(["red shoe"])
    assert "\n" not in str(caught.value)


def test_sound_files_give_vectors(folder):
    vectors = TextEncoder(folder).encode(["red shoe", ""])
    np.testing.assert_allclose(vectors, [[0, 0.5**0.5, 0.5**0.5, 0], [0, 0, 0, 0]], atol=1e-6)


SETTINGS_THAT_LIE = {
    "deep nesting": b"[" * 100_000,
    "a name twice": json.dumps(SETTINGS).replace("{", '{"dim": 4, ', 1).encode(),
    "megabytes": b" " * (1 << 20) + json.dumps(SETTINGS).encode(),
    "no graph": json.dumps({**SETTINGS, "graph": ""}).encode(),
    "no output": json.dumps({**SETTINGS, "output": 3}).encode(),
    "a width of true": json.dumps({**SETTINGS, "dim": True}).encode(),
    "another output": json.dumps({**SETTINGS, "output": "z"}).encode(),
    "another width": json.dumps({**SETTINGS, "dim": 5}).encode(),
}


@pytest.mark.parametrize("lie", SETTINGS_THAT_LIE)
def test_settings_that_are_none_are_refused(folder, lie):
    (folder / "text-encoder.json").write_bytes(SETTINGS_THAT_LIE[lie])
    refused(folder, "encoder")


@pytest.mark.parametrize("name", ["text-encoder.json", "model.onnx", "tokenizer.json"])
def test_a_pipe_in_a_files_place_is_refused_without_waiting(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, name.split(".")[0])


GRAPHS_THAT_LIE = {
    "weights elsewhere": graph(outside=True),
    "other inputs": graph(inputs=("ids",)),
    "more inputs": graph(inputs=("input_ids", "more")),
    "another width": graph(np.eye(3, 5, dtype=np.float32)),
    "a width that broadcasts": graph(np.ones((3, 1), np.float32)),
    "another type": graph(np.eye(3, 4)),
    "no numbers": graph(np.full((3, 4), np.nan, np.float32)),
    "too few rows": graph(np.eye(2, 4, dtype=np.float32)),
}


@pytest.mark.parametrize("lie", GRAPHS_THAT_LIE)
def test_a_graph_that_is_none_is_refused(folder, lie):
    np.eye(3, 4, dtype=np.float32).tofile(folder / "weights.bin")
    (folder / "model.onnx").write_bytes(GRAPHS_THAT_LIE[lie].SerializeToString())
    refused(folder, "encoder|takes weights")
