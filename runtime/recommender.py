"""The recommender: item ids in, item ids with scores out. What an app calls.

Promises: only items of the catalogue come back, best first, and k of them whenever the catalogue has k to
give; unknown items in a history are skipped and reported; calls from several threads at once are safe. On
the path of the data: bundle -> engine and trie -> here -> the app.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle import Manifest, check_fit, open_bundle
from pocketrec.runtime.engines import Engine, engine_for, load_engine
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.trie import ItemTrie


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended item; `score` is its log-probability given the history."""

    item_id: str
    score: float
    title: str | None = None


class Recommendations(list[Recommendation]):
    """Recommended items, best first. `unknown` names the ids of the history that the catalogue lacks."""

    def __init__(self, items: Iterable[Recommendation] = (), unknown: tuple[str, ...] = ()) -> None:
        """Hold `items`; `unknown` is in the history's order, each id once."""
        super().__init__(items)
        self.unknown = unknown


class Recommender:
    """A model and a catalogue, ready to recommend. It holds no state of any user.

    Attributes: `trie`, the catalogue; `manifest`, the bundle's; `engine`, what runs the model.
    """

    def __init__(self, engine: Engine, trie: ItemTrie, manifest: Manifest) -> None:
        """Join an engine and a catalogue; most callers want `load`.

        :raises BundleError: if the catalogue does not fit the model.
        """
        check_fit(manifest.model, trie)
        self.engine = engine
        self.trie = trie
        self.manifest = manifest
        self._closed = False

    @classmethod
    def load(cls, path: str | Path, engine: str | None = None, threads: int = 1) -> Recommender:
        """Open a bundle, check all of it, and load its model.

        :param path: the bundle's directory.
        :param engine: "onnx", "onnx-split", "gguf" or "reference"; None: the one that the bundle was exported for.
        :param threads: threads for one call; one is fastest for small models.
        :raises BundleError: if the bundle is damaged or its parts do not fit.
        :raises ConfigError: on an unknown engine.
        """
        bundle = open_bundle(path)
        trie = bundle.load_trie()
        return cls(load_engine(engine or engine_for(bundle), bundle, threads), trie, bundle.manifest)

    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        exclude_seen: bool = True,
        within: ItemTrie | None = None,
        beam: int | None = None,
    ) -> Recommendations:
        """Recommend the items most likely to come after a history.

        :param history: item ids, oldest first; none is fine; the model reads its last `max_history` of them.
        :param k: how many items; fewer come back only if the catalogue (less the excluded) has fewer.
        :param exclude_seen: leave out every item of the whole history.
        :param within: a sub-catalogue made from `trie.filter` or `trie.filter_ids`; None: all items.
        :param beam: prefixes the search keeps; None: the model's own. Never fewer than k.
        :raises ConfigError: on arguments of wrong type or value.
        """
        ids = _checked_history(history)
        table = self.trie.table
        leaves = self.trie.leaves_of(table.find(ids))
        unknown: tuple[str, ...] = ()
        if leaves.min(initial=0) < 0:
            unknown = tuple(dict.fromkeys(ids[i] for i in np.flatnonzero(leaves < 0)))
            leaves = leaves[leaves >= 0]
        found, scores = self._search(leaves, k, exclude_seen, within, beam)
        items = map(Recommendation, table.ids(found), scores.tolist(), table.titles(found))
        return Recommendations(items, unknown)

    def recommend_batch(
        self,
        histories: Iterable[Sequence[str]],
        k: int = 10,
        exclude_seen: bool = True,
        within: ItemTrie | None = None,
        beam: int | None = None,
    ) -> list[Recommendations]:
        """Recommend for several histories; the same as `recommend` for each in turn."""
        if isinstance(histories, (str, bytes)):
            raise ConfigError(f"histories is {histories!r}; give a list of histories, each a list of item ids")
        return [self.recommend(history, k, exclude_seen, within, beam) for history in histories]

    def recommend_rows(
        self,
        table_rows: NDArray[np.int32],
        k: int = 10,
        exclude_seen: bool = True,
        within: ItemTrie | None = None,
        beam: int | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Recommend without a string in sight; otherwise as `recommend`.

        :param table_rows: int [N], the history as rows of `trie.table`, oldest first; negative: skipped.
        :return: table rows, int32, and log-probabilities, float32, best first.
        :raises ConfigError: on arguments of wrong type or value.
        """
        return self._search(self._leaves(table_rows), k, exclude_seen, within, beam)

    def _search(
        self, history: NDArray[np.int32], k: int, exclude_seen: bool, within: ItemTrie | None, beam: int | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Recommend for a history of leaf rows; otherwise as `recommend_rows`."""
        if self._closed:
            raise ConfigError("this recommender was closed; load it again")
        k = _positive("k", k)
        width = self.manifest.model.beam if beam is None else _positive("beam", beam)
        catalogue = self._catalogue(within)
        exclude = np.array(sorted(set(history.tolist())) if exclude_seen else [], np.int32)
        if catalogue is not self.trie:
            exclude = catalogue.leaves_of(self.trie.table_rows[exclude])
            exclude = exclude[exclude >= 0]
        wanted = min(k, len(catalogue) - len(exclude))
        if wanted == 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        recent = self.trie.rows[history[-self.manifest.model.max_history :]].astype(np.int32)
        leaves, scores = self.engine.search(recent, catalogue, exclude, max(width, wanted))
        # Seen items can crowd a narrow beam. One as wide as the wanted and the excluded together has enough
        # left, since every prefix it keeps leads to a leaf of its own.
        if len(leaves) < wanted and max(width, wanted) < wanted + len(exclude):
            leaves, scores = self.engine.search(recent, catalogue, exclude, wanted + len(exclude))
        return catalogue.table_rows[leaves[:k]], scores[:k]

    def _catalogue(self, within: ItemTrie | None) -> ItemTrie:
        if within is None:
            return self.trie
        if not isinstance(within, ItemTrie) or within.table is not self.trie.table:
            raise ConfigError("`within` is not a part of this catalogue; make it with trie.filter or trie.filter_ids")
        return within

    def _leaves(self, table_rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the leaf rows of a history's known items; int32."""
        rows = np.asarray(table_rows)
        if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
            raise ConfigError(f"table_rows is {rows.dtype} {list(rows.shape)}; give integers, one dimension")
        if rows.size and rows.max() >= len(self.trie.table):
            raise ConfigError(f"table_rows has row {rows.max()}, but the catalogue has {len(self.trie.table)} items")
        leaves = self.trie.leaves_of(rows)
        return leaves[leaves >= 0]

    def close(self) -> None:
        """Let go of the engine; may be called twice, but not while a call is running."""
        if not self._closed:
            self._closed = True
            self.engine.close()

    def __enter__(self) -> Recommender:
        """Return the recommender itself; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the recommender."""
        self.close()


def _checked_history(history: Any) -> list[str]:
    if isinstance(history, (str, bytes, Set, Mapping)) or not isinstance(history, Iterable):
        raise ConfigError(f"the history is {history!r:.60}; give a list of item ids, oldest first")
    ids = list(history)
    for place, item_id in enumerate(ids):
        if not isinstance(item_id, str):
            raise ConfigError(f"the history has {item_id!r:.60} at position {place}; item ids are strings")
    return ids


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ConfigError(f"{name} is {value!r}; give a whole number")
    if value < 1:
        raise ConfigError(f"{name} is {value}; it must be at least 1")
    return int(value)
