"""A converted Llama read a token at a time, for hosts that search by themselves: `step.onnx`.

Our own search is inside the graphs and has no use for it; `pocketrec bench` compares with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocketrec.export.onnx.graph import FLOAT, INT32, Graph, WeightFile, value
from pocketrec.export.onnx.llama import TokenGraph
from pocketrec.runtime.bundle.bundle import ModelSpec


def step_graph(spec: ModelSpec, weights: Path) -> bytes:
    """The graph that reads a token per beam: places int32 [B], past [layers, 2, B, G, S, d] → logits, present."""
    model = TokenGraph(Graph(WeightFile(weights)), spec)
    for name, found in zip(("logits", "present"), _add_step(model), strict=True):
        model.g.rename(found, name)
    cache: list[int | str] = [spec.layers, 2, "beams", spec.kv_heads]
    inputs = [value("places", INT32, ["beams"]), value("past", FLOAT, [*cache, "tokens", spec.head_dim])]
    outputs = [value("logits", FLOAT, ["beams", spec.vocab]), value("present", FLOAT, [*cache, "all", spec.head_dim])]
    return bytes(model.g.model("step", inputs, outputs).SerializeToString())


def _add_step(model: TokenGraph) -> tuple[str, str]:
    """Read one token for each of B beams, whose caches are their own.

    Returns the names of the logits [B, V] and of the cache [layers, 2, B, G, S + 1, d].
    """
    g, spec = model.g, model.spec
    read = g("Shape", "past", start=4, end=5)
    x, projected = model.embed("places")
    rope = model.rope(read, g("Add", read, g.ints(1)))
    cache = []
    for layer in range(spec.layers):
        q, *kv = model.heads(model.project(layer, x) if layer else projected, rope)  # [H or G, B, d]
        past = g("Gather", "past", g.const(layer, np.int64), axis=0)
        for place, new in enumerate(kv):
            of_beam = g("Unsqueeze", g("Transpose", new, perm=[1, 0, 2]), g.ints(2))  # [B, G, 1, d]
            cache.append(g("Concat", g("Gather", past, g.const(place, np.int64), axis=0), of_beam, axis=2))
        x = model.finish_block(layer, x, _attend(model, q, *cache[-2:]))
    stacked = g("Concat", *(g("Unsqueeze", t, g.ints(0)) for t in cache), axis=0)  # [2·layers, B, G, S + 1, d]
    shape = g("Concat", g.ints(spec.layers, 2), g("Shape", stacked, start=1), axis=0)
    return model.logits(model.final_norm(x)), g("Reshape", stacked, shape)


def _attend(model: TokenGraph, q: str, k: str, v: str) -> str:
    """Attention of queries [H, B, d] over each beam's keys and values [B, G, S + 1, d], [B, H·d]."""
    g, spec = model.g, model.spec
    grouped = g("Reshape", q, g.ints(spec.kv_heads, spec.heads // spec.kv_heads, -1, spec.head_dim))
    queries = g("Transpose", grouped, perm=[2, 0, 1, 3])  # [B, G, r, d]
    weights = g("Softmax", g("MatMul", queries, g("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    return g("Reshape", g("MatMul", weights, v), g.ints(-1, spec.heads * spec.head_dim))
