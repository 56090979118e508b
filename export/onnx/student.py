"""Our student as ONNX nodes: a token per item in front of the blocks, a decoder of semantic IDs behind them.

The decoder's prefix part is linear in the code embeddings, so it is written as `Gather(MatMul(embeddings, weight),
codes)`: ONNX Runtime folds the product into a table when it opens the graph, so each call only looks codes up, and no
table lies in the file. Shapes in comments: N items of the history, T tokens, L levels, K codes, D width, M decoder
width, R pairs, P width of the pair table, B beams.
"""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from pocketrec.export.onnx.graph import INT32, INT64
from pocketrec.export.onnx.layers import Cache, LlamaLayers, silu
from pocketrec.export.onnx.search import Scorer


class StudentGraph(LlamaLayers):
    """Adds the student's parts to a graph."""

    reads_cache = False

    def encode(self, *, cached: bool) -> tuple[str, Cache]:
        """Read the input `history`, after the input `past` if `cached`; return hidden [1, D] and the cache.

        Without cached tokens the start token comes first (T = N + 1), otherwise T = N ≥ 1.
        """
        first = self.cached_tokens(cached)
        return self.read(self._tokens(first if cached else None), first, cached=cached)

    def scorer(self, hidden: str, cache: Cache) -> Scorer:
        """Score codes after a hidden state [1, D]; the history is in it."""
        return _Decoder(self, hidden)

    def _tokens(self, first: str | None) -> str:
        """Embeddings of all tokens that are read, [T, D]: the start token (unless tokens are cached) and the items."""
        g, spec = self.g, self.spec
        embeddings = g("Concat", *(g.weight(f"embed.{level}") for level in range(spec.levels)), axis=0)  # [L·K, D]
        start = g.weight("start")
        rows = g("Add", "history", g.const(np.arange(spec.levels) * spec.codes, np.int32))
        items = g("ReduceSum", g("Gather", embeddings, rows, axis=0), g.ints(1), keepdims=0)  # [N, D]
        if spec.pair_dim:
            one, two = (g("Gather", "history", g.const(level, np.int64), axis=1) for level in (0, 1))  # [N]
            items = g("Add", items, g("MatMul", self.pairs(one, two), g.weight("pair.into")))
        if first:
            is_first = g("Cast", g("Equal", first, g.ints(0)), to=INT64)
            start = g("Slice", start, g.ints(0), is_first, g.ints(0))  # one row, or none when continuing
        return g("Concat", start, items, axis=0)

    def pairs(self, first: str, second: str) -> str:
        """Embeddings of pairs of first codes, [n] each: [n, P]."""
        g = self.g
        pair = g("Add", g("Mul", first, g.const(self.spec.codes, np.int32)), second)
        return g("Gather", g.weight("pair.table"), g("Gather", self._pair_rows(), pair, axis=0), axis=0)

    def _pair_rows(self) -> str:
        """Row of every pair in the pair table, [K·K]; 0: a pair that no item has. Made once, at load."""
        g = self.g
        keys = g("Cast", g.weight("pair.keys"), to=INT64)
        one = g.const(1, np.int32)
        after = g("Cast", g("Add", g("Squeeze", g("Shape", keys)), g.const(1, np.int64)), to=INT32)
        zeros = g("ConstantOfShape", g.ints(self.spec.codes**2), value=numpy_helper.from_array(np.zeros(1, np.int32)))
        return g("ScatterElements", zeros, keys, g("Range", one, after, one), axis=0)


class _Decoder:
    """The SID decoder over the beams of a search."""

    def __init__(self, model: StudentGraph, hidden: str) -> None:
        g, spec = model.g, model.spec
        self.model, self.g, self.spec, self.hidden = model, g, spec, hidden
        shared = g("Add", g("MatMul", hidden, g.weight("decoder.hidden")), g.weight("decoder.bias"))  # [1, L·M]
        single = spec.levels == 1
        self.of_level = [shared] if single else g.split("Split", spec.levels, shared, axis=1, num_outputs=spec.levels)
        self.codes: list[str] = []  # the beams' codes so far, a name for each level, [B] each

    def log_probs(self, level: int) -> str:
        """Log-probabilities of a level's codes, [B, K] (see `Scorer`)."""
        g = self.g
        logits = g("MatMul", silu(g, self._decoder_input(level)), g.weight(f"decoder.{level}.out"))
        logits = g("Add", logits, g.weight(f"decoder.{level}.out_bias"))
        if level == 1 and self.spec.pair_dim:
            logits = self._add_pair_logits(logits)
        return g("LogSoftmax", logits, axis=-1)

    def keep(self, code: str, parent: str) -> None:
        """Go on with the best beams (see `Scorer`)."""
        self.codes = [*(self.g("Gather", earlier, parent, axis=0) for earlier in self.codes), code]

    def _decoder_input(self, level: int) -> str:
        """Input of a level's hidden layer given the beams' codes so far, before activation, [B, M]; at level 0 [1, M].

        Each earlier level adds a row of a table [K, M].
        """
        g, total = self.g, self.of_level[level]
        for earlier, code in enumerate(self.codes):
            table = g("MatMul", g.weight(f"embed.{earlier}"), g.weight(f"decoder.{level}.prefix"))
            total = g("Add", total, g("Gather", table, code, axis=0))
        if self.spec.pair_dim and len(self.codes) > 1:
            into = g("MatMul", g.weight("pair.into"), g.weight(f"decoder.{level}.prefix"))  # [P, M]
            total = g("Gemm", self.model.pairs(*self.codes[:2]), into, total)
        return total

    def _add_pair_logits(self, logits: str) -> str:
        """Add the scores of pairs to the logits of the second code, given the beams' first codes; both [B, K].

        Only pairs that begin with these codes are scored, at most W for each code; row 0 of the table is zeros.
        """
        g, spec, first = self.g, self.spec, self.codes[0]
        keys = g.weights.integers("pair.keys")  # rising
        begin = np.searchsorted(keys, np.arange(spec.codes + 1) * spec.codes)
        width = int(np.diff(begin).max())
        pair = g("Add", g.const(begin[:-1, None], np.int32), g.const(np.arange(width), np.int32))
        known = g("Less", pair, g.const(begin[1:, None], np.int32))
        rows = g("Where", known, g("Add", pair, g.const(1, np.int32)), g.const(0, np.int32))  # of the table, [K, W]
        second = g("Mod", g("Cast", g.weight("pair.keys"), to=INT32), g.const(spec.codes, np.int32))
        codes = g("Gather", g("Concat", g.const([0], np.int32), second, axis=0), rows, axis=0)  # [K, W]
        query = g("Reshape", g("MatMul", self.hidden, g.weight("pair.query")), g.ints(-1, 1))  # [P, 1]
        pairs = g("Gather", g.weight("pair.table"), g("Gather", rows, first, axis=0), axis=0)  # [B, W, P]
        scores = g("Squeeze", g("MatMul", pairs, query), g.ints(2))
        return g("ScatterElements", logits, g("Gather", codes, first, axis=0), scores, axis=1, reduction="add")
