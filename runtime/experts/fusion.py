"""Three experts in one score: score(i) = log P_model(i) + b · log P_crowd(i) + a · words(i).

    P_crowd(i) = (1 − popular) · reached_i / Σ reached + popular · popularity_i
    words(i)   = Σ over the last items, newest first, of recency^age · cos(words of that item, words of i)

Where items of the history may come back, each of them gains `seen` once. Where they may not, they gain nothing, so that
no prefix rises for an item that is left out.

A log-linear mixture, as in a product of experts (Hinton 2002); that an assistant without text steers the decoding is
D3 (Bao et al. 2024, section 4). The sum is exact inside the beam search, as every bias is (`runtime.control`): a node
holds the largest gain of the leaves under it. Nearly all items are reached by no expert and keep a fixed floor, b ·
log(popular · popularity_i), whose nodes are prepared once for each catalogue; a call raises the paths of the some
hundred items that are reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.compiled import native
from pocketrec.runtime.control import Control, node_bias
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.experts.words import Words

FLOORS = 16  # catalogues and controls whose floors are kept
LIKE_TENTH = 0.5  # sum of cosines and
PASSED_TENTH = 4.0  # -log of the probability passed on, with which a cold item scores as the tenth item of a list


@dataclass(frozen=True, eq=False, slots=True)
class Floor:
    """What no history changes, for one catalogue: the gain of every node if nothing is reached, float32 [n_nodes].

    nodes[0] = 0. leaves: float32 [n], the gain of each leaf. parents: int32 [n_nodes], of every node; the root's is 0.
    compiled: the same in the extension module (`_native.Floor`); None without one.
    """

    leaves: NDArray[np.float32]
    nodes: NDArray[np.float32]
    parents: NDArray[np.int32]
    compiled: Any = None


class Experts:
    """Crowd and words of one catalogue with their weights."""

    def __init__(self, crowd: Crowd | None, words: Words | None, weights: FusionWeights, n_items: int) -> None:
        """Join what there is; an expert whose weight is 0 is left out.

        :param n_items: items in the catalogue's table.
        """
        self.crowd = crowd if weights.crowd else None
        self.words = words if weights.words else None
        self.weights, self.n_items = weights, n_items
        floor = np.zeros(n_items, np.float32)
        if self.crowd is not None:
            floor = np.float32(weights.crowd) * (self.crowd.log_popularity + np.float32(math.log(weights.popular)))
        self._floor = floor
        self._compiled = None if native is None else native.Experts(n_items, *self._arrays())
        self._floor_of = lru_cache(maxsize=FLOORS)(self._prepare)

    def floor(self, trie: ItemTrie, bias: NDArray[np.float32] | None = None) -> Floor:
        """Prepare a catalogue.

        :param trie: the whole catalogue or a part of it.
        :param bias: float32 [len(trie)], added to each leaf's gain; None: nothing.
        """
        leaves: NDArray[np.float32] = self._floor[trie.table_rows]
        if bias is not None:
            leaves = leaves + bias
        parents = np.zeros(trie.n_nodes, np.int32)
        parents[1:] = np.repeat(np.arange(trie.n_internal, dtype=np.int32), np.diff(trie.first_child))
        nodes, compiled = node_bias(trie, leaves), None
        if native is not None:
            leaf_of = None if trie.subset is None else trie.leaves_of(np.arange(self.n_items, dtype=np.int32))
            compiled = native.Floor(self._compiled, leaves, nodes, parents, leaf_of)
        return Floor(leaves, nodes, parents, compiled)

    def compiled_floor(self, trie: ItemTrie) -> Any:
        """Return the extension module's floor of a whole catalogue, for calls from ids to items; None without one."""
        return self._floor_of(trie).compiled

    def _arrays(self) -> tuple[Any, ...]:
        """Return weights, crowd and words as the extension module takes them."""
        w, c, words = self.weights, self.crowd, self.words
        weights = (w.crowd, w.words, w.popular, w.crowd_recency, w.words_recency, w.seen, w.words_items)
        of_crowd = c and (c.first, c.neighbours, c.weights, np.float32(w.popular) * np.exp(c.log_popularity))
        of_words = words and (
            words.first, words.terms, words.idf, words.norm, words.post_first, words.post_items, words.inverse,
        )  # fmt: skip
        return weights, of_crowd, of_words

    def bias(self, control: Control, history: NDArray[np.int32], exclude_seen: bool = False) -> NDArray[np.float32]:
        """Gain of every node of a control's catalogue after a history, the control's own bias included.

        :param history: table rows of the whole history, oldest first.
        :param exclude_seen: the history's items are left out of the list.
        :return: float32 [n_nodes], 0 at the root; not to be written to.
        """
        catalogue = control.catalogue
        floor = self._floor_of(catalogue if control.bias is None else control)
        if native is None:
            return self.node_bias(catalogue, floor, history, exclude_seen)
        # A view of memory that is used again once nobody refers to the array.
        return np.asarray(native.NodeGains(floor.compiled, np.ascontiguousarray(history, np.int32), exclude_seen))

    def _prepare(self, of: ItemTrie | Control) -> Floor:
        """Prepare a catalogue, or a control with a bias. Both are known by identity."""
        if isinstance(of, ItemTrie):
            return self.floor(of)
        assert of.bias is not None
        return self.floor(of.catalogue, of.bias[of.catalogue.n_internal :])

    def gains(self, history: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Say which items a history reaches, and how much each rises above its floor.

        :param history: table rows, oldest first, of all that the user has seen.
        :return: items, int32 [r], rising, each once; float32 [r], at least 0.
        """
        w = self.weights
        items, values = self._crowd_gains(history)
        if self.words is None:
            return items, values
        others, cosines = self.words.reached(history[-w.words_items :], w.words_recency)
        both = np.union1d(items, others).astype(np.int32)
        out = np.zeros(len(both), np.float32)
        out[np.searchsorted(both, items)] = values
        out[np.searchsorted(both, others)] += np.float32(w.words) * cosines
        return both, out

    def _crowd_gains(self, history: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """As `gains`, of the crowd alone."""
        w = self.weights
        items, values = np.empty(0, np.int32), np.empty(0, np.float32)
        if self.crowd is not None:
            items, arrived = self.crowd.reached(history, w.crowd_recency)
            values = np.zeros(len(items), np.float32)
            total = float(arrived.sum(dtype=np.float64))  # 0 if all that arrives is less than the least float32
            if total > 0:
                popular = np.float32(w.popular) * np.exp(self.crowd.log_popularity[items])
                values = np.float32(w.crowd) * np.log1p(np.float32((1 - w.popular) / total) * arrived / popular)
        return items, values

    def stand_ins(
        self, history: NDArray[np.int32], cold: NDArray[np.int32], passed: tuple[NDArray[np.int32], NDArray[np.float32]]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Score cold items, whose term of the model says nothing, on the scale of the other items' scores.

        The tenth item of a list (`FusionWeights.tenth`) is the measure. An item whose words' sum of cosines is
        LIKE_TENTH scores as the tenth does, and so does one without words that similar items pass exp(-PASSED_TENTH) of
        probability on to; the two add as probabilities. An item that the crowd reaches may instead score as if the
        model gave it as much as the tenth (`FusionWeights.tenth_model`).

        :param history: table rows, oldest first. cold: the cold items, int32 [m], rising.
        :param passed: items that similar ones pass probability on to, int32, rising, and its logarithm, float32.
        :return: the cold items that any of these reaches, int32, rising, and their scores, float32.
        """
        w, base, words = self.weights, np.full(len(cold), -np.inf, np.float32), np.zeros(len(cold), np.float32)
        if self.words is not None:
            near, cosines = self.words.reached(history[-w.words_items :], w.words_recency)
            _, at, of = np.intersect1d(cold, near, assume_unique=True, return_indices=True)
            words[at] = np.float32(w.words) * cosines[of]
            base[at] = w.tenth - LIKE_TENTH * w.words
        _, at, of = np.intersect1d(cold, passed[0], assume_unique=True, return_indices=True)
        base[at] = np.logaddexp(base[at], passed[1][of] + np.float32(w.tenth + PASSED_TENTH))
        reached, gains = self._crowd_gains(history)
        both, at, of = np.intersect1d(cold, reached, assume_unique=True, return_indices=True)
        base[at] = np.maximum(base[at], np.float32(w.tenth_model) + self._floor[both] + gains[of])
        some = np.flatnonzero(base > -np.inf)
        return cold[some], base[some] + words[some]

    def term(self, history: NDArray[np.int32], item: int) -> float:
        """What the experts add to one item's score after a history: its floor and its gain, without `seen`.

        :param history: table rows, oldest first. item: a table row.
        """
        items, gains = self.gains(history)
        place = int(np.searchsorted(items, item))
        reached = place < len(items) and int(items[place]) == item
        return float(self._floor[item]) + (float(gains[place]) if reached else 0.0)

    def single(self) -> dict[str, Experts]:
        """The crowd and the words each by itself, by the names "crowd" and "words"; their terms sum to those of all."""
        out = {}
        if self.crowd is not None:
            out["crowd"] = Experts(self.crowd, None, replace(self.weights, words=0.0), self.n_items)
        if self.words is not None:
            out["words"] = Experts(None, self.words, replace(self.weights, crowd=0.0), self.n_items)
        return out

    def node_bias(
        self, trie: ItemTrie, floor: Floor, history: NDArray[np.int32], exclude_seen: bool = False
    ) -> NDArray[np.float32]:
        """Gain of every node after a history, float32 [n_nodes], 0 at the root; in numpy, the reference of the C code.

        A leaf has its own gain, a node at least the largest below it and at least its floor.

        :param floor: of this catalogue, from `floor`.
        :param history: table rows, oldest first.
        :param exclude_seen: the history's items are left out of the list; they keep their floor.
        """
        items, gains = self._lifted(history, exclude_seen)
        leaves = trie.leaves_of(items)
        here = leaves >= 0
        leaves = leaves[here]
        nodes: NDArray[np.float32] = floor.nodes.copy()
        values = floor.leaves[leaves] + gains[here]
        at = leaves + np.int32(trie.n_internal)
        nodes[at] = values
        at = floor.parents[at]
        while len(at) and at.any():
            np.maximum.at(nodes, at, values)
            at = floor.parents[at]
        nodes[0] = 0.0
        return nodes

    def _lifted(self, history: NDArray[np.int32], exclude_seen: bool) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return `gains` less the history's items or, where they may come back, with `seen` added to theirs."""
        items, gains = self.gains(history)
        if exclude_seen:
            others = ~np.isin(items, history)
            return items[others], gains[others]
        if not self.weights.seen or len(history) == 0:
            return items, gains
        both = np.union1d(items, history).astype(np.int32)
        out = np.zeros(len(both), np.float32)
        out[np.searchsorted(both, items)] = gains
        out[np.searchsorted(both, history)] += np.float32(self.weights.seen)  # once, also for an item that repeats
        return both, out
