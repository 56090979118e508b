"""A recommender that follows a store: the methods of `Recommender`, always on the version that is current.

Promises, however calls, swaps and closes overlap:

- A call uses one version from beginning to end. A version is closed once it was replaced and its last call has ended.
- Every version that is opened is closed exactly once; after `close` no version becomes current.
- Swaps take effect in the order in which they were called. Calls never wait for a version that is being opened.
- Named sub-catalogues and controls hold for every later version.
- Sessions go on over a swap. Under the same model, what the model has read is kept as long as every item still has its
  semantic ID; under another model the history is read again.

Three locks: `_lock` guards the fields and is held for a few instructions only. `_swapping` keeps swaps in order and
`_naming` keeps calls of `add_catalogue` in order; either may be held while `_lock` is taken, never the other way round.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pocketrec.runtime.control import Control, history_ids, id_list
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.recommendation import Recommendations
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.session import Session, model_id, read_saved

if TYPE_CHECKING:
    from pocketrec.runtime.explain import Explanation

Open = Callable[[Path], Recommender]


class LiveControl:
    """The arguments of `Recommender.control`, prepared again for every version of the catalogue."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Copy the arguments, so that iterators and later changes of the caller's lists do no harm.

        :raises ConfigError: if `allow` or `deny` are not item ids, or `within` is not a name.
        """
        self.options = dict(options)
        for name in ("allow", "deny"):
            if self.options.get(name) is not None:
                self.options[name] = list(id_list(name, self.options[name]))
        for name in ("bias", "segments"):
            if isinstance(self.options.get(name), Mapping):
                self.options[name] = dict(self.options[name])
        if not isinstance(self.options.get("within"), (str, type(None))):
            raise ConfigError("`within` is a sub-catalogue of one version; use add_catalogue, and give the name")


class OpenVersion:
    """A version that is open: its recommender, the calls that use it, and the controls prepared for it.

    Attributes: `calls`, how many calls use it now; `retired`, whether it is to be closed when they have ended. Both are
    guarded by the lock of the live recommender.
    """

    def __init__(self, name: str, recommender: Recommender) -> None:
        self.name, self.recommender = name, recommender
        self.calls, self.retired = 0, False
        self._controls: WeakKeyDictionary[LiveControl, Control] = WeakKeyDictionary()
        self._lock = threading.Lock()  # guards `_controls`

    def prepared(self, control: LiveControl | None) -> Control | None:
        """Return a control prepared for this version; it is prepared once, as long as the caller keeps it.

        :raises ConfigError: if it was not made by `LiveRecommender.control`.
        """
        if control is None:
            return None
        if not isinstance(control, LiveControl):
            raise ConfigError("`control` must be what this recommender's `control` returned")
        with self._lock:
            made = self._controls.get(control)
        if made is None:
            made = self.recommender.control(**control.options)
            with self._lock:
                made = self._controls.setdefault(control, made)
        return made


class LiveRecommender:
    """Recommends from the version that is current. Calls from several threads at once are safe.

    It has the methods of `Recommender` that take item ids; for those that take rows of one catalogue, see `using`.
    """

    def __init__(self, name: str, recommender: Recommender, open_version: Open) -> None:
        """Begin with an open version; apps call `SyncClient.recommender`.

        :param name: the version's name in the store.
        :param open_version: opens the folder of a later version.
        """
        self._version = OpenVersion(name, recommender)
        self._open = open_version
        self._catalogues: dict[str, list[str]] = {}  # name -> item ids; replaced, never changed
        self._closed = False
        self._lock, self._swapping, self._naming = threading.Lock(), threading.Lock(), threading.Lock()

    @property
    def version(self) -> str:
        """Name of the current version."""
        return self._version.name

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @contextmanager
    def using(self) -> Iterator[Recommender]:
        """Give the current version's recommender, which stays open inside the block.

        :raises ConfigError: if this recommender was closed.
        """
        with self.pinned() as version:
            yield version.recommender

    @contextmanager
    def pinned(self) -> Iterator[OpenVersion]:
        """Give the current version, which stays open inside the block.

        :raises ConfigError: if this recommender was closed.
        """
        with self._lock:
            if self._closed:
                raise ConfigError("this recommender was closed; call recommender() of an open sync client")
            version = self._version
            version.calls += 1
        try:
            yield version
        finally:
            with self._lock:
                version.calls -= 1
                idle = version.retired and version.calls == 0
            if idle:
                version.recommender.close()

    def swap(self, name: str, path: Path) -> None:
        """Make another version current. It is opened first; meanwhile calls use the one before.

        :param path: the version's folder.
        :raises BundleError: if it cannot be opened; the version before then stays current.
        """
        with self._swapping:
            if name == self._version.name or self._closed:
                return
            fresh, catalogues = OpenVersion(name, self._open(path)), dict[str, list[str]]()
            while not self._replace(fresh, catalogues):
                catalogues = self._catalogues
                try:
                    for catalogue, ids in catalogues.items():
                        fresh.recommender.add_catalogue(catalogue, ids)
                except BaseException:
                    fresh.recommender.close()
                    raise

    def _replace(self, fresh: OpenVersion, catalogues: Mapping[str, list[str]]) -> bool:
        """Make a version current that has these sub-catalogues; False if others were named meanwhile.

        If this recommender was closed meanwhile, the version is closed at once.
        """
        with self._lock:
            if self._closed:
                replaced = fresh
            elif catalogues != self._catalogues:
                return False
            else:
                replaced, self._version = self._version, fresh
            idle = self._retire(replaced)
        if idle:
            replaced.recommender.close()
        return True

    @staticmethod
    def _retire(version: OpenVersion) -> bool:
        """Have a version closed by its last call; True if there is none, so that the caller must close it."""
        version.retired = True
        return version.calls == 0

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
        with self.pinned() as version:
            return version.recommender.recommend(history, k, exclude_seen, within, beam, version.prepared(control))

    async def recommend_async(self, history: Sequence[str], *arguments: Any, **named: Any) -> Recommendations:
        """As `recommend`, in a thread of the running loop's pool; the arguments are the same."""
        import asyncio

        return await asyncio.to_thread(self.recommend, history, *arguments, **named)

    def recommend_batch(
        self,
        histories: Iterable[Sequence[str]],
        k: int = 10,
        exclude_seen: bool = True,
        within: str | None = None,
        beam: int | None = None,
        control: LiveControl | None = None,
    ) -> list[Recommendations]:
        """Recommend for several histories, all on one version (see `Recommender.recommend_batch`)."""
        with self.pinned() as version:
            prepared = version.prepared(control)
            return version.recommender.recommend_batch(histories, k, exclude_seen, within, beam, prepared)

    def explain(self, history: Sequence[str], item_id: str) -> Explanation:
        """Say why an item scores what it scores after a history (see `Recommender.explain`)."""
        with self.using() as recommender:
            return recommender.explain(history, item_id)

    def add_catalogue(self, name: str, items: Iterable[str]) -> None:
        """Name a sub-catalogue that `within` takes; it is prepared again for every version.

        :param items: item ids; a version passes over those that it lacks.
        :raises ConfigError: if they are not strings.
        """
        ids = list(id_list("items", items))
        with self._naming:
            while True:
                with self.using() as recommender:
                    recommender.add_catalogue(name, ids)
                    with self._lock:
                        self._catalogues = {**self._catalogues, name: ids}
                        if self._version.recommender is recommender:
                            return  # later versions take it from `_catalogues`

    def control(self, **options: Any) -> LiveControl:
        """Prepare a control for `recommend`, with the arguments of `Recommender.control`; later versions keep to it.

        :raises ConfigError: on wrong types or values.
        """
        made = LiveControl(options)
        with self.pinned() as version:
            version.prepared(made)
        return made

    def session(self, history: Sequence[str] = ()) -> LiveSession:
        """Begin a session that goes on over swaps (see `Recommender.session`)."""
        with self.using() as recommender:
            ids = list(history_ids(history))
            return LiveSession(self, recommender.session(ids), ids)

    def restore_session(self, source: bytes | str | Path) -> LiveSession:
        """Go on with a saved session (see `Recommender.restore_session`)."""
        ids, model = read_saved(source)
        with self.using() as recommender:
            renewed = model != model_id(recommender.manifest)
            return LiveSession(self, Session(recommender.retriever, ids, renewed), ids)

    def close(self) -> None:
        """Close the current version as soon as no call uses it. May be called twice, and during calls and swaps."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            last = self._version
            idle = self._retire(last)
        if idle:
            last.recommender.close()

    def __enter__(self) -> LiveRecommender:
        """Return the recommender itself; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the recommender."""
        self.close()


class LiveSession:
    """One user's history that grows, on whatever version is current. Calls from several threads take turns.

    Attributes: `renewed`, whether the history was read again under another model, since a swap or since it was saved.
    """

    def __init__(self, live: LiveRecommender, inner: Session, observed: list[str]) -> None:
        """Begin; apps call `LiveRecommender.session`.

        :param inner: the session on the version that is current.
        :param observed: ids of all items so far, known or not, oldest first.
        """
        self._live, self._inner, self._observed = live, inner, observed
        self._lock = threading.Lock()
        self.renewed = inner.renewed

    def observe(self, item_id: str) -> bool:
        """Add an item to the history; return whether the current catalogue has it."""
        with self._lock, self._live.using() as recommender:
            known = self._on(recommender).observe(item_id)
            self._observed.append(item_id)
            return known

    def recommend(
        self,
        k: int = 10,
        exclude_seen: bool = True,
        within: str | None = None,
        beam: int | None = None,
        control: LiveControl | None = None,
    ) -> Recommendations:
        """Recommend the items most likely to come next (see `Session.recommend`)."""
        with self._lock, self._live.pinned() as version:
            session = self._on(version.recommender)
            return session.recommend(k, exclude_seen, within, beam, version.prepared(control))

    def _on(self, recommender: Recommender) -> Session:
        """Return the session on a version; after a swap, it is moved there first."""
        retriever = recommender.retriever
        if self._inner.retriever is not retriever:
            same = model_id(self._inner.retriever.manifest) == model_id(retriever.manifest)
            fresh = Session(retriever, self._observed, renewed=not same)
            if same:
                fresh.take_state(self._inner)
            self._inner, self.renewed = fresh, self.renewed or not same
        return self._inner

    @property
    def history(self) -> tuple[str, ...]:
        """Ids of the items so far that the current catalogue has, oldest first."""
        with self._lock, self._live.using() as recommender:
            return self._on(recommender).history

    @property
    def unknown(self) -> tuple[str, ...]:
        """Ids of the items so far that the current catalogue lacks, each once."""
        with self._lock, self._live.using() as recommender:
            return self._on(recommender).unknown

    def to_bytes(self) -> bytes:
        """Return the session as bytes (see `Session.to_bytes`)."""
        with self._lock, self._live.using() as recommender:
            return self._on(recommender).to_bytes()

    def save(self, path: str | Path) -> None:
        """Write `to_bytes` atomically (see `Session.save`)."""
        with self._lock, self._live.using() as recommender:
            self._on(recommender).save(path)
