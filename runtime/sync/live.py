"""A recommender that follows a store: the calls of `Recommender`, always on the version that is current.

A call in flight finishes on the version it began with; a version is closed when its last call ends. Sessions go on
over a swap: with the same model, what it has read is kept as long as every item still has its semantic ID.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from pocketrec.runtime.control import Control
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.recommendation import Recommendations
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.session import Session, model_id, restore

Open = Callable[[Path], Recommender]


class Held:
    """A version that is open, and how many calls it is in."""

    def __init__(self, name: str, recommender: Recommender) -> None:
        self.name, self.recommender = name, recommender
        self.calls, self.retired = 0, False
        self._controls: dict[LiveControl, Control] = {}

    def prepared(self, control: LiveControl | None) -> Control | None:
        """Wishes, prepared once for this version."""
        if control is None:
            return None
        if not isinstance(control, LiveControl):
            raise ConfigError("`control` must be what this recommender's `control` returned")
        if control not in self._controls:
            self._controls = {**self._controls, control: self.recommender.control(**control.wishes)}
        return self._controls[control]


class LiveControl:
    """Wishes as `Recommender.control` takes them, prepared anew for every version of the catalogue."""

    def __init__(self, wishes: Mapping[str, Any]) -> None:
        """Keep the wishes."""
        self.wishes = dict(wishes)


class LiveRecommender:
    """Recommends from the version that is current. Calls from several threads at once are safe."""

    def __init__(self, name: str, recommender: Recommender, open_version: Open) -> None:
        """Begin with an open version; `SyncClient.recommender` is what apps want."""
        self._held = Held(name, recommender)
        self._open = open_version
        self._named: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def version(self) -> str:
        """Name of the version that is current."""
        return self._held.name

    @contextmanager
    def using(self) -> Iterator[Recommender]:
        """The current version's recommender, which stays open inside the block.

        :raises ConfigError: if this was closed.
        """
        with self.holding() as held:
            yield held.recommender

    @contextmanager
    def holding(self) -> Iterator[Held]:
        """The current version, which stays open inside the block."""
        with self._lock:
            if self._closed:
                raise ConfigError("this recommender was closed; ask the sync client for another")
            held = self._held
            held.calls += 1
        try:
            yield held
        finally:
            self._leave(held)

    def _leave(self, held: Held) -> None:
        with self._lock:
            held.calls -= 1
            done = held.retired and held.calls == 0
        if done:
            held.recommender.close()

    def swap(self, name: str, path: Path) -> None:
        """Go over to another version; it is opened first, so calls meanwhile use the one before.

        :raises BundleError: if it cannot be opened; the version before then stays.
        """
        if name == self._held.name or self._closed:
            return
        fresh = Held(name, self._open(path))
        for catalogue, ids in self._named.items():
            fresh.recommender.add_catalogue(catalogue, ids)
        self._replace(fresh)

    def _replace(self, fresh: Held | None) -> None:
        with self._lock:
            old = self._held
            old.retired, self._closed = True, fresh is None
            self._held = fresh or old
            done = old.calls == 0
        if done:
            old.recommender.close()

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
        with self.holding() as held:
            return held.recommender.recommend(history, k, exclude_seen, within, beam, held.prepared(control))

    async def recommend_async(self, history: Sequence[str], k: int = 10, **wishes: Any) -> Recommendations:
        """As `recommend`, in a thread of the running loop's pool."""
        import asyncio

        return await asyncio.to_thread(self.recommend, history, k, **wishes)

    def recommend_batch(self, histories: Iterable[Sequence[str]], k: int = 10, **wishes: Any) -> list[Recommendations]:
        """Recommend for several histories, all on one version."""
        control = wishes.pop("control", None)
        with self.holding() as held:
            return held.recommender.recommend_batch(histories, k, control=held.prepared(control), **wishes)

    def add_catalogue(self, name: str, items: Iterable[str]) -> None:
        """Name a sub-catalogue that `within` takes; it is prepared again for every version.

        :param items: item ids; those that a catalogue lacks are passed over.
        """
        ids = list(items)
        with self.using() as recommender:
            recommender.add_catalogue(name, ids)
        self._named = {**self._named, name: ids}

    def control(self, **wishes: Any) -> LiveControl:
        """Prepare wishes for `recommend` (see `Recommender.control`); they hold for later versions, too.

        :raises ConfigError: on wrong types or values.
        """
        made = LiveControl(wishes)
        with self.holding() as held:
            held.prepared(made)
        return made

    def session(self, history: Sequence[str] = ()) -> LiveSession:
        """Begin a session that goes on over swaps (see `Recommender.session`)."""
        with self.using() as recommender:
            return LiveSession(self, recommender.session(history), list(history))

    def restore_session(self, source: bytes | str | Path) -> LiveSession:
        """Go on with a saved session (see `Recommender.restore_session`)."""
        with self.using() as recommender:
            inner = restore(recommender.retriever, source)
            return LiveSession(self, inner, [*inner.history])

    def close(self) -> None:
        """Close, once the last call has ended; may be called twice."""
        if not self._closed:
            self._replace(None)

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

    Attributes: `renewed`, whether a swap brought another model, so that the history was read anew.
    """

    def __init__(self, live: LiveRecommender, inner: Session, observed: list[str]) -> None:
        """Begin; `LiveRecommender.session` is what apps want."""
        self._live, self._inner, self._observed = live, inner, observed
        self._lock = threading.Lock()
        self.renewed = inner.renewed

    def observe(self, item_id: str) -> bool:
        """Add an item to the history; return whether the current catalogue has it."""
        with self._lock, self._live.using() as recommender:
            known = self._on(recommender).observe(item_id)
            self._observed.append(item_id)
            return known

    def recommend(self, k: int = 10, control: LiveControl | None = None, **wishes: Any) -> Recommendations:
        """Recommend the items most likely to come next (see `Session.recommend`)."""
        with self._lock, self._live.holding() as held:
            return self._on(held.recommender).recommend(k, control=held.prepared(control), **wishes)

    def _on(self, recommender: Recommender) -> Session:
        """The session on a version; after a swap, brought over to it."""
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
        """Ids of the items so far that the catalogue has, oldest first."""
        with self._lock, self._live.using() as recommender:
            return self._on(recommender).history

    @property
    def unknown(self) -> tuple[str, ...]:
        """Ids that were observed, but are not in the current catalogue, each once."""
        with self._lock, self._live.using() as recommender:
            return self._on(recommender).unknown

    def to_bytes(self) -> bytes:
        """The session as bytes (see `Session.to_bytes`)."""
        with self._lock, self._live.using() as recommender:
            return self._on(recommender).to_bytes()

    def save(self, path: str | Path) -> None:
        """Write `to_bytes` atomically."""
        with self._lock, self._live.using() as recommender:
            self._on(recommender).save(path)
