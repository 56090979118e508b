"""The recommender: item ids in, item ids with scores out. What an app calls.

Promises: only items of the catalogue come back, best first, and k of them whenever the catalogue has k to
give; unknown items in a history are skipped and reported; calls from several threads at once are safe. On
the path of the data: bundle -> engine and trie -> here -> the app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import Bundle, Manifest, check_fit, open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.cold_items import RECENT, ColdItems, best_of_both
from pocketrec.runtime.control import POOL, Ask, Control, diverse, history_ids, prepare
from pocketrec.runtime.engines.protocol import Engine, State
from pocketrec.runtime.engines.registry import engine_for, fastest_engine, load_engine
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.recommendation import Recommendation, Recommendations

if TYPE_CHECKING:
    from pocketrec.runtime.explain import Explanation
    from pocketrec.runtime.session import Session

MANY_SEEN = 64  # so many, and each is named but once to the engine
MAX_SCORE = 1e9  # no log-probability of a sound model, bias included, comes near

Rows: TypeAlias = NDArray[np.int32]
Found: TypeAlias = tuple[Rows, NDArray[np.float32]]
Search: TypeAlias = Callable[[ItemTrie, Rows, int, "int | None", "NDArray[np.float32] | None"], Found]
"""(catalogue, excluded leaf rows, beam, how many are needed, bias of nodes) -> leaf rows and scores, best first."""


class Recommender:
    """A model and a catalogue, ready to recommend. It holds no state of any user.

    Attributes: `trie`, the catalogue; `manifest`, the bundle's; `engine`, what runs the model; `cold`, what its
    new items resemble, if the bundle says so.
    """

    def __init__(self, engine: Engine, trie: ItemTrie, manifest: Manifest, cold: ColdItems | None = None) -> None:
        """Join an engine and a catalogue; most callers want `load`.

        :param cold: what new items resemble; None: they score what the model alone gives them.
        :raises BundleError: if the catalogue does not fit the model.
        """
        check_fit(manifest.model, trie)
        self.engine = engine
        self.trie = trie
        self.manifest = manifest
        self.cold = cold
        self._named: dict[str, ItemTrie] = {}
        self._whole = Control(trie)
        fast = engine.fast_path(trie, Recommendation) if cold is None else None
        self._leaf: Callable[[str], int] | None = fast.leaf_of if fast else None
        self._plain: Callable[..., list[Recommendation] | None] | None = fast.recommend if fast else None
        self._closed = False

    @classmethod
    def load(
        cls,
        path: str | Path,
        engine: str | None = None,
        threads: int = 1,
        providers: Sequence[str] = (),
        cold_items: bool = True,
    ) -> Recommender:
        """Open a bundle, check all of it, and load its model.

        :param path: the bundle's directory.
        :param engine: a name of `engines.ENGINES` (see `engines.load_engine`); None: "native" if it runs the bundle and
            is compiled in this installation, else the one that the bundle was exported for.
        :param threads: threads for one call; one is fastest for small models. More than one: ONNX Runtime.
        :param providers: ONNX Runtime's execution providers, the preferred first; none: the processor.
        :param cold_items: let items that nobody has interacted with score what those like them pass on (see
            `pocketrec.runtime.cold_items`); False: they score what the model alone gives them, next to nothing.
        :raises BundleError: if the bundle is damaged or its parts do not fit.
        :raises ConfigError: on an unknown engine or provider.
        """
        bundle = open_bundle(path)
        trie = bundle.load_trie()
        runs = load_engine(engine or _default_engine(bundle, threads, providers), bundle, threads, providers)
        recommender = cls(runs, trie, bundle.manifest, bundle.load_cold(len(trie)) if cold_items else None)
        bundle.check_unchanged()
        return recommender

    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        exclude_seen: bool = True,
        within: ItemTrie | str | None = None,
        beam: int | None = None,
        control: Control | None = None,
    ) -> Recommendations:
        """Recommend the items most likely to come after a history.

        :param history: item ids, oldest first; none is fine; the model reads its last `max_history` of them.
        :param k: how many items; fewer come back only if the catalogue (less the excluded) has fewer.
        :param exclude_seen: leave out every item of the whole history.
        :param within: a sub-catalogue: what `trie.filter` or `trie.filter_ids` made, or a name of `add_catalogue`.
        :param beam: prefixes the search keeps; None: the model's own. Never fewer than k.
        :param control: what `control` prepared: allowed items, biases, least score, diversity.
        :raises ConfigError: on arguments of wrong type or value.
        """
        if self._plain and control is None and within is None and type(history) is list and type(k) is int:
            width = self.manifest.model.beam if beam is None else _positive("beam", beam)
            found = self._plain(history, None, None, None, k, width, exclude_seen)
            if found is not None:
                return Recommendations(found)
        leaves, unknown = self.find_leaves(history)
        return self._named_items(self._search(leaves, Ask(k, exclude_seen, within, beam, control)), unknown)

    async def recommend_async(
        self,
        history: Sequence[str],
        k: int = 10,
        exclude_seen: bool = True,
        within: ItemTrie | str | None = None,
        beam: int | None = None,
        control: Control | None = None,
    ) -> Recommendations:
        """As `recommend`, in a thread of the running loop's pool, so that the loop goes on meanwhile."""
        import asyncio

        return await asyncio.to_thread(self.recommend, history, k, exclude_seen, within, beam, control)

    def recommend_batch(
        self,
        histories: Iterable[Sequence[str]],
        k: int = 10,
        exclude_seen: bool = True,
        within: ItemTrie | str | None = None,
        beam: int | None = None,
        control: Control | None = None,
    ) -> list[Recommendations]:
        """Recommend for several histories; the same as `recommend` for each in turn."""
        if isinstance(histories, (str, bytes)):
            raise ConfigError(f"histories is {histories!r}; give a list of histories, each a list of item ids")
        return [self.recommend(history, k, exclude_seen, within, beam, control) for history in histories]

    def recommend_rows(
        self,
        table_rows: Rows,
        k: int = 10,
        exclude_seen: bool = True,
        within: ItemTrie | str | None = None,
        beam: int | None = None,
        control: Control | None = None,
    ) -> Found:
        """Recommend without a string in sight; otherwise as `recommend`.

        :param table_rows: int [N], the history as rows of `trie.table`, oldest first; negative: skipped.
        :return: table rows, int32, and log-probabilities, float32, best first.
        :raises ConfigError: on arguments of wrong type or value.
        """
        return self._search(self._leaves(table_rows), Ask(k, exclude_seen, within, beam, control))

    def recommend_state(self, state: State, seen: Rows, ask: Ask) -> Recommendations:
        """Recommend from what the engine has read already (sessions do); otherwise as `recommend`.

        :param seen: int32 [N], leaf rows of the whole history.
        """
        if self._plain and ask.control is None and ask.within is None and type(ask.k) is int:
            beam = self.manifest.model.beam if ask.beam is None else _positive("beam", ask.beam)
            found = self._plain(None, state.hidden, state.memory, seen, ask.k, beam, ask.exclude_seen)
            if found is not None:
                return Recommendations(found)

        def search(
            trie: ItemTrie, exclude: Rows, width: int, most: int | None, bias: NDArray[np.float32] | None
        ) -> Found:
            return self.engine.search_from(state, trie, exclude, width, bias, most)

        return self._named_items(self._choose(search, seen, ask), ())

    def session(self, history: Sequence[str] = ()) -> Session:
        """Begin a session: a history that grows, and what the model has read of it is kept.

        :param history: item ids so far, oldest first.
        """
        from pocketrec.runtime.session import Session

        return Session(self, history)

    def restore_session(self, source: bytes | str | Path) -> Session:
        """Go on with a session that `Session.save` or `Session.to_bytes` left; items that are gone are its `unknown`.

        :param source: the bytes, or the path of the file.
        :raises SessionError: if it is missing, damaged, too large or of another version.
        """
        from pocketrec.runtime.session import restore

        return restore(self, source)

    def add_catalogue(self, name: str, items: Iterable[str] | NDArray[np.bool_]) -> ItemTrie:
        """Prepare a sub-catalogue and give it a name that `within` takes; an older one of that name is replaced.

        :param items: ids (those that the catalogue lacks are passed over), or bool [n] by leaf row.
        :return: the sub-catalogue.
        """
        part = self.trie.filter(items) if isinstance(items, np.ndarray) else self.trie.filter_ids(list(items))
        self._named = {**self._named, name: part}  # one assignment: calls in flight see the old or the new
        return part

    def control(
        self,
        *,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] = (),
        within: ItemTrie | str | None = None,
        bias: Mapping[str, float] | None = None,
        segments: Mapping[str, str] | None = None,
        min_score: float | None = None,
        diversity: float = 0.0,
    ) -> Control:
        """Prepare wishes once, for any number of calls.

        :param allow: ids of the only items that may come back; None: all of `within`.
        :param deny: ids of items that may not.
        :param within: a sub-catalogue, as for `recommend`.
        :param bias: what is added to scores (log-probabilities), by item id; with `segments`, by segment.
        :param segments: the segment of each item id, where biases are by segment.
        :param min_score: items that score less do not come back.
        :param diversity: 0: by score alone; up to 1: ever more different from those before (maximal marginal
            relevance over the semantic IDs' prefixes).
        :raises ConfigError: on wrong types or values.
        """
        catalogue = self._catalogue(within)
        return prepare(self.trie, catalogue, allow, deny, bias, segments, min_score, diversity)

    def explain(self, history: Sequence[str], item_id: str) -> Explanation:
        """Say why an item scores what it scores after a history: its codes' shares, and its history's.

        Costs a call for each item of the history, in numpy.

        :raises ConfigError: if the catalogue lacks the item, or on a history of wrong type.
        """
        from pocketrec.runtime.explain import explain

        self.check_open()
        leaves, _ = self.find_leaves(history)
        leaf, unknown = self.find_leaves([item_id])
        if unknown:
            raise ConfigError(f"the catalogue has no item {item_id!r}; give one of its ids")
        recent = leaves[-self.manifest.model.max_history :]
        names = self.trie.table.ids(self.trie.table_rows_of(recent))
        sids = self.trie.rows[recent].astype(np.int32)
        found = explain(self.engine, item_id, self.trie.rows[leaf[0]], names, sids)
        return found if self.cold is None else replace(found, resembles=self._resembles(leaves, sids, leaf))

    def find_leaves(self, history: Sequence[str]) -> tuple[Rows, tuple[str, ...]]:
        """Leaf rows of a history's known items, int32, and its unknown ids, each once.

        :raises ConfigError: if it is no list of strings.
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

        :raises ConfigError: if it is no string.
        """
        if self._leaf and type(item_id) is str:
            return self._leaf(item_id)
        leaves, _ = self.find_leaves([item_id])
        return int(leaves[0]) if len(leaves) else -1

    def _named_items(self, found: Found, unknown: tuple[str, ...]) -> Recommendations:
        rows, scores = found
        table = self.trie.table
        named = zip(table.ids(rows), scores.tolist(), table.titles(rows), strict=True)
        return Recommendations(map(Recommendation._make, named), unknown)

    def _search(self, history: Rows, ask: Ask) -> Found:
        """Recommend for a history of leaf rows; otherwise as `recommend_rows`."""
        recent = self.trie.rows[history[-self.manifest.model.max_history :]].astype(np.int32)

        def search(
            trie: ItemTrie, exclude: Rows, width: int, most: int | None, bias: NDArray[np.float32] | None
        ) -> Found:
            if bias is None:
                return self.engine.search(recent, trie, exclude, width, most)
            return self.engine.search_from(self.engine.read(recent), trie, exclude, width, bias, most)

        return self._choose(search, history, ask)

    def _choose(self, search: Search, seen: Rows, ask: Ask) -> Found:
        """Search the catalogue that is asked for, and choose k of what is found: table rows and scores."""
        self.check_open()
        k = _positive("k", ask.k)
        width = self.manifest.model.beam if ask.beam is None else _positive("beam", ask.beam)
        wish = self._wish(ask.within, ask.control)
        catalogue = wish.catalogue
        exclude = seen if ask.exclude_seen else seen[:0]
        if catalogue is not self.trie:
            exclude = catalogue.leaves_of(self.trie.table_rows_of(exclude))
            exclude = exclude[exclude >= 0]
        wanted = k if wish.diversity == 0 else POOL * k
        if wanted + len(exclude) > len(catalogue) or len(exclude) > MANY_SEEN:
            exclude = np.unique(exclude)
            wanted = min(wanted, len(catalogue) - len(exclude))
        if wanted == 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        most = wanted if self.cold is None else None  # new items resemble all that the model finds likely
        leaves, scores = search(catalogue, exclude, max(width, wanted), most, wish.bias)
        # Seen items can crowd a narrow beam. One as wide as the wanted and the excluded together has enough
        # left, since every prefix it keeps leads to a leaf of its own.
        if len(leaves) < wanted and max(width, wanted) < wanted + len(exclude):
            leaves, scores = search(catalogue, exclude, wanted + len(exclude), most, wish.bias)
        if self.cold is not None:
            leaves, scores = self._with_cold(catalogue, seen, exclude, leaves, scores, wish.bias)
        values = scores.tolist()
        if values and not (max(wish.min_score, -MAX_SCORE) <= min(values) <= max(values) <= MAX_SCORE):
            sound = (scores >= wish.min_score) & (np.abs(scores) <= MAX_SCORE)
            leaves, scores = leaves[sound], scores[sound]
        if wish.diversity:
            chosen = diverse(scores, catalogue.rows[leaves], k, wish.diversity)
            leaves, scores = leaves[chosen], scores[chosen]
        return catalogue.table_rows_of(leaves[:k]), scores[:k]

    def _with_cold(
        self,
        catalogue: ItemTrie,
        seen: Rows,
        exclude: Rows,
        leaves: Rows,
        scores: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
    ) -> Found:
        """Let new items take the places that those like them give them, in the order of scores."""
        assert self.cold is not None
        own = None if bias is None else bias[catalogue.n_internal :]
        likely = scores if own is None else scores - own[leaves]
        rows, gained = self.cold.scored(self._last_rows(seen), catalogue.table_rows_of(leaves), likely)
        if len(rows) == 0:
            return leaves, scores
        new, out = catalogue.leaves_of(rows), set(exclude.tolist())
        allowed = [place for place, leaf in enumerate(new.tolist()) if leaf >= 0 and leaf not in out]
        new, gained = new[allowed], gained[allowed]
        return best_of_both(leaves, scores, new, gained if own is None else gained + own[new])

    def _last_rows(self, seen: Rows) -> Rows:
        """Table rows of the last items of a history that pass something on, the newest first."""
        return self.trie.table_rows_of(seen[: -RECENT - 1 : -1])

    def _resembles(self, seen: Rows, sids: NDArray[np.int32], leaf: Rows) -> tuple[tuple[str, float], ...]:
        """What a new item's likes pass on to it after a history, the most first; as `recommend` by default."""
        assert self.cold is not None
        item = int(self.trie.table_rows_of(leaf)[0])
        if item not in self.cold.new:
            return ()
        leaves, scores = self.engine.search(sids, self.trie, np.unique(seen), self.manifest.model.beam)
        likes = self.cold.passed_to(item, self._last_rows(seen), self.trie.table_rows_of(leaves), scores)
        names = self.trie.table.ids(np.array([known for known, _ in likes], np.int32))
        return tuple((name, probability) for name, (_, probability) in zip(names, likes, strict=True))

    def _wish(self, within: ItemTrie | str | None, control: Control | None) -> Control:
        if control is None:
            return self._whole if within is None else Control(self._catalogue(within))
        if within is not None:
            raise ConfigError("`within` and `control` are both given; give `within` to recommender.control")
        if not isinstance(control, Control) or control.catalogue.table is not self.trie.table:
            raise ConfigError("`control` is not of this catalogue; make it with recommender.control")
        return control

    def _catalogue(self, within: ItemTrie | str | None) -> ItemTrie:
        if within is None:
            return self.trie
        if isinstance(within, str):
            if within not in self._named:
                known = ", ".join(sorted(self._named)) or "none yet"
                raise ConfigError(f"there is no catalogue {within!r} (there are: {known}); make it with add_catalogue")
            return self._named[within]
        if not isinstance(within, ItemTrie) or within.table is not self.trie.table:
            raise ConfigError("`within` is not a part of this catalogue; make it with trie.filter or trie.filter_ids")
        return within

    def _leaves(self, table_rows: Rows) -> Rows:
        """Return the leaf rows of a history's known items; int32."""
        rows = np.asarray(table_rows)
        if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
            raise ConfigError(f"table_rows is {rows.dtype} {list(rows.shape)}; give integers, one dimension")
        if rows.size and rows.max() >= len(self.trie.table):
            raise ConfigError(f"table_rows has row {rows.max()}, but the catalogue has {len(self.trie.table)} items")
        leaves = self.trie.leaves_of(rows)
        return leaves[leaves >= 0]

    def check_open(self) -> None:
        """Make sure that the recommender was not closed.

        :raises ConfigError: if it was.
        """
        if self._closed:
            raise ConfigError("this recommender was closed; load it again")

    def close(self) -> None:
        """Let go of the engine; may be called twice, but not while a call is running."""
        if not self._closed:
            self._closed, self._leaf, self._plain = True, None, None
            self.engine.close()

    def __enter__(self) -> Recommender:
        """Return the recommender itself; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the recommender."""
        self.close()


def _default_engine(bundle: Bundle, threads: int, providers: Sequence[str]) -> str:
    return engine_for(bundle) if threads > 1 or providers else fastest_engine(bundle)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ConfigError(f"{name} is {value!r}; give a whole number")
    if value < 1:
        raise ConfigError(f"{name} is {value}; it must be at least 1")
    return int(value)
