"""A recommender that follows a store: the methods of `Recommender`, always on the version that is current.

How calls and swaps may overlap: `versions`. What becomes of sessions: `live_session`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, cast

from pocketrec.runtime.control import history_ids
from pocketrec.runtime.explain import Explanation
from pocketrec.runtime.recommendation import Recommendations
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.retrieval import QueryOptions
from pocketrec.runtime.session import Session, model_id, read_saved
from pocketrec.runtime.sync.live_session import LiveSession
from pocketrec.runtime.sync.versions import LiveControl, Open, OpenVersions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class LiveOptions(TypedDict, total=False):
    """As `QueryOptions` of a recommender, with names and controls that hold for every version."""

    exclude_seen: bool
    within: str | None
    beam: int | None
    control: LiveControl | None


class LiveRecommender:
    """Recommends from the version that is current. Calls from several threads at once are safe.

    It has the methods of `Recommender` that take item ids; for those that take rows of one catalogue, see `using`.
    """

    def __init__(self, name: str, recommender: Recommender, open_version: Open) -> None:
        """Begin with an open version; apps call `SyncClient.recommender`.

        :param name: the version's name in the store.
        :param open_version: opens the folder of a later version.
        """
        self._versions = OpenVersions(name, recommender, open_version)

    @property
    def version(self) -> str:
        """Name of the current version."""
        return self._versions.name

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._versions.closed

    @contextmanager
    def using(self) -> Iterator[Recommender]:
        """Give the current version's recommender, which stays open inside the block.

        :raises ConfigError: if this recommender was closed.
        """
        with self._versions.pinned() as version:
            yield version.recommender

    def swap(self, name: str, path: Path) -> None:
        """Make another version current. It is opened first; meanwhile calls use the one before.

        :param path: the version's folder.
        :raises BundleError: if it cannot be opened; the version before then stays current.
        """
        self._versions.swap(name, path)

    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        exclude_seen: bool = True,
        within: str | None = None,
        beam: int | None = None,
        control: LiveControl | None = None,
    ) -> Recommendations:
        """Recommend the items most likely to come after a history (see `Recommender.recommend`)."""
        with self._versions.pinned() as version:
            return version.recommender.recommend(history, k, exclude_seen, within, beam, version.prepared(control))

    async def recommend_async(
        self, history: Sequence[str], k: int = 10, **options: Unpack[LiveOptions]
    ) -> Recommendations:
        """As `recommend`, in a thread of the running loop's pool, so that the loop is not blocked."""
        import asyncio

        return await asyncio.to_thread(self.recommend, history, k, **options)

    def recommend_batch(
        self, histories: Iterable[Sequence[str]], k: int = 10, **options: Unpack[LiveOptions]
    ) -> list[Recommendations]:
        """Recommend for several histories, all on one version (see `Recommender.recommend_batch`)."""
        with self._versions.pinned() as version:
            query = cast(QueryOptions, {**options, "control": version.prepared(options.get("control"))})
            return version.recommender.recommend_batch(histories, k, **query)

    def explain(self, history: Sequence[str], item_id: str, control: LiveControl | None = None) -> Explanation:
        """Explain an item's score after a history (see `Recommender.explain`)."""
        with self._versions.pinned() as version:
            return version.recommender.explain(history, item_id, version.prepared(control))

    def add_catalogue(self, name: str, items: Iterable[str]) -> None:
        """Name a sub-catalogue that `within` takes; it is made again for every version.

        :param items: item ids; a version skips those that it lacks.
        :raises ConfigError: if they are not item ids.
        """
        self._versions.add_catalogue(name, items)

    def control(self, **arguments: Any) -> LiveControl:
        """Prepare a control for `recommend`; it is prepared again for every version.

        :param arguments: those of `Recommender.control`; `within` must be a name.
        :raises ConfigError: on wrong types or values.
        """
        made = LiveControl(arguments)
        with self._versions.pinned() as version:
            version.prepared(made)
        return made

    def session(self, history: Sequence[str] = ()) -> LiveSession:
        """Begin a session that goes on over swaps (see `Recommender.session`)."""
        ids = list(history_ids(history))
        with self.using() as recommender:
            return LiveSession(self._versions, recommender.session(ids), ids)

    def restore_session(self, source: bytes | str | Path) -> LiveSession:
        """Continue a saved session (see `Recommender.restore_session`)."""
        ids, model = read_saved(source)
        with self.using() as recommender:
            renewed = model != model_id(recommender.manifest)
            return LiveSession(self._versions, Session(recommender.retriever, ids, renewed), ids)

    def close(self) -> None:
        """Close the current version as soon as no call uses it. May be called twice, and during calls and swaps."""
        self._versions.close()

    def __enter__(self) -> LiveRecommender:
        """Return the recommender itself; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the recommender."""
        self.close()
