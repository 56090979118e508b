"""The three device graphs of each kind of model: what the files hold, and what they leave out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from pocketrec.runtime.bundle.bundle import open_bundle

GRAPHS = ("encoder.onnx", "search.onnx", "recommender.onnx")


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
    manifest = open_bundle(folder).manifest
    assert manifest.files["model.safetensors"].bytes < 4 * manifest.model.parameters + 20_000


def test_the_same_model_gives_the_same_bytes(folder, make_bundle, tmp_path):
    assert open_bundle(make_bundle(tmp_path)).manifest == open_bundle(folder).manifest


def test_inputs_and_outputs_are_those_that_every_host_expects(folder):
    cache = ["present"] if open_bundle(folder).manifest.model.kind == "llama-tokens" else []
    trie, found = ["first_child", "codes", "exclude", "beam"], ["rows", "scores"]
    expected = {
        "encoder.onnx": (["history", "past"], ["hidden", "present"]),
        "search.onnx": (["hidden", *cache, *trie, "bias"], found),
        "recommender.onnx": (["history", *trie], found),
    }
    for name, (inputs, outputs) in expected.items():
        graph = onnx.load(folder / name, load_external_data=False).graph
        assert ([i.name for i in graph.input], [o.name for o in graph.output]) == (inputs, outputs)
