"""The device graphs: `encoder.onnx` (history → h), `search.onnx` (h + trie → items), `recommender.onnx` (both).

Opset 20, plain operators. One sequence at a time: phones serve one user. The trie comes in as inputs, so the same
file serves any catalogue of its SID space, and no host language needs search code. Shapes in comments: N items in
the history, P cached tokens, T new tokens, S = P + T, D width, H heads, G key-value heads, r = H / G, d head width,
M decoder width, K codes, B beams (input `beam`), C slots (`max_branch` of a level).

The search's rule, which `runtime/beam.py` states as the oracle: at each level every child of a beam scores the
beam's score plus its code's log-probability; the best `beam` of all are kept, ties to the better parent, then to
the lower code; leaves in `exclude` are out. Slots without a child score −inf and are dropped by the host.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from pocketrec.export.graph import Graph, WeightFile, value
from pocketrec.runtime.bundle import ModelSpec

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def write_graphs(spec: ModelSpec, weights: Path) -> dict[str, str]:
    """Write the three graphs beside their weight file.

    :param spec: the model's shape.
    :param weights: the `model.safetensors` of `export.weights`.
    :returns: role → file name.
    """
    file = WeightFile(weights)
    for role, build in _BUILDERS.items():
        path = weights.with_name(f"{role}.onnx")
        path.write_bytes(build(spec, file).SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path), full_check=True)
    return {role: f"{role}.onnx" for role in _BUILDERS}


def encoder_graph(spec: ModelSpec, weights: WeightFile) -> onnx.ModelProto:
    """History → h, with cached keys and values.

    history int32 [N, L]; past float32 [layers, 2, G, P, d] → hidden [1, D]; present [layers, 2, G, P + T, d].
    With P = 0 the start token is put first (T = N + 1), otherwise T = N ≥ 1.
    """
    g = Graph(weights)
    hidden, present = _encode(g, spec, cached=True)
    g.rename(hidden, "hidden")
    g.rename(present, "present")
    cache = [spec.layers, 2, spec.kv_heads]
    return g.model(
        "encoder",
        [value("history", INT32, ["items", spec.levels]), value("past", FLOAT, [*cache, "past_tokens", spec.head_dim])],
        [
            value("hidden", FLOAT, [1, spec.dim]),
            value("present", FLOAT, [*cache, "tokens", spec.head_dim]),
        ],
    )


def search_graph(spec: ModelSpec, weights: WeightFile) -> onnx.ModelProto:
    """H and a trie → leaf rows and log-probabilities, best first.

    hidden float32 [1, D]; first_child int32; codes uint8 or uint16; exclude int32 [M]; beam int64 [1] → rows int32,
    scores float32.
    """
    g = Graph(weights)
    _search(g, spec, "hidden")
    return g.model("search", [value("hidden", FLOAT, [1, spec.dim]), *_trie_inputs(spec)], _results())


def recommender_graph(spec: ModelSpec, weights: WeightFile) -> onnx.ModelProto:
    """History and a trie → leaf rows and log-probabilities: both graphs in one call, without a cache."""
    g = Graph(weights)
    hidden, _ = _encode(g, spec, cached=False)
    _search(g, spec, hidden)
    return g.model("recommender", [value("history", INT32, ["items", spec.levels]), *_trie_inputs(spec)], _results())


_BUILDERS = {"encoder": encoder_graph, "search": search_graph, "recommender": recommender_graph}


def _trie_inputs(spec: ModelSpec) -> list[onnx.ValueInfoProto]:
    codes = TensorProto.UINT8 if spec.codes <= 256 else TensorProto.UINT16
    return [
        value("first_child", INT32, ["internal_nodes_plus_1"]),
        value("codes", codes, ["nodes"]),
        value("exclude", INT32, ["excluded"]),
        value("beam", INT64, [1]),
    ]


def _results() -> list[onnx.ValueInfoProto]:
    return [value("rows", INT32, ["found"]), value("scores", FLOAT, ["found"])]


# --- history → h -----------------------------------------------------------------------------------------------


def _encode(g: Graph, spec: ModelSpec, *, cached: bool) -> tuple[str, str]:
    """Add the backbone; return the names of hidden [1, D] and present."""
    items = _item_tokens(g, spec)  # [N, D]
    start = g.weight("start")
    if cached:
        past_tokens = g("Shape", "past", start=3, end=4)  # [1]
        is_first = g("Cast", g("Equal", past_tokens, g.ints(0)), to=INT64)
        start = g("Slice", start, g.ints(0), is_first, g.ints(0))  # [1, D], or [0, D] when continuing
    x = g("Concat", start, items, axis=0)  # [T, D]
    first = past_tokens if cached else g.ints(0)
    end = g("Add", first, g("Shape", x, start=0, end=1))  # [1] = S
    cos, sin = (g("Slice", g.weight(f"rope.{t}"), first, end, g.ints(0)) for t in ("cos", "sin"))  # [T, d]
    mask = _causal(g, spec, first, end)
    present = []
    for layer in range(spec.layers):
        last = layer + 1 == spec.layers
        normal = _norm(g, spec, x)
        k, v = _keys_values(g, spec, layer, normal, cos, sin)  # [G, T, d]
        if cached:
            k, v = (g("Concat", _past(g, layer, which), t, axis=1) for which, t in enumerate((k, v)))  # [G, S, d]
            present += [k, v]
        if last:  # only the newest token's hidden state is wanted
            normal, x = _newest(g, normal), _newest(g, x)
            cos, sin = _newest(g, cos), _newest(g, sin)
        x = g("Add", x, _attend(g, spec, layer, normal, k, v, (cos, sin), None if last else mask))
        x = g("Add", x, _feed_forward(g, spec, layer, _norm(g, spec, x)))
    hidden = g("Mul", _norm(g, spec, x), g.weight("norm"))  # [1, D]
    stacked = ""
    if cached:
        flat = g("Concat", *(g("Unsqueeze", t, g.ints(0)) for t in present), axis=0)  # [2·layers, G, S, d]
        stacked = g("Reshape", flat, g.ints(spec.layers, 2, spec.kv_heads, -1, spec.head_dim))
    return hidden, stacked


def _item_tokens(g: Graph, spec: ModelSpec) -> str:
    """Sum of code embeddings, [N, D]."""
    columns = (
        g.split("Split", spec.levels, "history", axis=1, num_outputs=spec.levels) if spec.levels > 1 else ["history"]
    )
    total = ""
    for level, column in enumerate(columns):
        part = g("Gather", g.weight(f"embed.{level}"), g("Squeeze", column, g.ints(1)), axis=0)
        total = g("Add", total, part) if total else part
    return total


def _norm(g: Graph, spec: ModelSpec, x: str) -> str:
    """Root-mean-square normalisation without a weight (it is folded into what follows)."""
    square = g("ReduceMean", g("Mul", x, x), g.ints(-1), keepdims=1)
    return g("Div", x, g("Sqrt", g("Add", square, g.const(spec.norm_eps, np.float32))))


def _newest(g: Graph, x: str) -> str:
    return g("Slice", x, g.ints(-1), g.ints(np.iinfo(np.int64).max), g.ints(0))


def _rotate(g: Graph, spec: ModelSpec, x: str, cos: str, sin: str) -> str:
    """Rotary positions on [heads, T, d]: x·cos + (x @ R)·sin, where R swaps the halves and negates one."""
    half = spec.head_dim // 2
    swap = np.zeros((spec.head_dim, spec.head_dim), np.float32)
    swap[np.arange(half) + half, np.arange(half)] = -1.0
    swap[np.arange(half), np.arange(half) + half] = 1.0
    turned = g("MatMul", x, g.const(swap, np.float32))
    return g("Add", g("Mul", x, cos), g("Mul", turned, sin))


def _keys_values(g: Graph, spec: ModelSpec, layer: int, x: str, cos: str, sin: str) -> tuple[str, str]:
    kv = g("MatMul", x, g.weight(f"layers.{layer}.kv"))  # [T, 2·G·d]
    heads = g("Transpose", g("Reshape", kv, g.ints(-1, 2 * spec.kv_heads, spec.head_dim)), perm=[1, 0, 2])
    k, v = g.split("Split", 2, heads, axis=0, num_outputs=2)  # [G, T, d] each
    return _rotate(g, spec, k, cos, sin), v


def _past(g: Graph, layer: int, which: int) -> str:
    """Cached keys (0) or values (1) of a layer, [G, P, d]."""
    return g("Gather", g("Gather", "past", g.const(layer, np.int64), axis=0), g.const(which, np.int64), axis=0)


def _causal(g: Graph, spec: ModelSpec, first: str, end: str) -> str:
    """0 where a token may look, −inf where it may not, [T, S]."""
    places = g.const(np.arange(spec.max_history + 1), np.int32)
    rows = g("Unsqueeze", g("Slice", places, first, end, g.ints(0)), g.ints(1))
    columns = g("Slice", places, g.ints(0), end, g.ints(0))
    return g("Where", g("Greater", columns, rows), g.const(-np.inf, np.float32), g.const(0, np.float32))


def _attend(
    g: Graph, spec: ModelSpec, layer: int, x: str, k: str, v: str, rope: tuple[str, str], mask: str | None
) -> str:
    """Attention of x's tokens over all keys, [T, D]. Grouped heads share keys by broadcasting."""
    groups, shared, width = spec.kv_heads, spec.heads // spec.kv_heads, spec.head_dim
    q = g("MatMul", x, g.weight(f"layers.{layer}.q"))
    q = g("Transpose", g("Reshape", q, g.ints(-1, spec.heads, width)), perm=[1, 0, 2])  # [H, T, d]
    q = g("Mul", _rotate(g, spec, q, *rope), g.const(width**-0.5, np.float32))
    k = g("Transpose", k, perm=[0, 2, 1])  # [G, d, S]
    if shared > 1:
        q = g("Reshape", q, g.ints(groups, shared, -1, width))
        k, v = (g("Unsqueeze", t, g.ints(1)) for t in (k, v))
    scores = g("MatMul", q, k)  # [H, T, S]
    scores = g("Add", scores, mask) if mask else scores
    mixed = g("MatMul", g("Softmax", scores, axis=-1), v)  # [H, T, d]
    if shared > 1:
        mixed = g("Reshape", mixed, g.ints(spec.heads, -1, width))
    joined = g("Reshape", g("Transpose", mixed, perm=[1, 0, 2]), g.ints(-1, spec.heads * width))
    return g("MatMul", joined, g.weight(f"layers.{layer}.o"))


def _feed_forward(g: Graph, spec: ModelSpec, layer: int, x: str) -> str:
    gate, up = g.split("Split", 2, g("MatMul", x, g.weight(f"layers.{layer}.gate_up")), axis=-1, num_outputs=2)
    return g("MatMul", g("Mul", _silu(g, gate), up), g.weight(f"layers.{layer}.down"))


def _silu(g: Graph, x: str) -> str:
    return g("Mul", x, g("Sigmoid", x))


# --- h and trie → items ----------------------------------------------------------------------------------------


def _search(g: Graph, spec: ModelSpec, hidden: str) -> None:
    """Add the unrolled beam search; defines the outputs `rows` and `scores`."""
    shared = g("Add", g("MatMul", hidden, g.weight("decoder.hidden")), g.weight("decoder.bias"))  # [1, L·M]
    of_level = g.split("Split", spec.levels, shared, axis=1, num_outputs=spec.levels) if spec.levels > 1 else [shared]
    node, score, prefix = g.const([0], np.int32), g.const([0], np.float32), ""
    for level in range(spec.levels):
        last = level + 1 == spec.levels
        slot, valid = _children(g, spec.max_branch[level], node)  # [B, C]
        code = g("Cast", g("Gather", "codes", slot, axis=0), to=INT32)
        log_p = _level_log_probs(g, level, of_level[level], prefix)  # [B, K]
        child = g("Add", g("GatherElements", log_p, code, axis=1), g("Unsqueeze", score, g.ints(1)))
        keep = g("And", valid, _not_excluded(g, slot)) if last else valid
        child = g("Reshape", g("Where", keep, child, g.const(-np.inf, np.float32)), g.ints(-1))  # [B·C]
        width = g("Min", "beam", g("Shape", child))
        score, best = g.split("TopK", 2, child, width, axis=0)  # [B']
        node = g("Gather", g("Reshape", slot, g.ints(-1)), best, axis=0)
        if not last:
            code = g("Gather", g("Reshape", code, g.ints(-1)), best, axis=0)
            grown = g("Gather", g.weight(f"embed.{level}"), code, axis=0)  # [B', D]
            if prefix:
                parent = g("Div", best, g.const(spec.max_branch[level], np.int64))
                grown = g("Add", g("Gather", prefix, parent, axis=0), grown)
            prefix = grown
    internal = g("Sub", g("Shape", "first_child"), g.ints(1))
    g.rename(g("Sub", node, g("Cast", internal, to=INT32)), "rows")
    g.rename(score, "scores")


def _children(g: Graph, width: int, node: str) -> tuple[str, str]:
    """Child nodes of each beam in `width` slots, int32 [B, C], and which slots hold one."""
    begin = g("Unsqueeze", g("Gather", "first_child", node, axis=0), g.ints(1))
    after = g("Gather", "first_child", g("Add", node, g.const(1, np.int32)), axis=0)
    slot = g("Add", begin, g.const(np.arange(width), np.int32))
    valid = g("Less", slot, g("Unsqueeze", after, g.ints(1)))
    return g("Where", valid, slot, g.const(0, np.int32)), valid


def _not_excluded(g: Graph, slot: str) -> str:
    """True where a leaf is not in `exclude`, [B, C]."""
    internal = g("Cast", g("Sub", g("Shape", "first_child"), g.ints(1)), to=INT32)
    equal = g("Equal", g("Unsqueeze", slot, g.ints(2)), g("Add", "exclude", internal))  # [B, C, M]
    return g("Equal", g("ReduceSum", g("Cast", equal, to=INT32), g.ints(2), keepdims=0), g.const(0, np.int32))


def _level_log_probs(g: Graph, level: int, shared: str, prefix: str) -> str:
    """Log-probabilities of a level's codes, [B, K]."""
    z = g("Add", shared, g("MatMul", prefix, g.weight(f"decoder.{level}.prefix"))) if prefix else shared
    logits = g("MatMul", _silu(g, z), g.weight(f"decoder.{level}.out"))
    return g("LogSoftmax", g("Add", logits, g.weight(f"decoder.{level}.out_bias")), axis=-1)
