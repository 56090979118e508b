"""The device graphs: `encoder.onnx` (history → h), `search.onnx` (h + trie → items), `recommender.onnx` (both).

Opset 20, plain operators. One sequence at a time: phones serve one user. The trie comes in as inputs, so the same
file serves any catalogue of its SID space, and no host language needs search code. Shapes in comments: N items in
the history, P cached tokens, T new tokens, S = P + T, D width, H heads, G key-value heads, r = H / G, d head width,
M decoder width, K codes, R pairs, B beams (input `beam`), C slots (`max_branch` of a level).

The search's rule, which `runtime/catalogue/beam.py` states as the oracle: at each level every child of a beam scores
the beam's score plus its code's log-probability, and its bias less its parent's where there is one; the best `beam` of
all are kept, ties to the better parent, then to the lower code; leaves in `exclude` are out. Slots without a child
score −inf and are dropped by the host.

The decoder's prefix part is linear in the code embeddings, so it is written as `Gather(MatMul(embeddings, weight),
codes)`: ONNX Runtime folds the product into a table when it opens the graph, so each call only looks codes up, and no
table lies in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from pocketrec.export.onnx.graph import Graph, WeightFile, value
from pocketrec.runtime.bundle.bundle import ModelSpec

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
Builders = Mapping[str, Callable[[ModelSpec, WeightFile], onnx.ModelProto]]
Cache = list[tuple[str, str]]  # by layer: keys and values, [G, tokens, d] each
BIAS = value("bias", FLOAT, ["nodes_or_1"])


def write_graphs(spec: ModelSpec, weights: Path) -> dict[str, str]:
    """Write the three graphs beside their weight file.

    :param spec: the model's shape.
    :param weights: the `model.safetensors` of `export.weights`.
    :returns: role → file name.
    """
    return build_graphs(_BUILDERS, spec, weights)


def build_graphs(builders: Builders, spec: ModelSpec, weights: Path) -> dict[str, str]:
    """Write a graph for each role beside their weight file, checked; return role → file name."""
    file = WeightFile(weights)
    for role, build in builders.items():
        path = weights.with_name(f"{role}.onnx")
        path.write_bytes(build(spec, file).SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path), full_check=True)
    return {role: f"{role}.onnx" for role in builders}


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

    hidden float32 [1, D]; first_child int32; codes uint8 or uint16; exclude int32 [M]; beam int64 [1]; bias float32
    [nodes], or [1] with 0 for none → rows int32, scores float32.
    """
    g = Graph(weights)
    _search(g, spec, "hidden", bias="bias")
    return g.model("search", [value("hidden", FLOAT, [1, spec.dim]), *_trie_inputs(spec), BIAS], _results())


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
    first = g("Shape", "past", start=3, end=4) if cached else g.ints(0)  # [1] = P
    x = _tokens(g, spec, first if cached else None)
    end = g("Add", first, g("Shape", x, start=0, end=1))  # [1] = S
    cos, sin = (g("Slice", g.weight(f"rope.{t}"), first, end, g.ints(0)) for t in ("cos", "sin"))  # [T, d]
    mask = _causal(g, spec, first, end)
    past = _past(g, spec) if cached else []
    present: Cache = []
    for layer in range(spec.layers):
        last = layer + 1 == spec.layers
        q, k, v = _heads(g, spec, layer, _norm(g, spec, x), cos, sin)  # [H, T, d], [G, T, d]
        if cached:
            k, v = (g("Concat", old, new, axis=1) for old, new in zip(past[layer], (k, v), strict=True))  # [G, S, d]
            present.append((k, v))
        if last:  # only the newest token's hidden state is wanted
            x, q = _newest(g, x, 0), _newest(g, q, 1)
        x = g("Add", x, _attend(g, spec, layer, q, k, v, None if last else mask))
        x = g("Add", x, _feed_forward(g, spec, layer, _norm(g, spec, x)))
    hidden = g("Mul", _norm(g, spec, x), g.weight("norm"))  # [1, D]
    return hidden, _stacked(g, spec, present) if cached else ""


def _tokens(g: Graph, spec: ModelSpec, past_tokens: str | None) -> str:
    """Sum of code embeddings [T, D]."""
    embeddings = g("Concat", *(g.weight(f"embed.{level}") for level in range(spec.levels)), axis=0)  # [L·K, D]
    start = g.weight("start")
    of_level = g("Add", "history", g.const(np.arange(spec.levels) * spec.codes, np.int32))  # rows of the table
    items = g("ReduceSum", g("Gather", embeddings, of_level, axis=0), g.ints(1), keepdims=0)  # [N, D]
    if spec.pair_dim:
        first, second = (g("Gather", "history", g.const(level, np.int64), axis=1) for level in (0, 1))  # [N]
        items = g("Add", items, g("MatMul", _pairs(g, spec, first, second), g.weight("pair.into")))
    if past_tokens:
        is_first = g("Cast", g("Equal", past_tokens, g.ints(0)), to=INT64)
        start = g("Slice", start, g.ints(0), is_first, g.ints(0))  # one row, or none when continuing
    return g("Concat", start, items, axis=0)


def _pairs(g: Graph, spec: ModelSpec, first: str, second: str) -> str:
    """Embeddings of pairs of first codes, [n, P]."""
    place = g("Add", g("Mul", first, g.const(spec.codes, np.int32)), second)
    return g("Gather", g.weight("pair.table"), g("Gather", _pair_rows(g, spec), place, axis=0), axis=0)


def _pair_rows(g: Graph, spec: ModelSpec) -> str:
    """Row of every pair in the pair table, [K·K]; 0: a pair that no item has. Made once, at load."""
    keys = g("Cast", g.weight("pair.keys"), to=INT64)
    one = g.const(1, np.int32)
    after = g("Cast", g("Add", g("Squeeze", g("Shape", keys)), g.const(1, np.int64)), to=INT32)
    nobody = g("ConstantOfShape", g.ints(spec.codes**2), value=numpy_helper.from_array(np.zeros(1, np.int32)))
    return g("ScatterElements", nobody, keys, g("Range", one, after, one), axis=0)


def _heads(g: Graph, spec: ModelSpec, layer: int, normal: str, cos: str, sin: str) -> tuple[str, str, str]:
    """Queries, scaled, [H, T, d]; keys and values [G, T, d]; queries and keys rotated."""
    q, kv = (g.weight(f"layers.{spec.block(layer)}.{name}") for name in ("q", "kv"))
    scaled = g("Mul", q, g.const(spec.head_dim**-0.5, np.float32))  # once, at load
    qkv = g("MatMul", normal, g("Concat", scaled, kv, axis=1))
    heads = g("Reshape", qkv, g.ints(-1, spec.heads + 2 * spec.kv_heads, spec.head_dim))
    turning = g.ints(spec.heads + spec.kv_heads, spec.kv_heads)
    qk, v = g.split("Split", 2, g("Transpose", heads, perm=[1, 0, 2]), turning, axis=0)
    q, k = g.split("Split", 2, _rotate(g, spec, qk, cos, sin), g.ints(spec.heads, spec.kv_heads), axis=0)
    return q, k, v


def _norm(g: Graph, spec: ModelSpec, x: str) -> str:
    """Root-mean-square normalisation without a weight (it is folded into what follows)."""
    return g("Div", x, _rms(g, spec, x))


def _rms(g: Graph, spec: ModelSpec, x: str) -> str:
    square = g("ReduceMean", g("Mul", x, x), g.ints(-1), keepdims=1)
    return g("Sqrt", g("Add", square, g.const(spec.norm_eps, np.float32)))


def _newest(g: Graph, x: str, axis: int) -> str:
    return g("Slice", x, g.ints(-1), g.ints(np.iinfo(np.int64).max), g.ints(axis))


def _rotate(g: Graph, spec: ModelSpec, x: str, cos: str, sin: str) -> str:
    """Rotary positions on [heads, T, d]: x·cos + (x @ R)·sin, where R swaps the halves and negates one."""
    half = spec.head_dim // 2
    swap = np.zeros((spec.head_dim, spec.head_dim), np.float32)
    swap[np.arange(half) + half, np.arange(half)] = -1.0
    swap[np.arange(half), np.arange(half) + half] = 1.0
    turned = g("MatMul", x, g.const(swap, np.float32))
    return g("Add", g("Mul", x, cos), g("Mul", turned, sin))


def _past(g: Graph, spec: ModelSpec, cache: str = "past") -> Cache:
    """Take a cache [layers, 2, G, P, d] apart."""
    flat = g("Reshape", cache, g.ints(2 * spec.layers * spec.kv_heads, -1, spec.head_dim))
    each = g.split("Split", 2 * spec.layers, flat, axis=0, num_outputs=2 * spec.layers)
    return list(zip(each[::2], each[1::2], strict=True))


def _stacked(g: Graph, spec: ModelSpec, cache: Cache) -> str:
    """Make one cache [layers, 2, G, S, d], as `_past` takes it apart."""
    shape = g.ints(spec.layers, 2, spec.kv_heads, -1, spec.head_dim)
    return g("Reshape", g("Concat", *(t for layer in cache for t in layer), axis=0), shape)


def _causal(g: Graph, spec: ModelSpec, first: str, end: str) -> str:
    """0 where a token may look, −inf where it may not, [T, S]."""
    places = g.const(np.arange(spec.max_history + 1), np.int32)
    rows = g("Unsqueeze", g("Slice", places, first, end, g.ints(0)), g.ints(1))
    columns = g("Slice", places, g.ints(0), end, g.ints(0))
    return g("Where", g("Greater", columns, rows), g.const(-np.inf, np.float32), g.const(0, np.float32))


def _attend(g: Graph, spec: ModelSpec, layer: int, q: str, k: str, v: str, mask: str | None) -> str:
    """Attention of queries [H, T, d] over all keys, [T, D]; without a mask, of one query. Grouped heads share keys."""
    groups, shared, width = spec.kv_heads, spec.heads // spec.kv_heads, spec.head_dim
    k = g("Transpose", k, perm=[0, 2, 1])  # [G, d, S]
    if shared > 1:
        q = g("Reshape", q, g.ints(groups, shared, -1, width))
        k, v = (g("Unsqueeze", t, g.ints(1)) for t in (k, v))
    scores = g("MatMul", q, k)  # [H, T, S]
    scores = g("Add", scores, mask) if mask else scores
    mixed = g("MatMul", g("Softmax", scores, axis=-1), v)  # [H, T, d]
    if shared > 1:
        mixed = g("Reshape", mixed, g.ints(spec.heads, -1, width))
    mixed = g("Transpose", mixed, perm=[1, 0, 2]) if mask else mixed  # with one query, the order is the same
    joined = g("Reshape", mixed, g.ints(-1, spec.heads * width))
    return g("MatMul", joined, g.weight(f"layers.{spec.block(layer)}.o"))


def _feed_forward(g: Graph, spec: ModelSpec, layer: int, x: str) -> str:
    gate, up = g.split(
        "Split", 2, g("MatMul", x, g.weight(f"layers.{spec.block(layer)}.gate_up")), axis=-1, num_outputs=2
    )
    return g("MatMul", g("Mul", _silu(g, gate), up), g.weight(f"layers.{spec.block(layer)}.down"))


def _silu(g: Graph, x: str) -> str:
    return g("Mul", x, g("Sigmoid", x))


# --- h and trie → items ----------------------------------------------------------------------------------------


def _search(g: Graph, spec: ModelSpec, hidden: str, bias: str = "") -> None:
    """Add the unrolled beam search; defines the outputs `rows` and `scores`."""
    shared = g("Add", g("MatMul", hidden, g.weight("decoder.hidden")), g.weight("decoder.bias"))  # [1, L·M]
    of_level = g.split("Split", spec.levels, shared, axis=1, num_outputs=spec.levels) if spec.levels > 1 else [shared]
    node, score, codes = "", "", list[str]()  # of the beams; codes so far, a name for each level, [B] each
    for level in range(spec.levels):
        last = level + 1 == spec.levels
        logits = _logits(g, level, _behind(g, spec, level, of_level[level], codes))  # [B, K]
        if level == 1 and spec.pair_dim:
            logits = _add_pair_logits(g, spec, logits, hidden, codes[0])
        log_p = g("LogSoftmax", logits, axis=-1)
        width = spec.max_branch[level]
        slot, code, child = _children(g, width, log_p, node, score, bias) if level else _root(g, log_p, bias)
        score, best = _best(g, child, g("Add", "beam", g("Shape", "exclude")) if last else "beam")  # [B']
        node = g("Gather", slot, best, axis=0)
        if not last:
            parent = g("Div", best, g.const(width, np.int64)) if level else ""
            codes = [*(g("Gather", c, parent, axis=0) for c in codes), g("Gather", code, best, axis=0)]
    internal = g("Cast", g("Sub", g("Shape", "first_child"), g.ints(1)), to=INT32)
    row = g("Sub", node, internal)  # the best beam + M leaves, of which `exclude` can take M at most
    score, best = _best(g, _without_excluded(g, row, score), "beam")
    g.rename(g("Gather", row, best, axis=0), "rows")
    g.rename(score, "scores")


def _root(g: Graph, log_p: str, bias: str = "") -> tuple[str, str, str]:
    """Children of the root, their codes and scores, [C] each."""
    one = g.const(1, np.int32)
    slot = g("Range", one, g("Gather", "first_child", one, axis=0), one)
    code = g("Cast", g("GatherElements", "codes", slot, axis=0), to=INT32)
    child = g("GatherElements", g("Reshape", log_p, g.ints(-1)), code, axis=0)
    return slot, code, g("Add", child, _gain(g, bias, slot)) if bias else child


def _gain(g: Graph, bias: str, node: str) -> str:
    """The bias of nodes, of their shape; a bias of one number is that number everywhere."""
    last = g("Cast", g("Sub", g("Shape", bias), g.ints(1)), to=INT32)
    return g("Gather", bias, g("Min", node, last), axis=0)


def _children(g: Graph, width: int, log_p: str, node: str, score: str, bias: str = "") -> tuple[str, str, str]:
    """Children of each beam in `width` slots, their codes and scores (−inf: no child here), [B·C] each."""
    begin = g("Unsqueeze", g("Gather", "first_child", node, axis=0), g.ints(1))
    after = g("Gather", "first_child", g("Add", node, g.const(1, np.int32)), axis=0)
    slot = g("Add", begin, g.const(np.arange(width), np.int32))
    valid = g("Less", slot, g("Unsqueeze", after, g.ints(1)))
    slots = g("Reshape", g("Where", valid, slot, g.const(0, np.int32)), g.ints(-1))
    codes = g("Cast", g("GatherElements", "codes", slots, axis=0), to=INT32)  # Gather is slower on single bytes
    code = g("Reshape", codes, g.ints(-1, width))
    score = g("Sub", score, _gain(g, bias, node)) if bias else score
    child = g("Add", g("GatherElements", log_p, code, axis=1), g("Unsqueeze", score, g.ints(1)))
    child = g("Reshape", g("Where", valid, child, g.const(-np.inf, np.float32)), g.ints(-1))
    return slots, codes, g("Add", child, _gain(g, bias, slots)) if bias else child


def _best(g: Graph, score: str, most: str) -> tuple[str, str]:
    """The best `most` scores, falling, and where they stand; of equals, the first."""
    score, best = g.split("TopK", 2, score, g("Min", most, g("Shape", score)), axis=0)
    return score, best


def _without_excluded(g: Graph, row: str, score: str) -> str:
    """The scores, −inf where the leaf row is in `exclude`."""
    equal = g("Equal", g("Unsqueeze", row, g.ints(1)), "exclude")  # [beam + M, M]
    hits = g("ReduceSum", g("Cast", equal, to=INT32), g.ints(1), keepdims=0)
    return g("Where", g("Greater", hits, g.const(0, np.int32)), g.const(-np.inf, np.float32), score)


def _behind(g: Graph, spec: ModelSpec, level: int, shared: str, codes: list[str]) -> str:
    """What a level of the decoder reads behind the beams' codes so far, before its activation, [B, M]; at first [1, M].

    Of each earlier level, a row of a table [K, M].
    """
    for earlier, code in enumerate(codes):
        table = g("MatMul", g.weight(f"embed.{earlier}"), g.weight(f"decoder.{level}.prefix"))
        shared = g("Add", shared, g("Gather", table, code, axis=0))
    if spec.pair_dim and len(codes) > 1:
        into = g("MatMul", g.weight("pair.into"), g.weight(f"decoder.{level}.prefix"))  # [P, M]
        shared = g("Gemm", _pairs(g, spec, *codes[:2]), into, shared)
    return shared


def _add_pair_logits(g: Graph, spec: ModelSpec, logits: str, hidden: str, first: str) -> str:
    """Add what pairs say of the second code, given the beams' first codes; both [B, K].

    Only the pairs that begin with those codes are scored: W at most for each code, of a table that begins with nobody's
    row of zeros.
    """
    keys = g.weights.integers("pair.keys")  # rising
    begin = np.searchsorted(keys, np.arange(spec.codes + 1) * spec.codes)
    width = int(np.diff(begin).max())
    place = g("Add", g.const(begin[:-1, None], np.int32), g.const(np.arange(width), np.int32))
    known = g("Less", place, g.const(begin[1:, None], np.int32))
    rows = g("Where", known, g("Add", place, g.const(1, np.int32)), g.const(0, np.int32))  # of the table, [K, W]
    second = g("Mod", g("Cast", g.weight("pair.keys"), to=INT32), g.const(spec.codes, np.int32))
    codes = g("Gather", g("Concat", g.const([0], np.int32), second, axis=0), rows, axis=0)  # [K, W]
    query = g("Reshape", g("MatMul", hidden, g.weight("pair.query")), g.ints(-1, 1))  # [P, 1]
    pairs = g("Gather", g.weight("pair.table"), g("Gather", rows, first, axis=0), axis=0)  # [B, W, P]
    scores = g("Squeeze", g("MatMul", pairs, query), g.ints(2))
    return g("ScatterElements", logits, g("Gather", codes, first, axis=0), scores, axis=1, reduction="add")


def _logits(g: Graph, level: int, z: str) -> str:
    """Scores of a level's codes, [B, K], from what it reads, [B, M]."""
    logits = g("MatMul", _silu(g, z), g.weight(f"decoder.{level}.out"))
    return g("Add", logits, g.weight(f"decoder.{level}.out_bias"))
