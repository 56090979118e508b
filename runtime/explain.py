"""Explain a score: what the model, the crowd and the words add to it, and what each item of the history contributes.

All of it is the recommender's own numbers, not estimates: a score is the sum of its parts, the model's part is the sum
of its codes' log-probabilities, and an item of the history is weighed by leaving it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.cold_items import recent_rows
from pocketrec.runtime.control import Control
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.experts.reasons import Reason, sentence, shared_words, short
from pocketrec.runtime.retrieval import Query, Rows
from pocketrec.runtime.retriever import Retriever

LARGE: Final = 0.25  # share from which a part is named in the sentence
COMPARED: Final = 3  # items of the history whose words are named

Changes = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Part:
    """What the model ("sequence"), the crowd ("crowd") or the words ("words") add to an item's score.

    term: the number that is added; the terms sum to the score. rise: the term less the term after an empty history.
    share: this rise divided by the sum of all parts' rises, where a rise below 0 counts as 0. The shares of an
    explanation sum to 1; if nothing rises, the sequence has 1.
    history: (item id, change) for the items of `Explanation.history`; the change is the term less the term after the
    history without the item. shared: of the words, (item id, words) for items of the history that share words with the
    item, those with the largest change first. Words are named if the titles in the bundle have them.
    """

    name: str
    term: float
    rise: float
    share: float
    history: Changes
    shared: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Why an item has the score it has.

    score: the score by which `recommend` ranks the item: the sum of the parts' terms and of `added`. levels: the
    model's log-probability of each code of the item's semantic ID, given the codes before it; they sum to the model's
    log-probability of the item, which is the term of the sequence. history: (item id, change), oldest first, for each
    item that the model read, or each item of the whole history if the bundle has experts; the change is the score less
    the score after the history without the item. resembles: for a cold item, (item id, probability) of each item that
    it resembles and gets probability from, the largest first: items of the history, and items that are recommended. If
    the logarithm of their sum is above the model's log-probability, it is the term of the sequence instead.
    parts: the sequence, then crowd and words if the bundle has them. added: the control's bias of the item, and the
    fixed weight of items of the history if the item is one. sentence: the parts with the largest shares in words.
    """

    item_id: str
    score: float
    levels: tuple[float, ...]
    history: Changes
    resembles: Changes = ()
    parts: tuple[Part, ...] = ()
    added: float = 0.0
    sentence: str = ""

    @property
    def drivers(self) -> Changes:
        """The history, the item that raised the score most first."""
        return _largest_first(self.history)


def explain(retriever: Retriever, history: Sequence[str], item_id: str, control: Control | None = None) -> Explanation:
    """Explain an item's score after a history (see `Recommender.explain`)."""
    retriever.check_open()
    leaves, _ = retriever.find_leaves(history)
    return explain_leaves(retriever, leaves, item_id, control)


def explain_leaves(retriever: Retriever, leaves: Rows, item_id: str, control: Control | None = None) -> Explanation:
    """As `explain`, after a history of leaf rows, int32 [N], oldest first."""
    retriever.check_open()
    leaf = retriever.leaf_of(item_id)
    if leaf < 0:
        raise ConfigError(f"the catalogue has no item {item_id!r}; give one of its ids")
    if retriever.experts is None:
        leaves = leaves[-retriever.max_history :]
    return _Explainer(retriever, leaves, leaf, control).explanation(item_id)


class _Explainer:
    """One item after one history."""

    def __init__(self, retriever: Retriever, leaves: Rows, leaf: int, control: Control | None) -> None:
        """Take a history and an item as leaf rows of the whole catalogue."""
        self.retriever, self.trie, self.leaf, self.control = retriever, retriever.trie, leaf, control
        self.rows, self.window = self.trie.table_rows_of(leaves), leaves[-retriever.max_history :]
        self.item = int(self.trie.table_rows_of(np.array([leaf], np.int32))[0])
        self.ids = self.trie.table.ids(self.rows)

    def explanation(self, item_id: str) -> Explanation:
        parts = self._parts()
        changes = np.zeros(len(self.rows))
        for part in parts:
            changes += [change for _, change in part.history]
        added, seen = self._bias(item_id), self._seen()
        if np.count_nonzero(self.rows == self.item) == 1:  # without it, the item is no longer one of the history
            changes[self.rows == self.item] += seen
        return Explanation(
            item_id,
            score=sum(part.term for part in parts) + added + seen,
            levels=tuple(self._levels(self.window).tolist()),
            history=self._named(changes),
            resembles=self._resembled(self.window),
            parts=parts,
            added=added + seen,
            sentence=sentence(self._reasons(parts)),
        )

    def _parts(self) -> tuple[Part, ...]:
        """The parts, each with its term after the history, after nothing, and after the history without each item."""
        terms = {"sequence": self._sequence(self.window)}
        nothing = {"sequence": self._sequence(self.window[:0])}
        older = len(self.rows) - len(self.window)
        without = {
            "sequence": [terms["sequence"]] * older
            + [self._sequence(np.delete(self.window, n)) for n in range(len(self.window))]
        }
        experts = self.retriever.experts
        for name, expert in ({} if experts is None else experts.single()).items():
            terms[name], nothing[name] = expert.term(self.rows, self.item), expert.term(self.rows[:0], self.item)
            without[name] = [expert.term(np.delete(self.rows, n), self.item) for n in range(len(self.rows))]
        rises = {name: term - nothing[name] for name, term in terms.items()}
        total = sum(max(rise, 0.0) for rise in rises.values())
        out = []
        for name, term in terms.items():
            share = max(rises[name], 0.0) / total if total else float(name == "sequence")
            changes = self._named(term - np.array(without[name]))
            out.append(Part(name, term, rises[name], share, changes, self._shared(changes) if name == "words" else ()))
        return tuple(out)

    def _sequence(self, leaves: Rows) -> float:
        """The model's log-probability after a history; of a cold item, what stands in for it if it is more."""
        passed = sum(probability for _, probability in self._resembled(leaves))
        own = float(self._levels(leaves).sum())
        experts, cold = self.retriever.experts, self.retriever.cold
        if experts is None or not experts.weights.tenth or cold is None or self.item not in cold.items:
            return max(own, math.log(passed)) if passed > 0 else own
        item, rows = np.array([self.item], np.int32), self.trie.table_rows_of(leaves)
        given = item[:1] if passed > 0 else item[:0], np.log(np.full(int(passed > 0), passed, np.float32))
        _, scores = experts.stand_ins(rows, item, given)
        return max(own, float(scores[0]) - experts.term(rows, self.item)) if len(scores) else own

    def _levels(self, leaves: Rows) -> NDArray[np.float32]:
        return self.retriever.engine.level_scores(self.retriever.sids(leaves), self.trie.rows[self.leaf])

    def _resembled(self, leaves: Rows) -> Changes:
        """Ids of the items that a cold item gets probability from after a history, and how much, the largest first."""
        cold = self.retriever.cold
        if cold is None or self.item not in cold.new:
            return ()
        found, scores = self.retriever.scored(leaves)
        shares = cold.passed_to(self.item, recent_rows(self.trie, leaves), self.trie.table_rows_of(found), scores)
        names = self.trie.table.ids(np.array([known for known, _ in shares], np.int32))
        return tuple((name, probability) for name, (_, probability) in zip(names, shares, strict=True))

    def _bias(self, item_id: str) -> float:
        """The control's bias of the item."""
        control = self.retriever.catalogues.control_of(Query(control=self.control))
        (leaf,) = control.catalogue.leaves_of(np.array([self.item], np.int32))
        if leaf < 0:
            raise ConfigError(f"the control does not allow item {item_id!r}; explain it without the control")
        return 0.0 if control.bias is None else float(control.bias[control.catalogue.n_internal + leaf])

    def _seen(self) -> float:
        """What an item of the history gets in addition."""
        experts = self.retriever.experts
        return experts.weights.seen if experts is not None and self.item in self.rows else 0.0

    def _named(self, changes: NDArray[np.float64]) -> Changes:
        return tuple(zip(self.ids, changes.tolist(), strict=True))

    def _shared(self, changes: Changes) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Words that the item shares with items of the history, those with the largest change first."""
        experts = self.retriever.experts
        out: list[tuple[str, tuple[str, ...]]] = []
        index = None if experts is None else experts.words
        if index is None:
            return ()
        for name in list(dict(_largest_first(changes)))[:COMPARED]:
            (row,) = self.trie.table.find([name]).tolist()
            words = shared_words(index, self.trie.table, row, self.item)
            if words is not None:
                out.append((name, words))
        return tuple(out)

    def _reasons(self, parts: tuple[Part, ...]) -> list[Reason]:
        """The parts that raise the item most, the first two at most, with the item of the history that counts most."""
        out: list[Reason] = []
        for part in sorted(parts, key=lambda part: -part.share)[:2]:
            if part.rise <= 0 or (out and part.share < LARGE):
                continue
            best = next((name for name, change in _largest_first(part.history) if change > 0), "")
            out.append(Reason(part.name, self._title(best), dict(part.shared).get(best, ())))
        return out

    def _title(self, item_id: str) -> str:
        if not item_id:
            return ""
        (title,) = self.trie.table.titles(self.trie.table.find([item_id]))
        return short(title or item_id)


def _largest_first(changes: Changes) -> Changes:
    return tuple(sorted(changes, key=lambda pair: -pair[1]))
