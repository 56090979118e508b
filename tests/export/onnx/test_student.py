"""The device graphs: what is in the files, and the key-value cache that sessions will stand on."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from pocketrec.runtime.bundle.bundle import open_bundle
from tiny import CODES, LEVELS, random_rows, tiny_bundle, tiny_student

GRAPHS = ("encoder.onnx", "search.onnx", "recommender.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "b", tiny_student(heads=4, kv_heads=2), random_rows(40))


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_plain_onnx_without_traces_of_the_machine_that_wrote_them(folder, name):
    model = onnx.load(folder / name, load_external_data=False)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert {n.domain for n in model.graph.node} == {""}
    assert not model.functions
    assert not model.metadata_props
    assert not any(n.doc_string or n.metadata_props for n in model.graph.node)
    content = (folder / name).read_bytes()
    for trace in (b"/root", b"/home", b"site-packages", b".py", b"torch"):
        assert trace not in content
    assert not {n.op_type for n in model.graph.node} & {"If", "Loop", "Scan"}


def test_every_large_weight_lies_once_in_the_shared_file(folder):
    for name in GRAPHS:
        model = onnx.load(folder / name, load_external_data=False)
        inside = [t for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
        assert all(np.prod(t.dims) <= 64 for t in inside)
        outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        assert {e.value for t in outside for e in t.external_data if e.key == "location"} == {"model.safetensors"}


def test_the_same_student_gives_the_same_bytes(folder, tmp_path):
    again = tiny_bundle(tmp_path / "again", tiny_student(heads=4, kv_heads=2), random_rows(40))
    assert open_bundle(again).manifest == open_bundle(folder).manifest


@pytest.mark.parametrize("steps", [(1, 1, 1, 1), (3, 2, 1), (0, 4, 2), (6,)])
def test_reading_a_history_in_pieces_gives_the_hidden_state_of_reading_it_at_once(folder, steps):
    encoder = ort.InferenceSession(str(folder / "encoder.onnx"), providers=["CPUExecutionProvider"])
    spec = open_bundle(folder).manifest.model
    past = np.zeros((spec.layers, 2, spec.kv_heads, 0, spec.head_dim), np.float32)
    history = np.random.default_rng(0).integers(0, CODES, (sum(steps), LEVELS)).astype(np.int32)
    whole, whole_cache = encoder.run(None, {"history": history, "past": past})
    done = 0
    for step in steps:
        hidden, past = encoder.run(None, {"history": history[done : done + step], "past": past})
        done += step
    np.testing.assert_allclose(hidden, whole, atol=1e-5)
    np.testing.assert_allclose(past, whole_cache, atol=1e-5)
    assert past.shape[3] == len(history) + 1
