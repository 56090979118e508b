"""Control of recommendations: which items are allowed, which are favoured, how different they are from each other.

A `Control` is prepared once (`Recommender.control`) and used in any number of calls: allow and deny lists become the
trie of a sub-catalogue, biases become one number per node, so that using it costs microseconds.

A bias is exact inside the beam search. Every node holds the largest bias of the leaves under it, and a step from a node
to its child gains the child's number less the node's. So a leaf's score is its log-probability plus its own bias, and a
prefix that leads to a favoured item is favoured from the first level on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import ConfigError

MAX_BIAS = 1e6
POOL = 4  # a diverse list of k items is chosen from POOL * k candidates


@dataclass(frozen=True, eq=False)
class Control:
    """Filters and biases, checked and prepared for one catalogue.

    catalogue: the items that may come back. bias: float32 [n_nodes of catalogue], bias[0] = 0, or None. min_score:
    items that score less do not come back. diversity: 0 (by score alone) to 1 (as different as possible).
    """

    catalogue: ItemTrie
    bias: NDArray[np.float32] | None = None
    min_score: float = -math.inf
    diversity: float = 0.0


def prepare(
    whole: ItemTrie,
    within: ItemTrie,
    allow: Iterable[str] | None,
    deny: Iterable[str],
    bias: Mapping[str, float] | None,
    segments: Mapping[str, str] | None,
    min_score: float | None,
    diversity: float,
) -> Control:
    """Check the arguments of `Recommender.control` and prepare a control.

    :raises ConfigError: on wrong types or values.
    """
    if isinstance(diversity, bool) or not isinstance(diversity, (int, float)) or not 0 <= diversity <= 1:
        raise ConfigError(f"diversity is {diversity!r}; give a number from 0 to 1")
    if min_score is not None and (isinstance(min_score, bool) or not isinstance(min_score, (int, float))):
        raise ConfigError(f"min_score is {min_score!r}; give a number (scores are log-probabilities) or None")
    if min_score is not None and math.isnan(min_score):
        raise ConfigError("min_score is NaN; give a number or None")
    mask = np.ones(len(within), np.bool_)
    if allow is not None:
        mask[:] = False
        mask[_leaves(within, id_list("allow", allow))] = True
    mask[_leaves(within, id_list("deny", deny))] = False
    catalogue = within if mask.all() else within.filter(mask)
    nodes = None if bias is None else node_bias(catalogue, item_bias(whole, bias, segments)[catalogue.table_rows])
    return Control(catalogue, nodes, -math.inf if min_score is None else float(min_score), float(diversity))


def item_bias(whole: ItemTrie, bias: Mapping[str, float], segments: Mapping[str, str] | None) -> NDArray[np.float32]:
    """Return the bias of every item by table row, float32 [n].

    Biases are by item id, or by segment if there are segments. Unknown ids and segments without a bias are ignored.
    """
    if not isinstance(bias, Mapping) or not isinstance(segments, (Mapping, type(None))):
        raise ConfigError(
            "give `bias` as a mapping from item id (or segment) to a number, and `segments` from item id to segment"
        )
    for name, value in bias.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not abs(value) <= MAX_BIAS:
            raise ConfigError(f"the bias of {name!r} is {value!r}; give a number of at most ±{MAX_BIAS:.0e}")
    of_item = bias if segments is None else {item: bias[s] for item, s in segments.items() if s in bias}
    out = np.zeros(len(whole.table), np.float32)
    rows = whole.table.find(id_list("bias", of_item))
    values = np.fromiter(of_item.values(), np.float32, len(of_item))
    out[rows[rows >= 0]] = values[rows >= 0]
    return out


def node_bias(trie: ItemTrie, leaves: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest bias under every node, float32 [n_nodes], 0 at the root; leaves: float32 [n], by leaf row."""
    out = np.zeros(trie.n_nodes, np.float32)
    out[trie.n_internal :] = leaves
    first, end = trie.n_internal, trie.n_nodes  # the nodes of a depth, the leaves first
    while first > 1 and len(trie):
        parents = slice(int(np.searchsorted(trie.first_child, first)), first)
        out[parents] = np.maximum.reduceat(out[first:end], trie.first_child[parents] - first)
        first, end = parents.start, first
    out[0] = 0.0
    return out


def diverse(
    scores: NDArray[np.float32], sids: NDArray[np.unsignedinteger], k: int, diversity: float
) -> NDArray[np.int64]:
    """Choose k of n candidates by maximal marginal relevance (Carbonell & Goldstein 1998).

    Relevance is the score, scaled to [0, 1] over the candidates. The similarity of two items is the length of the
    prefix that their semantic IDs share, divided by the number of levels.

    :param scores: float32 [n], falling. sids: [n, L].
    :returns: positions of the chosen candidates, int64 [min(k, n)], in the order they were chosen.
    """
    span = scores[0] - scores[-1] if len(scores) else np.float32(0)
    relevance = (scores - scores[-1]) / span if span > 0 else np.ones(len(scores), np.float32)
    alike = (sids[:, None] == sids[None]).cumprod(2).mean(2)  # [n, n]
    value, nearest = (1 - diversity) * relevance, np.zeros(len(scores))
    chosen: list[int] = []
    left = np.ones(len(scores), np.bool_)
    for _ in range(min(k, len(scores))):
        best = int(np.argmax(np.where(left, value - diversity * nearest, -np.inf)))
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, alike[best])
    return np.array(chosen, np.int64)


def id_list(what: str, ids: Any) -> list[str]:
    """Return item ids as a list.

    :raises ConfigError: if they are not an iterable of strings.
    """
    if type(ids) is list and set(map(type, ids)) <= {str}:
        return ids  # the usual case, quickly
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise ConfigError(f"{what} is {ids!r:.60}; give a list of item ids")
    listed = sorted(ids, key=str) if isinstance(ids, Set) else list(ids)
    for place, item_id in enumerate(listed):
        if not isinstance(item_id, str):
            raise ConfigError(f"{what} has {item_id!r:.60} at position {place}; item ids are strings")
    return listed


def history_ids(history: Any) -> list[str]:
    """Return the item ids of a history, oldest first.

    :raises ConfigError: if it is not a list of strings, or has no order.
    """
    unordered = isinstance(history, (str, bytes, Set, Mapping)) if type(history) is not list else False
    if unordered or not isinstance(history, Iterable):
        raise ConfigError(f"the history is {history!r:.60}; give a list of item ids, oldest first")
    return id_list("the history", history)


def _leaves(trie: ItemTrie, ids: list[str]) -> NDArray[np.int32]:
    leaves = trie.find(ids)
    return leaves[leaves >= 0]
