"""A converted Llama as ONNX nodes: a token per code in front of the blocks, its whole vocabulary behind them.

The model reads [prompt ; L tokens per history item] and generates the next item's L tokens. Codes become tokens inside
the graph, and the history is read once. In the search, each beam's newest token attends to the keys and values of the
history, which all beams share, and of the beam's own earlier codes, which are gathered by parent. The first code's
probabilities come from the last position of the history, so level 0 needs no pass of its own.

Scores. A code's log-probability is the log-softmax over the model's whole vocabulary, and only then are the tokens
left out that lead to no item: so does `generate` with `prefix_allowed_tokens_fn`, whose processors run after the
softmax. An item's score is therefore `sequences_scores` of `generate` with length_penalty 0, or L times that with the
default 1.

Without a prompt, an empty history is read as the start token (`tokens[L·K]`); a history that is not empty does not
begin with it. The first block's norm and projection depend on the token alone, so they are applied to the table of
tokens: ONNX Runtime computes them when it opens the graph, and each call looks rows up. Shapes in comments as in
`export/onnx/layers.py`; further V vocabulary, L levels, K codes, B beams, l codes of a beam so far, J = H + 2·G.
"""

from __future__ import annotations

import numpy as np

from pocketrec.export.onnx.graph import INT64
from pocketrec.export.onnx.layers import Cache, LlamaLayers
from pocketrec.export.onnx.search import Scorer

MAX_TABLE_ROWS = 1 << 13  # codes and prompt; with more, the first block's projection is computed in each call


class TokenGraph(LlamaLayers):
    """Adds a converted Llama's parts to a graph."""

    reads_cache = True

    def encode(self, *, cached: bool) -> tuple[str, Cache]:
        """Read the input `history`, after the input `past` if `cached`; return hidden [1, D] and the cache.

        Without cached tokens the prompt comes first, or the start token if there is neither prompt nor item; otherwise
        the history must have an item. A session without a prompt begins at its first item: the cache of the start token
        must not be continued.
        """
        first = self.cached_tokens(cached)
        x, projected = self.embed(self._places(first))
        return self.read(x, first, cached=cached, projected=projected)

    def scorer(self, hidden: str, cache: Cache) -> Scorer:
        """Score codes after a hidden state [1, D] and the keys and values of the history."""
        return _Beams(self, hidden, cache)

    def embed(self, places: str) -> tuple[str, str]:
        """Embeddings [n, D] of the tokens at places of `tokens`, and their projection by the first block, [n, J·d]."""
        g, spec = self.g, self.spec
        table = g.weight("embed") if "embed" in self.tensors else ""
        if spec.levels * spec.codes + spec.prompt <= MAX_TABLE_ROWS:
            table = table or g("Gather", g.weight("head"), g.weight("tokens"), axis=0)
            return g("Gather", table, places, axis=0), g("Gather", self.project(0, table), places, axis=0)
        rows = places if table else g("Gather", g.weight("tokens"), places, axis=0)
        x = g("Gather", table or g.weight("head"), rows, axis=0)
        return x, self.project(0, x)

    def logits(self, hidden: str) -> str:
        """Scores of all tokens, [n, V]."""
        return self.g("Gemm", hidden, self.g.weight("head"), transB=1)

    def _places(self, first: str) -> str:
        """Places in `tokens` of all tokens that are read: prompt or start token, then the items' codes, int32 [T]."""
        g, spec = self.g, self.spec
        codes = g("Add", "history", g.const(np.arange(spec.levels) * spec.codes, np.int32))
        begins = g("Cast", g("Equal", first, g.ints(0)), to=INT64)
        if not spec.prompt:
            begins = g("Mul", begins, g("Cast", g("Equal", g("Shape", "history", end=1), g.ints(0)), to=INT64))
        before = spec.levels * spec.codes + np.arange(max(spec.prompt, 1))
        count = g("Mul", begins, g.ints(len(before)))  # all of them, or none
        prompt = g("Slice", g.const(before, np.int32), g.ints(0), count, g.ints(0))
        return g("Concat", prompt, g("Reshape", codes, g.ints(-1)), axis=0)


class _Beams:
    """The beams of a search, which read their own codes one by one."""

    def __init__(self, model: TokenGraph, hidden: str, cache: Cache) -> None:
        g = model.g
        self.model, self.g, self.spec, self.hidden = model, g, model.spec, hidden
        self.shared = [(g("Transpose", k, perm=[0, 2, 1]), v) for k, v in cache]  # [G, d, S], [G, S, d]
        self.read = g("Shape", cache[0][0], start=1, end=2)  # [1] = S
        self.own: list[Cache] = []  # of each earlier code, by layer: keys and values of the beams, [G, B, d]
        self.code = ""

    def log_probs(self, level: int) -> str:
        """Log-probabilities of a level's codes among all tokens, [B, K] (see `Scorer`)."""
        g, spec = self.g, self.spec
        if level:
            self._read_codes(level - 1)
        all_tokens = g("LogSoftmax", self.model.logits(self.hidden), axis=-1)  # [B, V]
        begin, end = g.ints(level * spec.codes), g.ints((level + 1) * spec.codes)
        return g("Gather", all_tokens, g("Slice", g.weight("tokens"), begin, end, g.ints(0)), axis=1)

    def keep(self, code: str, parent: str) -> None:
        """Go on with the best beams (see `Scorer`)."""
        g, self.code = self.g, code
        if parent:
            self.own = [
                [(g("Gather", k, parent, axis=1), g("Gather", v, parent, axis=1)) for k, v in cache]
                for cache in self.own
            ]

    def _read_codes(self, level: int) -> None:
        """Read the beams' codes of a level; afterwards `hidden` is [B, D], and `own` has their keys and values."""
        g, spec, model = self.g, self.spec, self.model
        position = g("Add", self.read, g.ints(level))
        rope = model.rope(position, g("Add", position, g.ints(1)))  # [1, d]: all beams are equally long
        x, projected = model.embed(g("Add", self.code, g.const(level * spec.codes, np.int32)))
        sizes = g("Concat", self.read, g.ints(*[1] * (len(self.own) + 1)), axis=0)
        new: Cache = []
        for layer in range(spec.layers):
            q, k, v = model.heads(model.project(layer, x) if layer else projected, rope)
            new.append((k, v))
            own = [*(earlier[layer] for earlier in self.own), (k, v)]
            x = model.finish_block(layer, x, self._attend(q, self.shared[layer], own, sizes))
        self.own.append(new)
        self.hidden = model.final_norm(x)

    def _attend(self, q: str, shared: tuple[str, str], own: Cache, sizes: str) -> str:
        """Attention of the beams' queries [H, B, d] over the history and their own l codes, [B, H·d].

        sizes [1 + l]: tokens of the history, then ones.
        """
        g, spec = self.g, self.spec
        repeated = spec.heads // spec.kv_heads
        if repeated > 1:  # rows of q, [G, r·B, d]: all beams for one head, then for the next
            q = g("Reshape", q, g.ints(spec.kv_heads, -1, spec.head_dim))
            own = [(g("Concat", *[k] * repeated, axis=1), g("Concat", *[v] * repeated, axis=1)) for k, v in own]
        to_own = [g("ReduceSum", g("Mul", q, k), g.ints(-1), keepdims=1) for k, _ in own]  # [G, r·B, 1] each
        weights = g("Softmax", g("Concat", g("MatMul", q, shared[0]), *to_own, axis=-1), axis=-1)
        to_history, *to_own = g.split("Split", 1 + len(own), weights, sizes, axis=-1)
        mixed = g("MatMul", to_history, shared[1])
        for weight, (_, v) in zip(to_own, own, strict=True):
            mixed = g("Add", mixed, g("Mul", weight, v))
        return self.model.merge_heads(mixed)
