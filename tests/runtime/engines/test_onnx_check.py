"""Graphs that refer to files outside their bundle are refused at loading, invalid results when they are returned."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from fuzz.mutate import sealed
from onnx import TensorProto, helper, numpy_helper

from pocketrec.runtime.engines.onnx_check import check_graph
from pocketrec.runtime.engines.validate import check_search_output
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.recommender import Recommender
from tiny import random_rows, tiny_bundle, tiny_student

NAME = "recommender.onnx"
NONE = np.empty(0, np.int32)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("g") / "good", tiny_student(), random_rows(40))


@pytest.fixture
def bundle(good, tmp_path):
    return shutil.copytree(good, tmp_path / "b")


def load(folder):
    return Recommender.load(folder, "onnx")


def refused(folder, message, use=load):
    sealed(folder)
    with pytest.raises(BundleError, match=message) as caught:
        use(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def entry(key: str, *values: str) -> bytes:
    """A StringStringEntryProto whose value stands there several times; protobuf takes the last."""
    texts = [(1, key.encode()), *((2, value.encode()) for value in values)]
    return b"".join(bytes([n << 3 | 2, len(text)]) + text for n, text in texts)


def field(number: int, content: bytes) -> bytes:
    size, digits = len(content), b""
    while size > 127:
        digits, size = digits + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + digits + bytes([size]) + content


def graph_of(*entries: bytes) -> bytes:
    """A model of one tensor, whose external data is what the entries say."""
    return field(7, field(5, b"".join(field(13, e) for e in entries)))


SIZES = {"w.bin": 100}
ELSEWHERE = {
    "another name": [entry("location", "x")],
    "a second value": [entry("location", "w.bin", "../../etc/passwd")],
    "an address in memory": [entry("location", "*/_ORT_MEM_ADDR_/*"), entry("offset", "1")],
    "a second entry": [entry("location", "w.bin"), entry("location", "w.bin")],
    "bytes past the end": [entry("location", "w.bin"), entry("offset", "90"), entry("length", "11")],
    "a negative offset": [entry("location", "w.bin"), entry("offset", "-1")],
    "no number": [entry("location", "w.bin"), entry("length", "\u0661")],
}


@pytest.mark.parametrize("how", ELSEWHERE)
def test_a_tensor_that_lies_elsewhere_is_refused(tmp_path, how):
    (tmp_path / "g").write_bytes(graph_of(entry("location", "w.bin"), entry("offset", "90"), entry("length", "10")))
    check_graph(tmp_path / "g", SIZES)
    (tmp_path / "g").write_bytes(graph_of(*ELSEWHERE[how]))
    with pytest.raises(ValueError, match=r"takes weights|refers to|has no valid place|twice"):
        check_graph(tmp_path / "g", SIZES)


@pytest.mark.parametrize("shift", range(0, 12))
def test_a_name_is_found_wherever_it_stands_in_a_large_graph(tmp_path, shift):
    padding = field(2, bytes((1 << 20) - 20 + shift))  # the name of the producer; the first read ends near the word
    (tmp_path / "g").write_bytes(padding + graph_of(entry("location", "x")))
    with pytest.raises(ValueError, match="takes weights"):
        check_graph(tmp_path / "g", SIZES)


def test_a_graph_inside_graphs_is_followed_and_not_for_ever(tmp_path):
    inner = field(5, field(13, entry("location", "x")))
    for _ in range(10):  # graph -> node -> attribute -> graph
        inner = field(1, field(5, field(6, inner)))
    (tmp_path / "g").write_bytes(field(7, inner))
    with pytest.raises(ValueError, match="takes weights"):
        check_graph(tmp_path / "g", SIZES)
    for _ in range(100):
        inner = field(1, field(5, field(6, inner)))
    (tmp_path / "g").write_bytes(field(7, inner))
    with pytest.raises(ValueError, match="nested too deeply"):
        check_graph(tmp_path / "g", SIZES)


def test_an_unlisted_file_of_the_bundle_named_behind_a_listed_one_is_not_read(bundle):
    (bundle / "unlisted.bin").write_bytes((bundle / "model.safetensors").read_bytes())
    model = onnx.load(str(bundle / NAME), load_external_data=False)
    tensors = [t.SerializeToString() for t in model.graph.initializer]
    which = next(i for i, t in enumerate(model.graph.initializer) if t.external_data)
    listed = entry("location", "model.safetensors")
    assert field(13, listed) in tensors[which]
    tensors[which] = tensors[which].replace(
        field(13, listed), field(13, entry("location", "model.safetensors", "unlisted.bin"))
    )
    del model.graph.initializer[:]
    graph = model.graph.SerializeToString() + b"".join(field(5, t) for t in tensors)
    model.ClearField("graph")
    (bundle / NAME).write_bytes(model.SerializeToString() + field(7, graph))
    refused(bundle, "a file 'unlisted.bin' that the manifest does not list")


def constants(rows, scores) -> bytes:
    """A graph that always returns the same."""
    outputs, nodes = [], []
    for name, array in (("rows", rows), ("scores", scores)):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        outputs.append(helper.make_tensor_value_info(name, kind, list(array.shape)))
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
    inputs = [("history", TensorProto.INT32, ["n", 3]), ("first_child", TensorProto.INT32, ["a"])]
    inputs += [("codes", TensorProto.UINT8, ["b"]), ("exclude", TensorProto.INT32, ["c"])]
    values = [helper.make_tensor_value_info(*each) for each in [*inputs, ("beam", TensorProto.INT64, [1])]]
    graph = helper.make_graph(nodes, "constants", values, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


def i32(*values):
    return np.array(values, np.int32)


def f32(*values):
    return np.array(values, np.float32)


ANSWERS = {
    "an item twice": (i32(3, 3), f32(-1, -2)),
    "a worse item first": (i32(3, 4), f32(-2, -1)),
    "a probability above one": (i32(3, 4), f32(0.5, -1)),
    "an infinite score": (i32(3, 4), f32(np.inf, -1)),
    "an item that was seen": (i32(3, 1), f32(-1, -2)),
    "no such item": (i32(3, 40), f32(-1, -2)),
    "a negative row": (i32(3, -1), f32(-1, -2)),
    "more rows than scores": (i32(3, 4, 5), f32(-1, -2)),
    "two dimensions": (i32(3)[None], f32(-1)[None]),
    "rows of another type": (np.array([3]), f32(-1)),
    "scores of another type": (i32(3), np.array([-1.0])),
}


@pytest.mark.parametrize("wrong", ANSWERS)
def test_an_invalid_result_never_reaches_the_caller(bundle, wrong):
    def use(folder):
        with load(folder) as recommender:
            seen = recommender.trie.table.ids([1])
            recommender.recommend(seen, 5)

    (bundle / NAME).write_bytes(constants(*ANSWERS[wrong]))
    refused(bundle, r"the bundle's graph|recommender\.onnx has", use)


def test_a_sound_result_comes_through_without_its_empty_slots(bundle):
    (bundle / NAME).write_bytes(constants(i32(3, 9, 4, 0), f32(-1, np.nan, -2, -np.inf)))
    sealed(bundle)
    with load(bundle) as recommender:
        found = recommender.recommend([], 4)
        assert [item.item_id for item in found] == recommender.trie.table.ids([3, 4])
    rows, scores = check_search_output(i32(3, 4), f32(1000.5, -2), 5, NONE, f32(0, 0, 0, 1000, 0))
    assert (rows.tolist(), scores.tolist()) == ([3, 4], [1000.5, -2.0])
    with pytest.raises(BundleError, match="a score of 1e"):
        check_search_output(i32(3, 4), f32(1005, -2), 5, NONE, f32(0, 0, 0, 1000, 0))


def test_a_graph_with_other_inputs_or_outputs_is_refused_when_it_is_opened(bundle):
    model = onnx.load(str(bundle / NAME), load_external_data=False)
    sound = model.SerializeToString()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    (bundle / NAME).write_bytes(model.SerializeToString())
    refused(bundle, "recommender.onnx has 'more'")
    model.ParseFromString(sound)
    model.graph.output.pop()
    (bundle / NAME).write_bytes(model.SerializeToString())
    refused(bundle, "does not give 'scores'")


def test_onnx_runtimes_own_format_is_refused_by_whatever_name(bundle):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(bundle / "recommender.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(str(bundle / NAME), options, providers=["CPUExecutionProvider"])
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace("recommender.onnx", "recommender.ort"))
    refused(bundle, "recommender.ort")


@pytest.mark.parametrize("content", [b"", b"\x08\x09junk" * 10, b"\x3a\xff\xff\xff\xff\x0flocation", b"\xfflocation"])
def test_what_is_no_graph_is_refused_without_a_word_on_stdout(bundle, capfd, content):
    (bundle / NAME).write_bytes(content)
    refused(bundle, "recommender.onnx")
    assert "EP Error" not in capfd.readouterr().out
