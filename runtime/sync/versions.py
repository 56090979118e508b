"""The open version of a bundle, and its replacement by another one while calls are running.

Promises, however calls, swaps and closes overlap:

- A call uses one version from beginning to end. A version is closed once it was replaced and its last call has ended.
- Every version that is opened is closed exactly once; after `close` no version becomes current.
- Swaps take effect in the order in which they were called. Calls never wait for a version that is being opened.
- Named sub-catalogues and controls hold for every later version.

Three locks: `_lock` guards the fields and is held for a few instructions only. `_swapping` keeps swaps in order, and
`_naming` keeps calls of `add_catalogue` in order; either may be held while `_lock` is taken, never the other way round.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pocketrec.runtime.control import Control, id_list
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.recommender import Recommender

Open = Callable[[Path], Recommender]


class LiveControl:
    """The arguments of `Recommender.control`, prepared again for every version of the catalogue."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Copy the arguments: iterators would be used up by the first version, and lists may change.

        :raises ConfigError: if `allow` or `deny` are not item ids, or `within` is not a name.
        """
        self.arguments = dict(arguments)
        for name in ("allow", "deny"):
            if self.arguments.get(name) is not None:
                self.arguments[name] = list(id_list(name, self.arguments[name]))
        for name in ("bias", "segments"):
            if isinstance(self.arguments.get(name), Mapping):
                self.arguments[name] = dict(self.arguments[name])
        if not isinstance(self.arguments.get("within"), (str, type(None))):
            raise ConfigError("`within` is a sub-catalogue of one version; use add_catalogue, and give the name")


class OpenVersion:
    """A version that is open: its recommender, the calls that use it, and the controls prepared for it.

    Attributes: `calls`, how many calls use it now; `retired`, whether it is to be closed when they have ended. Both are
    guarded by the lock of `OpenVersions`.
    """

    def __init__(self, name: str, recommender: Recommender) -> None:
        self.name, self.recommender = name, recommender
        self.calls, self.retired = 0, False
        self._controls: WeakKeyDictionary[LiveControl, Control] = WeakKeyDictionary()
        self._lock = threading.Lock()  # guards `_controls`

    def prepared(self, control: LiveControl | None) -> Control | None:
        """Return a control prepared for this version. It is prepared once, and forgotten when the app drops it.

        :raises ConfigError: if it was not made by `LiveRecommender.control`.
        """
        if control is None:
            return None
        if not isinstance(control, LiveControl):
            raise ConfigError("`control` must be what this recommender's `control` returned")
        with self._lock:
            made = self._controls.get(control)
        if made is None:
            made = self.recommender.control(**control.arguments)
            with self._lock:
                made = self._controls.setdefault(control, made)
        return made


class OpenVersions:
    """The version that calls use now, until `swap` replaces it or `close` ends it."""

    def __init__(self, name: str, recommender: Recommender, open_version: Open) -> None:
        """Begin with an open version.

        :param name: the version's name in the store.
        :param open_version: opens the folder of a later version.
        """
        self._current = OpenVersion(name, recommender)
        self._open = open_version
        self._catalogues: dict[str, list[str]] = {}  # name -> item ids; replaced, never changed
        self._closed = False
        self._lock, self._swapping, self._naming = threading.Lock(), threading.Lock(), threading.Lock()

    @property
    def name(self) -> str:
        """Name of the current version."""
        return self._current.name

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @contextmanager
    def pinned(self) -> Iterator[OpenVersion]:
        """Give the current version, which stays open inside the block.

        :raises ConfigError: if `close` was called.
        """
        with self._lock:
            if self._closed:
                raise ConfigError("this recommender was closed; call recommender() of an open sync client")
            version = self._current
            version.calls += 1
        try:
            yield version
        finally:
            with self._lock:
                version.calls -= 1
                unused = version.retired and version.calls == 0
            if unused:
                version.recommender.close()

    def swap(self, name: str, path: Path) -> None:
        """Make another version current. It is opened first; meanwhile calls use the one before.

        :param path: the version's folder.
        :raises BundleError: if it cannot be opened; the version before then stays current.
        """
        with self._swapping:
            if name == self._current.name or self._closed:
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

        If `close` was called meanwhile, the version is closed at once.
        """
        with self._lock:
            if self._closed:
                replaced = fresh
            elif catalogues != self._catalogues:
                return False
            else:
                replaced, self._current = self._current, fresh
            replaced.retired = True
            unused = replaced.calls == 0
        if unused:
            replaced.recommender.close()
        return True

    def add_catalogue(self, name: str, items: Iterable[str]) -> None:
        """Name a sub-catalogue in the current version and every later one.

        :raises ConfigError: if `items` are not item ids, or `close` was called.
        """
        ids = list(id_list("items", items))
        with self._naming:
            while True:
                with self.pinned() as version:
                    version.recommender.add_catalogue(name, ids)
                    with self._lock:
                        self._catalogues = {**self._catalogues, name: ids}
                        if self._current is version:
                            return  # later versions take it from `_catalogues`

    def close(self) -> None:
        """Close the current version as soon as no call uses it. May be called twice, and during calls and swaps."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            last = self._current
            last.retired = True
            unused = last.calls == 0
        if unused:
            last.recommender.close()
