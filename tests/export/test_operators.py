"""The operator list of a bundle is whole: the graphs as written, and as ONNX Runtime rewrites them."""

from __future__ import annotations

import onnx
import pytest

from pocketrec.export.operators import operators, reduced_build_config
from pocketrec.runtime.bundle.bundle import open_bundle
from tiny import random_rows, tiny_bundle, tiny_student


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return open_bundle(tiny_bundle(tmp_path_factory.mktemp("b") / "bundle", tiny_student(), random_rows(40)))


def test_every_operator_of_every_graph_is_listed(bundle):
    found = operators(bundle)
    for name in bundle.manifest.graphs.values():
        model = onnx.load(str(bundle.file(name)), load_external_data=False)
        assert {node.op_type for node in model.graph.node} <= found["ai.onnx", 20]


def test_what_onnx_runtime_fuses_is_listed_too(bundle):
    assert any(domain == "com.microsoft" for domain, _ in operators(bundle))


def test_a_reduced_build_reads_one_line_a_domain():
    text = reduced_build_config({("ai.onnx", 20): {"MatMul", "Add"}, ("com.microsoft", 1): {"QuickGelu"}})
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "ai.onnx;20;Add,MatMul",
        "com.microsoft;1;QuickGelu",
    ]
