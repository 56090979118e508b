"""A model and a catalogue at work: what recommender, session and explanation share.

Histories come in as ids or as leaf rows; `pocketrec.runtime.retrieval` has the rule by which lists are made, the engine
runs the model. On the path of the data: bundle -> engine and trie -> here -> recommender and session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import Manifest, check_fit
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.cold_items import ColdItems
from pocketrec.runtime.control import Control, history_ids
from pocketrec.runtime.engines.protocol import Engine, Found, State
from pocketrec.runtime.engines.validate import positive_integer
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.recommendation import Recommendation, Recommendations
from pocketrec.runtime.retrieval import Bias, Query, Retrieval, Rows, SubCatalogues


class Retriever:
    """An engine, a catalogue and the rule between them. It holds no state of any user; calls are thread-safe."""

    def __init__(
        self,
        engine: Engine,
        trie: ItemTrie,
        manifest: Manifest,
        cold: ColdItems | None = None,
        experts: Experts | None = None,
    ) -> None:
        """Join an engine and a catalogue (see `Recommender`).

        :raises BundleError: if the catalogue does not fit the model.
        """
        check_fit(manifest.model, trie)
        self.engine, self.trie, self.manifest, self.cold = engine, trie, manifest, cold
        self.experts = experts
        self.catalogues = SubCatalogues(trie)
        self.max_history, self._beam, self._items = manifest.model.max_history, manifest.model.beam, len(trie)
        self._retrieval = Retrieval(self.catalogues, self._beam, cold, experts)
        fast = engine.fast_path(trie, Recommendation, experts) if cold is None else None
        self._fast: Callable[..., list[Recommendation] | None] | None = fast.recommend if fast else None
        self._fast_leaf_of: Callable[[str], int] | None = fast.leaf_of if fast else None
        self._closed = False

    def try_fast_path(
        self,
        ids: list[str] | None,
        state: State | None,
        leaves: Rows | None,
        k: int,
        beam: int | None,
        exclude_seen: bool,
    ) -> Recommendations | None:
        """Recommend in one compiled call, from ids or from a state and its history's leaf rows.

        :return: None if the engine has no such call, or the call needs the general way.
        :raises ConfigError: if `beam` is not a whole number of at least 1.
        """
        if self._fast is None or type(k) is not int or k < 1:
            return None
        widen = beam is None
        beam = self._beam if beam is None else min(positive_integer("beam", beam), self._items)
        if k > self._items:
            k = self._items
        if state is None:
            items = self._fast(ids, None, None, leaves, k, beam, exclude_seen, widen)
        else:
            items = self._fast(ids, state.hidden, state.memory, leaves, k, beam, exclude_seen, widen)
        return None if items is None else Recommendations(items)

    def after_history(self, leaves: Rows, query: Query) -> Found:
        """Return the table rows and scores of the best items after a history.

        :param leaves: int32 [N], leaf rows of the whole history, oldest first.
        :raises ConfigError: on arguments of wrong type or value.
        """
        self.check_open()
        recent = self.sids(leaves[-self.max_history :])

        def search(
            trie: ItemTrie, exclude: Rows, beam: int, limit: int | None, bias: Bias | None, widen: bool
        ) -> Found:
            if bias is None:
                return self.engine.search(recent, trie, exclude, beam, limit, widen)
            return self.engine.search_from(self.engine.read(recent), trie, exclude, beam, bias, limit, widen)

        return self._retrieval.best(search, leaves, query)

    def after_state(self, state: State, leaves: Rows, query: Query) -> Found:
        """Return the table rows and scores of the best items after what the engine has read already.

        :param leaves: int32 [N], leaf rows of the whole history, oldest first.
        :raises ConfigError: on arguments of wrong type or value.
        """
        self.check_open()

        def search(
            trie: ItemTrie, exclude: Rows, beam: int, limit: int | None, bias: Bias | None, widen: bool
        ) -> Found:
            return self.engine.search_from(state, trie, exclude, beam, bias, limit, widen)

        return self._retrieval.best(search, leaves, query)

    def scored(self, leaves: Rows) -> Found:
        """Return the leaf rows that a search after a history finds, and the model's own log-probabilities of them.

        The history's items are left out, and the beam is as wide as in `recommend`; experts steer the search.

        :param leaves: int32 [N], leaf rows of the history, oldest first.
        """
        trie, recent, exclude = self.trie, self.sids(leaves[-self.max_history :]), np.unique(leaves)
        if self.experts is None:
            return self.engine.search(recent, trie, exclude, self._beam)
        bias = self.experts.bias(Control(trie), trie.table_rows_of(leaves), exclude_seen=True)
        found, scores = self.engine.search_from(self.engine.read(recent), trie, exclude, self._beam, bias)
        return found, scores - bias[found + trie.n_internal]

    def named(self, found: Found, unknown: tuple[str, ...] = ()) -> Recommendations:
        """Give table rows their ids and titles."""
        rows, scores = found
        table = self.trie.table
        items = zip(table.ids(rows), scores.tolist(), table.titles(rows), strict=True)
        return Recommendations(map(Recommendation._make, items), unknown)

    def find_leaves(self, history: Sequence[str]) -> tuple[Rows, tuple[str, ...]]:
        """Leaf rows of a history's known items, int32, and its unknown ids, each once.

        :raises ConfigError: if it is not a list of strings.
        """
        ids = history_ids(history)
        leaves = self.trie.find(ids)
        unknown: tuple[str, ...] = ()
        if min(leaves.tolist(), default=0) < 0:
            unknown = tuple(dict.fromkeys(ids[i] for i in np.flatnonzero(leaves < 0)))
            leaves = leaves[leaves >= 0]
        return leaves, unknown

    def leaf_of(self, item_id: str) -> int:
        """Leaf row of an item, -1 if the catalogue lacks it.

        :raises ConfigError: if it is not a string.
        """
        if self._fast_leaf_of and type(item_id) is str:
            return self._fast_leaf_of(item_id)
        leaves, _ = self.find_leaves([item_id])
        return int(leaves[0]) if len(leaves) else -1

    def leaves_of(self, table_rows: NDArray[Any]) -> Rows:
        """Leaf rows of a history given as table rows, int32; rows that the catalogue lacks are skipped.

        :raises ConfigError: if they are not integers in one dimension, or past the table's end.
        """
        rows = np.asarray(table_rows)
        if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
            raise ConfigError(f"table_rows is {rows.dtype} {list(rows.shape)}; give integers, one dimension")
        if rows.size and rows.max() >= len(self.trie.table):
            raise ConfigError(f"table_rows has row {rows.max()}, but the catalogue has {len(self.trie.table)} items")
        leaves = self.trie.leaves_of(rows)
        return leaves[leaves >= 0]

    def sids(self, leaves: Rows) -> NDArray[np.int32]:
        """Semantic IDs of leaf rows, int32 [N, L]."""
        return self.trie.rows[leaves].astype(np.int32)

    def check_open(self) -> None:
        """Make sure that `close` was not called.

        :raises ConfigError: if it was.
        """
        if self._closed:
            raise ConfigError("this recommender was closed; load it again")

    def close(self) -> None:
        """Close the engine; may be called twice, but not while a call is running."""
        if not self._closed:
            self._closed, self._fast, self._fast_leaf_of = True, None, None
            self.engine.close()
