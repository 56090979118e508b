"""The device graphs of a model, of plain operators, over the bundle's one weight file.

`encoder.onnx`: history → hidden state; `search.onnx`: hidden state and trie → items; `recommender.onnx`: both in one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import onnx

from pocketrec.export.onnx.graph import FLOAT, INT32, Graph, WeightFile, value
from pocketrec.export.onnx.layers import Cache, join_cache, split_cache
from pocketrec.export.onnx.llama import TokenGraph
from pocketrec.export.onnx.search import Scorer, add_search, bias_input, search_inputs, search_outputs
from pocketrec.export.onnx.student import StudentGraph
from pocketrec.runtime.bundle.bundle import TOKENS_KIND, ModelSpec


class DeviceModel(Protocol):
    """The interface of a model that the graphs are built from."""

    g: Graph
    spec: ModelSpec
    reads_cache: bool  # whether its search needs the keys and values of the history

    def encode(self, *, cached: bool) -> tuple[str, Cache]:
        """Read the input `history`, after the input `past` if `cached`; return hidden [1, D] and the cache."""

    def scorer(self, hidden: str, cache: Cache) -> Scorer:
        """Score codes after a hidden state [1, D]."""


def write_graphs(spec: ModelSpec, weights: Path) -> dict[str, str]:
    """Write the three graphs beside their weight file, checked.

    :param spec: the model's shape.
    :param weights: the `model.safetensors` of `export/weights.py` or `export/llama/weights.py`.
    :returns: role → file name.
    """
    file = WeightFile(weights)
    kind = TokenGraph if spec.kind == TOKENS_KIND else StudentGraph
    for role, build in _BUILDERS.items():
        path = weights.with_name(f"{role}.onnx")
        path.write_bytes(build(kind(Graph(file), spec)).SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path), full_check=True)
    return {role: f"{role}.onnx" for role in _BUILDERS}


def encoder_graph(model: DeviceModel) -> onnx.ModelProto:
    """History → h, with cached keys and values.

    history int32 [N, L]; past float32 [layers, 2, G, P, d] → hidden [1, D]; present [layers, 2, G, P + T, d].
    """
    g, spec = model.g, model.spec
    hidden, cache = model.encode(cached=True)
    g.rename(hidden, "hidden")
    g.rename(join_cache(g, spec, cache), "present")
    inputs = [_history(spec), _cache(spec, "past", "past_tokens")]
    return g.model("encoder", inputs, [_hidden(spec), _cache(spec, "present", "tokens")])


def search_graph(model: DeviceModel) -> onnx.ModelProto:
    """H, the cache if the model reads it, and a trie → leaf rows and log-probabilities, best first.

    hidden float32 [1, D]; present float32 [layers, 2, G, S, d]; first_child int32; codes uint8 or uint16; exclude int32
    [M]; beam int64 [1]; bias float32 [nodes], or [1] with 0 for none → rows int32, scores float32.
    """
    g, spec = model.g, model.spec
    cache = split_cache(g, spec, "present") if model.reads_cache else []
    add_search(g, spec, model.scorer("hidden", cache), biased=True)
    inputs = [_hidden(spec), *([_cache(spec, "present", "tokens")] if model.reads_cache else [])]
    return g.model("search", [*inputs, *search_inputs(spec), bias_input()], search_outputs())


def recommender_graph(model: DeviceModel) -> onnx.ModelProto:
    """History and a trie → leaf rows and log-probabilities: both graphs in one call, without a cache from outside."""
    g, spec = model.g, model.spec
    add_search(g, spec, model.scorer(*model.encode(cached=False)), biased=False)
    return g.model("recommender", [_history(spec), *search_inputs(spec)], search_outputs())


_BUILDERS: Mapping[str, Callable[[DeviceModel], onnx.ModelProto]] = {
    "encoder": encoder_graph,
    "search": search_graph,
    "recommender": recommender_graph,
}


def _history(spec: ModelSpec) -> onnx.ValueInfoProto:
    return value("history", INT32, ["items", spec.levels])


def _hidden(spec: ModelSpec) -> onnx.ValueInfoProto:
    return value("hidden", FLOAT, [1, spec.dim])


def _cache(spec: ModelSpec, name: str, tokens: str) -> onnx.ValueInfoProto:
    return value(name, FLOAT, [spec.layers, 2, spec.kv_heads, tokens, spec.head_dim])
