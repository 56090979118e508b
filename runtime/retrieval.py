"""The rule of retrieval: a query, a history and a model's search in; the rows and scores of a list out.

Nothing here touches files or knows an engine: the model comes in as a `Search`. The rule, in this order: leave out the
history's items; search widely enough that k items are left; let cold items take their places; drop scores below the
control's minimum; diversify; cut to k. On the path of the data: engine -> here -> recommender and session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.cold_items import ColdItems, best_of_both, recent_rows
from pocketrec.runtime.control import POOL, Control, diverse
from pocketrec.runtime.engines.validate import positive_integer
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.experts.fusion import Experts

if TYPE_CHECKING:
    from pocketrec.runtime.engines.protocol import Found

MANY_EXCLUDED: Final = 64  # from this many on, repeats are removed before the engine gets them
MAX_SCORE: Final = 1e9  # no log-probability of a sound model, bias included, comes near

Rows: TypeAlias = NDArray[np.int32]
Bias: TypeAlias = NDArray[np.float32]
Search: TypeAlias = "Callable[[ItemTrie, Rows, int, int | None, Bias | None, bool], Found]"
"""(catalogue, excluded leaf rows, beam, limit, bias of nodes, widen) -> rows and scores, as `Engine.search_from`."""


class QueryOptions(TypedDict, total=False):
    """The fields of a `Query` besides k, as keyword arguments."""

    exclude_seen: bool
    within: ItemTrie | str | None
    beam: int | None
    control: Control | None


@dataclass(frozen=True, slots=True)
class Query:
    """How to recommend, apart from the history: the arguments of `Recommender.recommend`, as the caller gave them."""

    k: int = 10
    exclude_seen: bool = True
    within: ItemTrie | str | None = None
    beam: int | None = None
    control: Control | None = None


class SubCatalogues:
    """A catalogue and its sub-catalogues by name. Thread-safe."""

    def __init__(self, whole: ItemTrie) -> None:
        """Begin with no names."""
        self.whole = whole
        self._named: dict[str, ItemTrie] = {}
        self._unrestricted = Control(whole)
        self._lock = threading.Lock()

    def add(self, name: str, items: Iterable[str] | NDArray[np.bool_]) -> ItemTrie:
        """Make a sub-catalogue and name it (see `Recommender.add_catalogue`)."""
        made = self.whole.filter(items) if isinstance(items, np.ndarray) else self.whole.filter_ids(list(items))
        with self._lock:  # two threads may add at once; readers see the dictionary before or after, and need no lock
            self._named = {**self._named, name: made}
        return made

    def find(self, within: ItemTrie | str | None) -> ItemTrie:
        """Return the catalogue that `within` names or is; None: the whole.

        :raises ConfigError: if there is none of that name, or it belongs to another catalogue.
        """
        if within is None:
            return self.whole
        if isinstance(within, str):
            named = self._named
            if within not in named:
                known = ", ".join(sorted(named)) or "none yet"
                raise ConfigError(f"there is no catalogue {within!r} (there are: {known}); make it with add_catalogue")
            return named[within]
        if not isinstance(within, ItemTrie) or within.table is not self.whole.table:
            raise ConfigError(
                "`within` is not a sub-catalogue of this catalogue; make one with trie.filter or trie.filter_ids"
            )
        return within

    def control_of(self, query: Query) -> Control:
        """Return a query's control; for one without, a control that only holds its catalogue.

        :raises ConfigError: if the control belongs to another catalogue, or `within` is given beside it.
        """
        control = query.control
        if control is None:
            return self._unrestricted if query.within is None else Control(self.find(query.within))
        if query.within is not None:
            raise ConfigError("`within` and `control` are both given; give `within` to recommender.control")
        if not isinstance(control, Control) or control.catalogue.table is not self.whole.table:
            raise ConfigError("`control` belongs to another catalogue; make it with recommender.control")
        return control


@dataclass(frozen=True, eq=False, slots=True)
class Retrieval:
    """The rule for one model and catalogue.

    beam: the model's own. cold: its cold items, experts: the crowd and words beside it; None: there are none.
    """

    catalogues: SubCatalogues
    beam: int
    cold: ColdItems | None = None
    experts: Experts | None = None

    def best(self, search: Search, history: Rows, query: Query) -> Found:
        """Return the table rows, int32, and scores, float32, of the best k items, best first.

        :param history: int32 [N], leaf rows of the user's whole history in the whole catalogue, oldest first.
        :raises ConfigError: on arguments of wrong type or value.
        """
        k = positive_integer("k", query.k)
        beam = self.beam if query.beam is None else positive_integer("beam", query.beam)
        control = self.catalogues.control_of(query)
        catalogue, items = control.catalogue, len(control.catalogue)
        k = min(k, items)
        exclude = history if query.exclude_seen else history[:0]
        if catalogue is not self.catalogues.whole:
            exclude = self._leaves_in(catalogue, exclude)
        needed = k if control.diversity == 0 else POOL * k
        if needed + len(exclude) > items or len(exclude) > MANY_EXCLUDED:
            exclude = np.unique(exclude)
            needed = min(needed, items - len(exclude))
        if needed == 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        limit = needed if self.cold is None else None  # cold items may resemble anything that the model finds
        bias = control.bias
        if self.experts is not None:
            bias = self.experts.bias(control, self.catalogues.whole.table_rows_of(history), query.exclude_seen)
        widen = query.beam is None and limit is not None
        leaves, scores = search(catalogue, exclude, max(beam, needed), limit, bias, widen)
        # Excluded items can fill a narrow beam. Every prefix in a beam leads to a leaf of its own, so that a beam as
        # wide as the needed and the excluded together has enough left.
        if len(leaves) < needed and max(beam, needed) < needed + len(exclude):
            leaves, scores = search(catalogue, exclude, needed + len(exclude), limit, bias, widen)
        if self.cold is not None:
            leaves, scores = self._with_cold(self.cold, control, bias, history, exclude, (leaves, scores))
        leaves, scores = _within_range(leaves, scores, control.min_score)
        if control.diversity:
            chosen = diverse(scores, catalogue.rows[leaves], k, control.diversity)
            leaves, scores = leaves[chosen], scores[chosen]
        return catalogue.table_rows_of(leaves[:k]), scores[:k]

    def _leaves_in(self, catalogue: ItemTrie, leaves: Rows) -> Rows:
        """Leaf rows in a sub-catalogue of items given by their leaf rows in the whole; others are dropped."""
        found = catalogue.leaves_of(self.catalogues.whole.table_rows_of(leaves))
        return found[found >= 0]

    def _with_cold(
        self, cold: ColdItems, control: Control, nodes: Bias | None, history: Rows, exclude: Rows, found: Found
    ) -> Found:
        """Merge cold items into what was found, in the order of scores.

        :param nodes: the bias of the search.
        """
        catalogue, (leaves, scores) = control.catalogue, found
        bias, own_bias = (None if b is None else b[catalogue.n_internal :] for b in (nodes, control.bias))
        without_bias = scores if bias is None else scores - bias[leaves]
        recent = recent_rows(self.catalogues.whole, history)
        rows, cold_scores = cold.scored(recent, catalogue.table_rows_of(leaves), without_bias)
        if self.experts is not None and self.experts.weights.tenth:
            of_history = self.catalogues.whole.table_rows_of(history)
            rows, cold_scores = self.experts.stand_ins(of_history, cold.items, (rows, cold_scores))
            bias = own_bias  # what the experts say is in the scores already
        if len(rows) == 0:
            return found
        cold_leaves, excluded = catalogue.leaves_of(rows), set(exclude.tolist())
        allowed = [i for i, leaf in enumerate(cold_leaves.tolist()) if leaf >= 0 and leaf not in excluded]
        cold_leaves, cold_scores = cold_leaves[allowed], cold_scores[allowed]
        if bias is not None:
            cold_scores = cold_scores + bias[cold_leaves]
        return best_of_both(leaves, scores, cold_leaves, cold_scores)


def _within_range(leaves: Rows, scores: NDArray[np.float32], min_score: float) -> Found:
    """Drop scores below the minimum, and those that no sound model gives."""
    values = scores.tolist()  # a handful: faster than numpy
    if not values or max(min_score, -MAX_SCORE) <= min(values) <= max(values) <= MAX_SCORE:
        return leaves, scores
    kept = (scores >= min_score) & (np.abs(scores) <= MAX_SCORE)
    return leaves[kept], scores[kept]
