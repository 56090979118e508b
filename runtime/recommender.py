"""The recommender: item ids in, item ids with scores out. The class that an app uses.

Promises: only items of the catalogue come back, best first, and k of them whenever the catalogue has k to give; unknown
items in a history are skipped and reported; calls from several threads at once are safe. On the path of the data:
bundle -> retriever -> here -> the app.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import Bundle, Manifest, open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.cold_items import ColdItems
from pocketrec.runtime.control import Control, prepare
from pocketrec.runtime.engines.protocol import Engine, Found
from pocketrec.runtime.engines.registry import engine_for, fastest_engine, load_engine
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.explain import Explanation, explain
from pocketrec.runtime.recommendation import Recommendations
from pocketrec.runtime.retrieval import Query, QueryOptions, Rows
from pocketrec.runtime.retriever import Retriever
from pocketrec.runtime.session import Session, restore

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Recommender:
    """A model and a catalogue, ready to recommend. It holds no state of any user.

    Attributes: `trie`, the catalogue; `manifest`, the bundle's; `engine`, which runs the model; `cold`, what cold items
    resemble, if the bundle has any; `retriever`, which joins them.
    """

    def __init__(
        self,
        engine: Engine,
        trie: ItemTrie,
        manifest: Manifest,
        cold: ColdItems | None = None,
        experts: Experts | None = None,
    ) -> None:
        """Join an engine and a catalogue; most callers want `load`.

        :param cold: what cold items resemble; None: they get the model's own scores.
        :param experts: the crowd and the words beside the model; None: the model alone.
        :raises BundleError: if the catalogue does not fit the model.
        """
        self.retriever = Retriever(engine, trie, manifest, cold, experts)
        self.engine, self.trie, self.manifest, self.cold = engine, trie, manifest, cold

    @classmethod
    def load(
        cls,
        path: str | Path,
        engine: str | None = None,
        threads: int = 1,
        providers: Sequence[str] = (),
        cold_items: bool = True,
        experts: bool = True,
    ) -> Recommender:
        """Open a bundle, check all of it, and load its model.

        :param path: the bundle's directory.
        :param engine: a name of `engines.registry.ENGINES` (see `load_engine`); None: "native" if it runs the bundle
            and is compiled in this installation, else the one that the bundle was exported for.
        :param threads: threads for one call; one is fastest for small models. More than one: ONNX Runtime.
        :param providers: ONNX Runtime's execution providers, the preferred first; none: the CPU.
        :param cold_items: score items that nobody has interacted with by the items that they resemble (see
            `pocketrec.runtime.cold_items`); False: they get the model's own scores, which are next to nothing.
        :param experts: join the model with the crowd and the words that the bundle has (see
            `pocketrec.runtime.experts.fusion`); False: the model alone.
        :raises BundleError: if the bundle is damaged or its parts do not fit.
        :raises ConfigError: on an unknown engine or provider.
        """
        bundle = open_bundle(path)
        trie = bundle.load_trie()
        loaded = load_engine(engine or _default_engine(bundle, threads, providers), bundle, threads, providers)
        cold = bundle.load_cold(len(trie)) if cold_items else None
        recommender = cls(loaded, trie, bundle.manifest, cold, bundle.load_experts(len(trie)) if experts else None)
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
        :param within: a sub-catalogue, made by `trie.filter` or `trie.filter_ids`, or a name given to `add_catalogue`.
        :param beam: prefixes the search keeps, never fewer than k; one wider than the catalogue changes nothing. None:
            the model's own number, and more where a better item may have been cut (`Engine.search`).
        :param control: made by `control`: allowed items, biases, least score, diversity.
        :raises ConfigError: on arguments of wrong type or value.
        """
        if control is None and within is None and type(history) is list:
            found = self.retriever.try_fast_path(history, None, None, k, beam, exclude_seen)
            if found is not None:
                return found
        leaves, unknown = self.retriever.find_leaves(history)
        query = Query(k, exclude_seen, within, beam, control)
        return self.retriever.named(self.retriever.after_history(leaves, query), unknown)

    async def recommend_async(
        self, history: Sequence[str], k: int = 10, **options: Unpack[QueryOptions]
    ) -> Recommendations:
        """As `recommend`, in a thread of the running loop's pool, so that the loop is not blocked.

        :param options: `exclude_seen`, `within`, `beam`, `control`, as for `recommend`.
        """
        import asyncio

        return await asyncio.to_thread(self.recommend, history, k, **options)

    def recommend_batch(
        self, histories: Iterable[Sequence[str]], k: int = 10, **options: Unpack[QueryOptions]
    ) -> list[Recommendations]:
        """Recommend for several histories; the same as `recommend` for each in turn.

        :param options: `exclude_seen`, `within`, `beam`, `control`, as for `recommend`.
        """
        if isinstance(histories, (str, bytes)):
            raise ConfigError(f"histories is {histories!r}; give a list of histories, each a list of item ids")
        return [self.recommend(history, k, **options) for history in histories]

    def recommend_rows(self, table_rows: Rows, k: int = 10, **options: Unpack[QueryOptions]) -> Found:
        """Recommend in rows instead of ids; otherwise as `recommend`.

        :param table_rows: int [N], the history as rows of `trie.table`, oldest first; negative ones are skipped.
        :param options: `exclude_seen`, `within`, `beam`, `control`, as for `recommend`.
        :return: table rows, int32, and log-probabilities, float32, best first.
        :raises ConfigError: on arguments of wrong type or value.
        """
        return self.retriever.after_history(self.retriever.leaves_of(table_rows), Query(k, **options))

    def session(self, history: Sequence[str] = ()) -> Session:
        """Begin a session: a history that grows, and whose items the model reads only once.

        :param history: item ids so far, oldest first.
        """
        return Session(self.retriever, history)

    def restore_session(self, source: bytes | str | Path) -> Session:
        """Continue a session that `Session.save` or `Session.to_bytes` wrote.

        Items that the catalogue has no more become its `unknown`.

        :param source: the bytes, or the path of the file.
        :raises SessionError: if it is missing, damaged, too large or of another version.
        """
        return restore(self.retriever, source)

    def add_catalogue(self, name: str, items: Iterable[str] | NDArray[np.bool_]) -> ItemTrie:
        """Make a sub-catalogue and give it a name that `within` takes; an older one of that name is replaced.

        :param items: ids (unknown ones are skipped), or bool [n] by leaf row.
        :return: the sub-catalogue.
        """
        return self.retriever.catalogues.add(name, items)

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
        """Prepare filters and biases once, for any number of calls.

        :param allow: ids of the only items that may come back; None: all of `within`.
        :param deny: ids of items that may not come back.
        :param within: a sub-catalogue, as for `recommend`.
        :param bias: numbers that are added to scores (log-probabilities), by item id; with `segments`, by segment.
        :param segments: the segment of each item id, where biases are by segment.
        :param min_score: items that score less do not come back.
        :param diversity: 0: by score alone; up to 1: each item as different as can be from those before it (maximal
            marginal relevance over the semantic IDs' prefixes).
        :raises ConfigError: on wrong types or values.
        """
        catalogue = self.retriever.catalogues.find(within)
        return prepare(self.trie, catalogue, allow, deny, bias, segments, min_score, diversity)

    def explain(self, history: Sequence[str], item_id: str, control: Control | None = None) -> Explanation:
        """Explain an item's score after a history: what the model, the crowd, the words and the history contribute.

        Costs a call for each item of the history, in numpy; the first one loads the numpy model. An item's score is the
        same in the whole catalogue and in each of its sub-catalogues.

        :param control: made by `control`, whose bias counts; None: without one.
        :raises ConfigError: if the catalogue lacks the item or the control does not allow it, or on a history of wrong
            type.
        """
        return explain(self.retriever, history, item_id, control)

    def close(self) -> None:
        """Free the engine; may be called twice, but not while a call is running."""
        self.retriever.close()

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
