"""Lists the ONNX operators that a bundle's graphs need, for instance for a reduced build of ONNX Runtime.

The list has the operators of the graphs as written, and of the graphs as ONNX Runtime rewrites them when it opens them
(it fuses some operators into its own), since a reduced build must have both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from pocketrec.runtime.bundle.bundle import Bundle
from pocketrec.runtime.errors import BundleError

DEFAULT_DOMAIN = "ai.onnx"

Operators = dict[tuple[str, int], set[str]]  # (domain, opset) -> operator names


def operators(bundle: Bundle) -> Operators:
    """Collect the operators of all graphs of a bundle.

    :raises BundleError: if it has no ONNX graph.
    """
    paths = [bundle.file(name) for name in bundle.manifest.graphs.values() if name.endswith(".onnx")]
    if not paths:
        raise BundleError("this bundle has no ONNX graph; export it with --format onnx to list its operators")
    found: Operators = {}
    for path in paths:
        for model in (onnx.load(str(path), load_external_data=False), _optimised(path)):
            _collect(model, found)
    return found


def reduced_build_config(found: Mapping[tuple[str, int], Iterable[str]]) -> str:
    """Return the text that ONNX Runtime's `--include_ops_by_config` reads: lines of `domain;opset;names`."""
    lines = ["# operators of a pocketrec bundle, for onnxruntime/tools/ci_build/build.py --include_ops_by_config"]
    lines += [f"{domain};{opset};{','.join(sorted(names))}" for (domain, opset), names in sorted(found.items())]
    return "\n".join(lines) + "\n"


def _collect(model: onnx.ModelProto, found: Operators) -> None:
    opsets = {entry.domain or DEFAULT_DOMAIN: entry.version for entry in model.opset_import}
    for node in model.graph.node:
        domain = node.domain or DEFAULT_DOMAIN
        found.setdefault((domain, opsets.get(domain, 1)), set()).add(node.op_type)


def _optimised(path: Path) -> onnx.ModelProto:
    """The graph as ONNX Runtime rewrites it for any CPU (its last level of rewriting depends on the machine)."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "optimised.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(out)
        options.log_severity_level = 3
        ort.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
        return onnx.load(str(out), load_external_data=False)
