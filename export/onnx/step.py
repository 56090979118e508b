"""A converted Llama read a token at a time, for hosts that search by themselves: `step.onnx`.

Our own search is inside the graphs and has no use for it; `pocketrec bench` compares with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocketrec.export.onnx.graph import WeightFile, value
from pocketrec.export.onnx.llama import _Llama
from pocketrec.export.onnx.student import FLOAT, INT32, _norm
from pocketrec.runtime.bundle.bundle import ModelSpec


class _Step(_Llama):
    """One token for each of B beams, whose caches are their own."""

    def step(self) -> tuple[str, str]:
        """Add the graph; return the names of the logits [B, V] and of the cache [layers, 2, B, G, S + 1, d]."""
        g, spec = self.g, self.spec
        read = g("Shape", "past", start=4, end=5)
        x, projected = self._tokens("places")
        rope = self._rope(read, g("Add", read, g.ints(1)))
        cache = []
        for layer in range(spec.layers):
            q, k, v = self._heads(projected if layer == 0 else self._project(layer, x), rope)  # [H or G, B, d]
            kv = g("Gather", "past", g.const(layer, np.int64), axis=0)
            k, v = (
                g("Concat", g("Gather", kv, g.const(i, np.int64), axis=0), self._of_beam(t), axis=2)
                for i, t in enumerate((k, v))
            )  # [B, G, S + 1, d]
            cache += [k, v]
            queries = g(
                "Transpose",
                g("Reshape", q, g.ints(spec.kv_heads, spec.heads // spec.kv_heads, -1, spec.head_dim)),
                perm=[2, 0, 1, 3],
            )
            weights = g("Softmax", g("MatMul", queries, g("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
            mixed = g("Transpose", g("MatMul", weights, v), perm=[1, 2, 0, 3])  # [G, r, B, d]
            x = self._rest(layer, x, g("Reshape", mixed, g.ints(spec.heads, -1, spec.head_dim)))
        hidden = g("Mul", _norm(g, spec, x), g.weight("norm"))
        stacked = g("Concat", *(g("Unsqueeze", t, g.ints(0)) for t in cache), axis=0)  # [2·layers, B, G, S + 1, d]
        shape = g("Concat", g.ints(spec.layers, 2), g("Shape", stacked, start=1), axis=0)
        return g("Gemm", hidden, g.weight("head"), transB=1), g("Reshape", stacked, shape)

    def _of_beam(self, t: str) -> str:
        """[G, B, d] → [B, G, 1, d]."""
        return self.g("Unsqueeze", self.g("Transpose", t, perm=[1, 0, 2]), self.g.ints(2))


def step_graph(spec: ModelSpec, weights: Path) -> bytes:
    """The graph that reads a token per beam: places int32 [B], past [layers, 2, B, G, S, d] → logits, present."""
    model = _Step(spec, WeightFile(weights))
    for name, found in zip(("logits", "present"), model.step(), strict=True):
        model.g.rename(found, name)
    cache: list[int | str] = [spec.layers, 2, "beams", spec.kv_heads]
    inputs = [value("places", INT32, ["beams"]), value("past", FLOAT, [*cache, "tokens", spec.head_dim])]
    outputs = [value("logits", FLOAT, ["beams", spec.vocab]), value("present", FLOAT, [*cache, "all", spec.head_dim])]
    return bytes(model.g.model("step", inputs, outputs).SerializeToString())
