"""The beam search over a trie as ONNX nodes, shared by our student and converted models.

The trie comes in as inputs, so the same file serves any catalogue of its SID space, and no host language needs search
code. The rule, which `runtime/catalogue/beam.py` states as the oracle: at each level every child of a beam scores the
beam's score plus its code's log-probability, and its bias less its parent's where there is one; the best `beam` of all
are kept, ties to the better parent, then to the lower code; leaves in `exclude` are out. Slots without a child score
−inf, and the host drops them. Shapes in comments: K codes, B beams (input `beam`), C slots (`max_branch` of a level),
M leaves in `exclude`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import onnx

from pocketrec.export.onnx.graph import FLOAT, INT32, INT64, UINT8, UINT16, Graph, value
from pocketrec.runtime.bundle.bundle import ModelSpec

BIAS = "bias"


class Scorer(Protocol):
    """The model's side of the search, called level by level."""

    def log_probs(self, level: int) -> str:
        """Log-probabilities of a level's codes after the beams so far, [B, K]; at level 0 [1, K]."""

    def keep(self, code: str, parent: str) -> None:
        """Go on with the best beams: their newest codes and the old beams that they extend, [B] each.

        parent: "" at level 0, whose beams all extend the root.
        """


def search_inputs(spec: ModelSpec) -> list[onnx.ValueInfoProto]:
    """The trie, the leaves left out, and the number of beams."""
    return [
        value("first_child", INT32, ["internal_nodes_plus_1"]),
        value("codes", UINT8 if spec.codes <= 256 else UINT16, ["nodes"]),
        value("exclude", INT32, ["excluded"]),
        value("beam", INT64, [1]),
    ]


def bias_input() -> onnx.ValueInfoProto:
    """A bias for each node of the trie, or one 0 for none."""
    return value(BIAS, FLOAT, ["nodes_or_1"])


def search_outputs() -> list[onnx.ValueInfoProto]:
    """The leaf rows that were found and their scores, best first."""
    return [value("rows", INT32, ["found"]), value("scores", FLOAT, ["found"])]


def add_search(g: Graph, spec: ModelSpec, scorer: Scorer, *, biased: bool) -> None:
    """Add the search, its levels unrolled; defines the outputs `rows` and `scores`.

    :param biased: whether the graph has the input of `bias_input`.
    """
    bias, node, score = BIAS if biased else "", "", ""  # node and score of the beams, [B] each
    for level in range(spec.levels):
        last, width = level + 1 == spec.levels, spec.max_branch[level]
        log_p = scorer.log_probs(level)
        slot, code, child = _children(g, width, log_p, node, score, bias) if level else _root(g, log_p, bias)
        score, best = _top(g, child, g("Add", "beam", g("Shape", "exclude")) if last else "beam")  # [B']
        node = g("Gather", slot, best, axis=0)
        if not last:
            parent = g("Div", best, g.const(width, np.int64)) if level else ""
            scorer.keep(g("Gather", code, best, axis=0), parent)
    internal = g("Cast", g("Sub", g("Shape", "first_child"), g.ints(1)), to=INT32)
    row = g("Sub", node, internal)  # the best beam + M leaves, of which `exclude` can remove M at most
    score, best = _top(g, _without_excluded(g, row, score), "beam")
    g.rename(g("Gather", row, best, axis=0), "rows")
    g.rename(score, "scores")


def _root(g: Graph, log_p: str, bias: str) -> tuple[str, str, str]:
    """Children of the root, their codes and scores, [C] each."""
    one = g.const(1, np.int32)
    slot = g("Range", one, g("Gather", "first_child", one, axis=0), one)
    code = g("Cast", g("GatherElements", "codes", slot, axis=0), to=INT32)
    child = g("GatherElements", g("Reshape", log_p, g.ints(-1)), code, axis=0)
    return slot, code, g("Add", child, _bias_of(g, bias, slot)) if bias else child


def _children(g: Graph, width: int, log_p: str, node: str, score: str, bias: str) -> tuple[str, str, str]:
    """Children of each beam in `width` slots, their codes and scores (−inf: no child here), [B·C] each."""
    begin = g("Unsqueeze", g("Gather", "first_child", node, axis=0), g.ints(1))
    after = g("Gather", "first_child", g("Add", node, g.const(1, np.int32)), axis=0)
    slot = g("Add", begin, g.const(np.arange(width), np.int32))
    valid = g("Less", slot, g("Unsqueeze", after, g.ints(1)))
    slots = g("Reshape", g("Where", valid, slot, g.const(0, np.int32)), g.ints(-1))
    codes = g("Cast", g("GatherElements", "codes", slots, axis=0), to=INT32)  # Gather is slower on single bytes
    code = g("Reshape", codes, g.ints(-1, width))
    score = g("Sub", score, _bias_of(g, bias, node)) if bias else score
    child = g("Add", g("GatherElements", log_p, code, axis=1), g("Unsqueeze", score, g.ints(1)))
    child = g("Reshape", g("Where", valid, child, g.const(-np.inf, np.float32)), g.ints(-1))
    return slots, codes, g("Add", child, _bias_of(g, bias, slots)) if bias else child


def _bias_of(g: Graph, bias: str, node: str) -> str:
    """The bias of nodes, of their shape; a bias of one number is that number everywhere."""
    last = g("Cast", g("Sub", g("Shape", bias), g.ints(1)), to=INT32)
    return g("Gather", bias, g("Min", node, last), axis=0)


def _top(g: Graph, score: str, limit: str) -> tuple[str, str]:
    """The best `limit` scores, falling, and their places; of equals, the first."""
    score, best = g.split("TopK", 2, score, g("Min", limit, g("Shape", score)), axis=0)
    return score, best


def _without_excluded(g: Graph, row: str, score: str) -> str:
    """The scores, −inf where the leaf row is in `exclude`."""
    equal = g("Equal", g("Unsqueeze", row, g.ints(1)), "exclude")  # [beam + M, M]
    hits = g("ReduceSum", g("Cast", equal, to=INT32), g.ints(1), keepdims=0)
    return g("Where", g("Greater", hits, g.const(0, np.int32)), g.const(-np.inf, np.float32), score)
