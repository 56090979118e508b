"""Llama blocks as ONNX nodes, over the tensors of `export/blocks.py`: for our student and for converted models.

One sequence at a time: phones serve one user. Shapes in comments: P cached tokens, T new tokens, S = P + T, D width,
H heads, G key-value heads, r = H / G, d head width, F feed-forward.
"""

from __future__ import annotations

import numpy as np

from pocketrec.export.onnx.graph import Graph
from pocketrec.runtime.bundle.bundle import ModelSpec
from pocketrec.runtime.bundle.weights import reading_length

Cache = list[tuple[str, str]]  # by layer: keys and values, [G, tokens, d] each


def silu(g: Graph, x: str) -> str:
    """Return x · sigmoid(x)."""
    return g("Mul", x, g("Sigmoid", x))


def split_cache(g: Graph, spec: ModelSpec, cache: str) -> Cache:
    """Split a cache [layers, 2, G, P, d] into keys and values by layer."""
    flat = g("Reshape", cache, g.ints(2 * spec.layers * spec.kv_heads, -1, spec.head_dim))
    each = g.split("Split", 2 * spec.layers, flat, axis=0, num_outputs=2 * spec.layers)
    return list(zip(each[::2], each[1::2], strict=True))


def join_cache(g: Graph, spec: ModelSpec, cache: Cache) -> str:
    """Join keys and values into one cache [layers, 2, G, S, d], as `split_cache` splits it."""
    shape = g.ints(spec.layers, 2, spec.kv_heads, -1, spec.head_dim)
    return g("Reshape", g("Concat", *(t for layer in cache for t in layer), axis=0), shape)


class LlamaLayers:
    """Adds the parts of a Llama to a graph; every method returns the names of its results."""

    def __init__(self, g: Graph, spec: ModelSpec) -> None:
        """Add to a graph whose weight file holds the model of `spec`."""
        self.g, self.spec = g, spec
        self.tensors = g.weights.names

    def cached_tokens(self, cached: bool) -> str:
        """The number of tokens in the input `past`, [1] = P; 0 in a graph without it."""
        return self.g("Shape", "past", start=3, end=4) if cached else self.g.ints(0)

    def read(self, x: str, first: str, *, cached: bool, projected: str = "") -> tuple[str, Cache]:
        """Run all blocks over new tokens; return hidden [1, D] and the keys and values of all S tokens.

        :param x: embeddings of the new tokens, [T, D].
        :param first: the number of cached tokens, [1].
        :param cached: whether the graph has an input `past` with the cached tokens.
        :param projected: queries, keys and values of the first block, if they are known already.
        """
        g, spec = self.g, self.spec
        end = g("Add", first, g("Shape", x, start=0, end=1))  # [1] = S
        rope, mask = self.rope(first, end), self._causal_mask(first, end)
        past = split_cache(g, spec, "past") if cached else []
        cache: Cache = []
        for layer in range(spec.layers):
            last = layer + 1 == spec.layers
            known = projected if layer == 0 else ""
            q, k, v = self.heads(known or self.project(layer, x), rope)
            if cached:
                k, v = (g("Concat", old, new, axis=1) for old, new in zip(past[layer], (k, v), strict=True))
            cache.append((k, v))  # [G, S, d]
            if last:  # only the newest token's hidden state is needed
                x, q = self._newest(x, axis=0), self._newest(q, axis=1)
            x = self.finish_block(layer, x, self._attend(q, k, v, None if last else mask))
        return self.final_norm(x), cache

    def rope(self, begin: str, end: str) -> tuple[str, str]:
        """Cosines and sines of the positions from `begin` to `end`, [n, d] each."""
        g = self.g
        cos, sin = (g("Slice", g.weight(f"rope.{name}"), begin, end, g.ints(0)) for name in ("cos", "sin"))
        return cos, sin

    def project(self, layer: int, x: str) -> str:
        """Queries (scaled), keys and values of all heads side by side, [T, (H + 2·G)·d]."""
        return self._linear(layer, "qkv", self._norm(x))

    def heads(self, projected: str, rope: tuple[str, str]) -> tuple[str, str, str]:
        """Rotated queries [H, T, d], rotated keys and values [G, T, d]."""
        g, spec = self.g, self.spec
        each = g("Reshape", projected, g.ints(-1, spec.heads + 2 * spec.kv_heads, spec.head_dim))
        rotated = g.ints(spec.heads + spec.kv_heads, spec.kv_heads)
        qk, v = g.split("Split", 2, g("Transpose", each, perm=[1, 0, 2]), rotated, axis=0)
        q, k = g.split("Split", 2, self._rotate(qk, *rope), g.ints(spec.heads, spec.kv_heads), axis=0)
        return q, k, v

    def finish_block(self, layer: int, x: str, mixed: str) -> str:
        """The rest of a block after attention: project mixed values [T, H·d] and add, feed forward and add, [T, D]."""
        g = self.g
        x = g("Add", x, self._linear(layer, "o", mixed))
        both = self._linear(layer, "gate_up", self._norm(x))
        gate, up = g.split("Split", 2, both, axis=-1, num_outputs=2)
        return g("Add", x, self._linear(layer, "down", g("Mul", silu(g, gate), up)))

    def final_norm(self, x: str) -> str:
        """The hidden state that users of the model see, [T, D]."""
        return self.g("Mul", self._norm(x), self.g.weight("norm"))

    def merge_heads(self, mixed: str) -> str:
        """Mixed values [H, T, d] (or [G, r·T, d], or [G, r, T, d]) token by token, [T, H·d]."""
        g, spec = self.g, self.spec
        if spec.heads != spec.kv_heads:
            mixed = g("Reshape", mixed, g.ints(spec.heads, -1, spec.head_dim))
        tokens = g("Transpose", mixed, perm=[1, 0, 2])
        return g("Reshape", tokens, g.ints(-1, spec.heads * spec.head_dim))

    def _attend(self, q: str, k: str, v: str, mask: str | None) -> str:
        """Attention of queries [H, T, d] over keys and values [G, S, d], [T, H·d]; without a mask, of one query."""
        g, spec = self.g, self.spec
        k = g("Transpose", k, perm=[0, 2, 1])  # [G, d, S]
        if spec.heads != spec.kv_heads:  # r heads share keys
            q = g("Reshape", q, g.ints(spec.kv_heads, spec.heads // spec.kv_heads, -1, spec.head_dim))
            k, v = (g("Unsqueeze", t, g.ints(1)) for t in (k, v))
        scores = g("MatMul", q, k)  # [H, T, S]
        scores = g("Add", scores, mask) if mask else scores
        mixed = g("MatMul", g("Softmax", scores, axis=-1), v)  # [H, T, d]
        if mask:
            return self.merge_heads(mixed)
        return g("Reshape", mixed, g.ints(1, spec.heads * spec.head_dim))  # one query needs no transpose

    def _rotate(self, x: str, cos: str, sin: str) -> str:
        """Rotary positions on [heads, T, d]: x·cos + (x @ R)·sin, where R swaps the halves and negates one."""
        g, half = self.g, self.spec.head_dim // 2
        swap = np.zeros((2 * half, 2 * half), np.float32)
        swap[np.arange(half) + half, np.arange(half)] = -1.0
        swap[np.arange(half), np.arange(half) + half] = 1.0
        turned = g("MatMul", x, g.const(swap, np.float32))
        return g("Add", g("Mul", x, cos), g("Mul", turned, sin))

    def _causal_mask(self, first: str, end: str) -> str:
        """0 where a new token may attend to a token, −inf where it may not, [T, S]."""
        g = self.g
        places = g.const(np.arange(reading_length(self.spec)), np.int32)
        rows = g("Unsqueeze", g("Slice", places, first, end, g.ints(0)), g.ints(1))
        columns = g("Slice", places, g.ints(0), end, g.ints(0))
        return g("Where", g("Greater", columns, rows), g.const(-np.inf, np.float32), g.const(0, np.float32))

    def _linear(self, layer: int, name: str, x: str) -> str:
        """Multiply by a matrix of the layer's block, and add its bias if it has one."""
        g, tensor = self.g, f"layers.{self.spec.block(layer)}.{name}"
        y = g("MatMul", x, g.weight(tensor))
        return g("Add", y, g.weight(f"{tensor}_bias")) if f"{tensor}_bias" in self.tensors else y

    def _norm(self, x: str) -> str:
        """Root-mean-square normalisation without a weight (it is folded into the next matrix)."""
        g = self.g
        square = g("ReduceMean", g("Mul", x, x), g.ints(-1), keepdims=1)
        return g("Div", x, g("Sqrt", g("Add", square, g.const(self.spec.norm_eps, np.float32))))

    def _newest(self, x: str, axis: int) -> str:
        return self.g("Slice", x, self.g.ints(-1), self.g.ints(np.iinfo(np.int64).max), self.g.ints(axis))
