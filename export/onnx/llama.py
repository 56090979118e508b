"""Device graphs of a converted Llama that spells items in tokens.

Inputs and outputs are those of `export/onnx/student.py`.

The model reads [prompt ; L tokens per history item] and spells the next item in L further tokens. Codes become tokens
inside the graph, the history is read once, and the search is unrolled: each beam's newest token attends to the keys and
values of the history, which all beams share, and to those of its own earlier codes, which are gathered by parent. The
first code's probabilities come from the last position of the history, so level 0 needs no pass of its own.

Scores. A code's log-probability is the log-softmax over the model's whole vocabulary, and only then are tokens left
out that lead to no item: so does `generate` with `prefix_allowed_tokens_fn`, whose processors run after the softmax. An
item's score is therefore `sequences_scores` of `generate` with length_penalty 0, or L times that with the default 1.

Without a prompt, an empty history is read as the start token (`tokens[L·K]`); a history that is not empty does not
begin with it. The first layer's norm and projections depend on the token alone, so they are written on the table of
tokens: ONNX Runtime computes them when it opens the graph, and each call looks rows up. Shapes in comments as in
`export/onnx/student.py`; further V vocabulary, l codes of a beam so far, J = H + 2·G, r = H / G.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from pocketrec.export.onnx.graph import Graph, WeightFile, value
from pocketrec.export.onnx.student import (
    BIAS,
    FLOAT,
    INT32,
    INT64,
    Cache,
    _best,
    _children,
    _norm,
    _past,
    _results,
    _root,
    _silu,
    _stacked,
    _trie_inputs,
    _without_excluded,
    build_graphs,
)
from pocketrec.runtime.bundle.bundle import ModelSpec

LAST = np.iinfo(np.int64).max
MOST_TABLE_ROWS = 1 << 13  # codes and prompt; with more, the first layer is computed in each call


def write_token_graphs(spec: ModelSpec, weights: Path) -> dict[str, str]:
    """Write the three graphs beside their weight file.

    :param spec: the model's shape, of kind "llama-tokens".
    :param weights: the `model.safetensors` of `export.token_weights`.
    :returns: role → file name.
    """
    return build_graphs(_BUILDERS, spec, weights)


def token_encoder_graph(spec: ModelSpec, file: WeightFile) -> onnx.ModelProto:
    """History → h, with cached keys and values.

    history int32 [N, L]; past float32 [layers, 2, G, P, d] → hidden [1, D]; present [layers, 2, G, P + T, d]. With
    P = 0 the prompt is put first, or the start token if there is neither prompt nor item; otherwise N ≥ 1. A session
    without a prompt begins at its first item: what the start token left must not be continued.
    """
    model = _Llama(spec, file)
    g = model.g
    hidden, cache = model.encode(cached=True)
    g.rename(hidden, "hidden")
    g.rename(_stacked(g, spec, cache), "present")
    inputs = [value("history", INT32, ["items", spec.levels]), _cache(spec, "past", "past_tokens")]
    return g.model("encoder", inputs, [_hidden(spec), _cache(spec, "present", "tokens")])


def token_search_graph(spec: ModelSpec, file: WeightFile) -> onnx.ModelProto:
    """H, the cache and a trie → leaf rows and log-probabilities, best first.

    hidden float32 [1, D]; present float32 [layers, 2, G, S, d]; first_child int32; codes uint8 or uint16; exclude int32
    [M]; beam int64 [1]; bias float32 [nodes], or [1] with 0 for none → rows int32, scores float32.
    """
    model = _Llama(spec, file)
    model.search("hidden", _past(model.g, spec, "present"), "bias")
    inputs = [_hidden(spec), _cache(spec, "present", "tokens"), *_trie_inputs(spec), BIAS]
    return model.g.model("search", inputs, _results())


def token_recommender_graph(spec: ModelSpec, file: WeightFile) -> onnx.ModelProto:
    """History and a trie → leaf rows and log-probabilities: both graphs in one call, without a cache from outside."""
    model = _Llama(spec, file)
    model.search(*model.encode(cached=False))
    inputs = [value("history", INT32, ["items", spec.levels]), *_trie_inputs(spec)]
    return model.g.model("recommender", inputs, _results())


_BUILDERS = {"encoder": token_encoder_graph, "search": token_search_graph, "recommender": token_recommender_graph}


def _hidden(spec: ModelSpec) -> onnx.ValueInfoProto:
    return value("hidden", FLOAT, [1, spec.dim])


def _cache(spec: ModelSpec, name: str, tokens: str) -> onnx.ValueInfoProto:
    return value(name, FLOAT, [spec.layers, 2, spec.kv_heads, tokens, spec.head_dim])


class _Llama:
    """Adds a Llama's parts to a graph."""

    def __init__(self, spec: ModelSpec, file: WeightFile) -> None:
        self.spec, self.tensors = spec, file.names
        self.g = Graph(file)

    # --- history → h and cache -----------------------------------------------------------------------------------

    def encode(self, *, cached: bool) -> tuple[str, Cache]:
        """Read the history; return the names of hidden [1, D] and of every layer's keys and values [G, S, d]."""
        g, spec = self.g, self.spec
        first = g("Shape", "past", start=3, end=4) if cached else g.ints(0)  # [1] = P
        x, projected = self._tokens(self._history(first))  # [T, D], [T, J·d]
        end = g("Add", first, g("Shape", x, start=0, end=1))  # [1] = S
        rope = self._rope(first, end)
        mask = self._causal(first, end)
        past = _past(g, spec) if cached else []
        cache: Cache = []
        for layer in range(spec.layers):
            last = layer + 1 == spec.layers
            q, k, v = self._heads(projected if layer == 0 else self._project(layer, x), rope)
            if cached:
                k, v = (
                    g("Concat", old, new, axis=1) for old, new in zip(past[layer], (k, v), strict=True)
                )  # [G, S, d]
            cache.append((k, v))
            if last:  # only the newest token's hidden state is wanted
                x, q = (g("Slice", t, g.ints(-1), g.ints(LAST), g.ints(i)) for i, t in enumerate((x, q)))
            x = self._rest(layer, x, self._attend(q, k, v, None if last else mask))
        return g("Mul", _norm(g, spec, x), g.weight("norm")), cache

    def _history(self, first: str) -> str:
        """Places in `tokens` of what is read: prompt or start, then the items' codes, int32 [T]."""
        g, spec = self.g, self.spec
        codes = g("Add", "history", g.const(np.arange(spec.levels) * spec.codes, np.int32))
        begun = g("Cast", g("Equal", first, g.ints(0)), to=INT64)
        if not spec.prompt:
            begun = g("Mul", begun, g("Cast", g("Equal", g("Shape", "history", end=1), g.ints(0)), to=INT64))
        before = spec.levels * spec.codes + np.arange(max(spec.prompt, 1))
        count = g("Mul", begun, g.ints(len(before)))  # all of them, or none
        prompt = g("Slice", g.const(before, np.int32), g.ints(0), count, g.ints(0))
        return g("Concat", prompt, g("Reshape", codes, g.ints(-1)), axis=0)

    def _tokens(self, places: str) -> tuple[str, str]:
        """Embeddings [n, D] of the tokens at places of `tokens`, and what layer 0 projects them to, [n, J·d]."""
        g, spec = self.g, self.spec
        table = g.weight("embed") if "embed" in self.tensors else ""
        if spec.levels * spec.codes + spec.prompt <= MOST_TABLE_ROWS:
            table = table or g("Gather", g.weight("head"), g.weight("tokens"), axis=0)
            return g("Gather", table, places, axis=0), g("Gather", self._project(0, table), places, axis=0)
        rows = places if table else g("Gather", g.weight("tokens"), places, axis=0)
        x = g("Gather", table or g.weight("head"), rows, axis=0)
        return x, self._project(0, x)

    def _rope(self, begin: str, end: str) -> tuple[str, str]:
        """Cosines and sines of positions, [n, d]; sines with the sign of what they are multiplied with."""
        g, half = self.g, self.spec.head_dim // 2
        sign = g.const([-1.0] * half + [1.0] * half, np.float32)
        cos, sin = g.weight("rope.cos"), g("Mul", g.weight("rope.sin"), sign)
        return g("Slice", cos, begin, end, g.ints(0)), g("Slice", sin, begin, end, g.ints(0))

    def _causal(self, first: str, end: str) -> str:
        """0 where a token may look, −inf where it may not, [T, S]."""
        g, spec = self.g, self.spec
        places = g.const(np.arange(max(spec.prompt, 1) + spec.max_history * spec.levels), np.int32)
        rows = g("Unsqueeze", g("Slice", places, first, end, g.ints(0)), g.ints(1))
        columns = g("Slice", places, g.ints(0), end, g.ints(0))
        return g("Where", g("Greater", columns, rows), g.const(-np.inf, np.float32), g.const(0, np.float32))

    # --- h, cache and trie → items -------------------------------------------------------------------------------

    def search(self, hidden: str, cache: Cache, bias: str = "") -> None:
        """Add the unrolled beam search; defines the outputs `rows` and `scores`."""
        g, spec = self.g, self.spec
        shared = [(g("Transpose", k, perm=[0, 2, 1]), v) for k, v in cache]  # [G, d, S], [G, S, d]
        read = g("Shape", cache[0][0], start=1, end=2)  # [1] = S
        own: list[Cache] = []  # of each earlier code, by layer: keys and values of the beams, [G, B, d]
        node, score, code = "", "", ""
        for level in range(spec.levels):
            last = level + 1 == spec.levels
            if level:
                place = g("Add", code, g.const((level - 1) * spec.codes, np.int32))
                hidden, new = self._step(place, g("Add", read, g.ints(level - 1)), read, shared, own)
                own = [*own, new]
            log_p = self._log_probs(level, hidden)  # [B, K]
            width = spec.max_branch[level]
            slot, code, child = _children(g, width, log_p, node, score, bias) if level else _root(g, log_p, bias)
            score, best = _best(g, child, g("Add", "beam", g("Shape", "exclude")) if last else "beam")  # [B']
            node = g("Gather", slot, best, axis=0)
            if not last:
                code = g("Gather", code, best, axis=0)
            if level and not last:
                parent = g("Div", best, g.const(spec.max_branch[level], np.int64))
                own = [[(g("Gather", k, parent, axis=1), g("Gather", v, parent, axis=1)) for k, v in o] for o in own]
        internal = g("Cast", g("Sub", g("Shape", "first_child"), g.ints(1)), to=INT32)
        row = g("Sub", node, internal)  # the best beam + M leaves, of which `exclude` can take M at most
        score, best = _best(g, _without_excluded(g, row, score), "beam")
        g.rename(g("Gather", row, best, axis=0), "rows")
        g.rename(score, "scores")

    def _step(self, places: str, position: str, read: str, shared: Cache, own: list[Cache]) -> tuple[str, Cache]:
        """Read one token per beam, [B]; return h [B, D] and the token's keys and values [G, B, d] by layer."""
        g, spec = self.g, self.spec
        x, projected = self._tokens(places)
        rope = self._rope(position, g("Add", position, g.ints(1)))  # [1, d]: all beams are equally long
        sizes = g("Concat", read, g.ints(*[1] * (len(own) + 1)), axis=0)
        new: Cache = []
        for layer in range(spec.layers):
            q, k, v = self._heads(projected if layer == 0 else self._project(layer, x), rope)
            new.append((k, v))
            codes = [*(earlier[layer] for earlier in own), (k, v)]
            x = self._rest(layer, x, self._attend_both(q, shared[layer], codes, sizes))
        return g("Mul", _norm(g, spec, x), g.weight("norm")), new

    def _attend_both(self, q: str, shared: tuple[str, str], own: Cache, sizes: str) -> str:
        """Attention of the beams' queries [H, B, d] over the history and their own l codes, [G, r·B, d].

        sizes [1 + l]: tokens of the history, then ones.
        """
        g, spec = self.g, self.spec
        q, repeated = self._grouped(q), spec.heads // spec.kv_heads
        if repeated > 1:  # rows of q: all beams for one head, then for the next
            own = [(g("Concat", *[k] * repeated, axis=1), g("Concat", *[v] * repeated, axis=1)) for k, v in own]
        to_own = [g("ReduceSum", g("Mul", q, k), g.ints(-1), keepdims=1) for k, _ in own]  # [G, r·B, 1] each
        weights = g("Softmax", g("Concat", g("MatMul", q, shared[0]), *to_own, axis=-1), axis=-1)
        to_all, *to_own = g.split("Split", 1 + len(own), weights, sizes, axis=-1)
        mixed = g("MatMul", to_all, shared[1])
        for weight, (_, v) in zip(to_own, own, strict=True):
            mixed = g("Add", mixed, g("Mul", weight, v))
        return mixed

    def _log_probs(self, level: int, hidden: str) -> str:
        """Log-probabilities of a level's codes among all tokens, [B, K]."""
        g, spec = self.g, self.spec
        every = g("LogSoftmax", g("Gemm", hidden, g.weight("head"), transB=1), axis=-1)  # [B, V]
        begin, end = g.ints(level * spec.codes), g.ints((level + 1) * spec.codes)
        return g("Gather", every, g("Slice", g.weight("tokens"), begin, end, g.ints(0)), axis=1)

    # --- parts of a block ----------------------------------------------------------------------------------------

    def _linear(self, layer: int, name: str, x: str) -> str:
        name = f"layers.{layer}.{name}"
        y = self.g("MatMul", x, self.g.weight(name))
        return self.g("Add", y, self.g.weight(f"{name}_bias")) if f"{name}_bias" in self.tensors else y

    def _project(self, layer: int, x: str) -> str:
        """Queries (scaled), keys and values of all heads side by side, [T, J·d]."""
        return self._linear(layer, "qkv", _norm(self.g, self.spec, x))

    def _heads(self, projected: str, rope: tuple[str, str]) -> tuple[str, str, str]:
        """Rotated queries [H, T, d], rotated keys and values [G, T, d]."""
        g, spec = self.g, self.spec
        each = g("Reshape", projected, g.ints(-1, spec.heads + 2 * spec.kv_heads, spec.head_dim))
        turning = g.ints(spec.heads + spec.kv_heads, spec.kv_heads)
        qk, v = g.split("Split", 2, g("Transpose", each, perm=[1, 0, 2]), turning, axis=0)
        first, second = g.split("Split", 2, qk, axis=-1, num_outputs=2)
        turned = g("Mul", g("Concat", second, first, axis=-1), rope[1])
        q, k = g.split("Split", 2, g("Add", g("Mul", qk, rope[0]), turned), g.ints(spec.heads, spec.kv_heads), axis=0)
        return q, k, v

    def _grouped(self, q: str) -> str:
        """Heads that share keys one below the other: [H, T, d] → [G, r·T, d]."""
        spec = self.spec
        if spec.heads == spec.kv_heads:
            return q
        return self.g("Reshape", q, self.g.ints(spec.kv_heads, -1, spec.head_dim))

    def _attend(self, q: str, k: str, v: str, mask: str | None) -> str:
        """Attention of queries [H, T, d] over keys and values [G, S, d], [G, r·T, d]."""
        g, spec = self.g, self.spec
        scores = g("MatMul", self._grouped(q), g("Transpose", k, perm=[0, 2, 1]))  # [G, r·T, S]
        if mask and spec.heads == spec.kv_heads:
            scores = g("Add", scores, mask)
        elif mask:
            flat = g("Shape", scores)
            apart = g("Reshape", scores, g("Concat", g.ints(spec.heads, -1), g("Shape", mask, start=1), axis=0))
            scores = g("Reshape", g("Add", apart, mask), flat)
        return g("MatMul", g("Softmax", scores, axis=-1), v)

    def _rest(self, layer: int, x: str, mixed: str) -> str:
        """What follows attention in a block: mixed values [G, r·T, d] are projected, added, and fed forward, [T, D]."""
        g, spec = self.g, self.spec
        heads = g("Transpose", g("Reshape", mixed, g.ints(spec.heads, -1, spec.head_dim)), perm=[1, 0, 2])
        x = g("Add", x, self._linear(layer, "o", g("Reshape", heads, g.ints(-1, spec.heads * spec.head_dim))))
        normal = _norm(g, spec, x)
        gate, up = self._linear(layer, "gate", normal), self._linear(layer, "up", normal)
        return g("Add", x, self._linear(layer, "down", g("Mul", _silu(g, gate), up)))
