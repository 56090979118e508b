"""The sync client: what an app holds. It keeps a store up to date and hands out a recommender that follows it.

Promises: whatever the line, the far side, the disk or a kill does, the last good version goes on recommending; nothing
that is not signed is ever used; calls in flight finish on the version they began with.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from types import TracebackType
from typing import Final

from pocketrec.runtime.bundle.bundle import MANIFEST_FILE, describe_file
from pocketrec.runtime.errors import BundleError, ConfigError, StoreError, SyncError
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.sync.events import (
    Checking,
    Conditions,
    Event,
    Failed,
    OnEvent,
    Refreshed,
    Swapped,
)
from pocketrec.runtime.sync.fetcher import Fetcher, Limits
from pocketrec.runtime.sync.install import Assembly, BadReleaseError, candidates, mark_bad
from pocketrec.runtime.sync.live import LiveRecommender
from pocketrec.runtime.sync.release import check_channel
from pocketrec.runtime.sync.store import Store
from pocketrec.runtime.sync.transport import HttpTransport, Transport
from pocketrec.runtime.sync.trust import Trust

MODES: Final = ("local", "latest", "local_then_background")


@dataclass(frozen=True)
class Status:
    """What the client has: names of versions (channel, release and hash), and the releases found bad here."""

    url: str
    channel: str
    current: str | None
    previous: str | None
    release: int | None
    bad: tuple[str, ...]
    error: str | None  # of the last refresh in the background


class SyncClient:
    """Keeps a store up to date with a repository. Calls from several threads are safe."""

    def __init__(
        self,
        url: str,
        store: str | Path,
        trusted_root: bytes,
        channel: str = "stable",
        mode: str = "local_then_background",
        *,
        limits: Limits | None = None,
        allow_http: bool = False,
        conditions: Conditions | None = None,
        on_event: OnEvent | None = None,
        transport: Transport | None = None,
        runtime: str | None = None,
    ) -> None:
        """Name a repository and a store; nothing is fetched or written yet.

        :param url: base address of the repository; https, but for this machine.
        :param store: folder that is this client's own; several processes may share it.
        :param trusted_root: the repository's `metadata/1.root.json`, or any later root, as the app carries it.
        :param channel: which releases to follow.
        :param mode: "local": never ask the server; "latest": ask before the first use; "local_then_background": use
            what is there at once, and ask meanwhile.
        :param limits: attempts, pauses and deadline.
        :param allow_http: allow addresses that are not https.
        :param conditions: asked with the bytes to fetch, before a release is fetched; False postpones it.
        :param on_event: told what a refresh does, in its thread.
        :param transport: what fetches; None: HTTP.
        :param runtime: version that releases are chosen for; None: that of pocketrec.
        :raises ConfigError: on an unknown mode, or an address that is not https.
        :raises SyncError: on an odd channel.
        """
        if mode not in MODES:
            raise ConfigError(f"there is no mode {mode!r}; choose of {', '.join(MODES)}")
        if transport is None:
            transport = HttpTransport(allow_http=allow_http)
            transport.check_address(url)
        self.url, self.channel, self.mode = url, check_channel(channel), mode
        self.store = Store(store)
        self._transport, self._limits, self._root = transport, limits or Limits(), trusted_root
        self._conditions, self._on_event = conditions, on_event or _ignore
        self._runtime = runtime or installed("pocketrec")
        self._live: LiveRecommender | None = None
        self._lock = threading.Lock()  # one refresh at a time in this client
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._error: str | None = None

    def refresh(self) -> Refreshed:
        """Ask for news, and swap to the newest release that this device may have.

        :raises TrustError: if the far side is not to be believed.
        :raises NetworkError: if the line failed.
        :raises StoreError: if the store cannot be written, or another process is refreshing it.
        :raises SyncError: if a release does not work here. In every case, what was there goes on.
        """
        with self._lock:
            if self.mode == "local":
                self._follow()
                return Refreshed(False, self._release(), 0, 0, "unchanged")
            fetcher = Fetcher(self._transport, self._limits)
            with self.store.writing():
                before = self.store.current()
                how = self._update(fetcher)
                changed = self.store.current().current != before.current
            self._follow()
            if changed:
                self._on_event(Swapped(self._release() or 0))
            return Refreshed(changed, self._release(), fetcher.received, fetcher.requests, how)

    def _update(self, fetcher: Fetcher) -> str:
        """Bring the store up to date; return how."""
        self._on_event(Checking())
        trust = Trust(self.store.folder / "trust", self.url, self._root, fetcher)
        state, now = self.store.state(), self.store.current()
        if not trust.is_news() and state.settled == self._settled():
            return "unchanged"
        trust.refresh()
        self.store.remember(state)  # the device's id decides which releases it may have
        assembly = Assembly(self.store, fetcher, self._conditions, self._on_event)
        for release in candidates(trust, self.channel, state, self._runtime):
            if release.name == now.current:
                break
            try:
                if not assembly.install(release):
                    return "postponed"
            except BadReleaseError as error:
                state = mark_bad(state, release.manifest.sha256, self._runtime)
                self.store.remember(state)
                self._on_event(Failed(error))
                continue
            self.store.swap(release.name, now.current)
            break
        self._settle()
        return assembly.how if self.store.current().current != now.current else "unchanged"

    def _settle(self) -> None:
        """Note that there is nothing more to do about what is signed now, and sweep."""
        self.store.remember(replace(self.store.state(), settled=self._settled()))
        self.store.sweep()

    def _settled(self) -> str:
        """What a finished refresh was about: channel, runtime, version and timestamp."""
        signed = self.store.folder / "trust" / "timestamp.json"
        digest = hashlib.sha256(signed.read_bytes()).hexdigest() if signed.exists() else ""
        return f"{self.channel} {self._runtime} {self.store.current().current} {digest}"

    def rollback(self) -> str:
        """Go back to the version before, and do not come back to the one that is left.

        :return: the name of the version that is current now.
        :raises SyncError: if there is none before it.
        """
        with self._lock:
            with self.store.writing():
                now = self.store.current()
                if now.previous is None or now.current is None:
                    raise SyncError("there is no version before this one to go back to")
                left = describe_file(self.store.path(now.current) / MANIFEST_FILE).sha256
                self.store.remember(mark_bad(self.store.state(), left, self._runtime))
                self.store.swap(now.previous, None)
                self._settle()
            self._follow()
        return now.previous

    def recommender(self, engine: str | None = None, threads: int = 1) -> LiveRecommender:
        """Return the recommender that follows the store; always the same one. Its first call obeys the mode.

        :param engine: as for `Recommender.load`.
        :raises SyncError: if there is no version in the store, and none could be fetched.
        :raises BundleError: if the version in the store is damaged, and so is the one before it.
        """
        if self._live is None:
            empty = self.store.current().current is None
            if self.mode == "latest" or (empty and self.mode != "local"):
                self._try_to_refresh(or_raise=empty)
            with self._lock:
                if self._live is None:
                    self._live = LiveRecommender(
                        *self._open(engine, threads), lambda path: Recommender.load(path, engine, threads)
                    )
            if self.mode == "local_then_background" and not empty:
                self._start(self._try_to_refresh)
        return self._live

    def _open(self, engine: str | None, threads: int) -> tuple[str, Recommender]:
        """The current version opened; a damaged one is dropped, to be fetched anew, and the one before it opened."""
        now = self.store.current()
        if now.current is None:
            raise SyncError(f"{self.store.folder} holds no release yet; refresh once while there is a connection")
        try:
            return now.current, Recommender.load(self.store.path(now.current), engine, threads)
        except BundleError:
            with suppress(StoreError), self.store.writing():
                self.store.drop(now.current)
            if now.previous is None:
                raise
            return now.previous, Recommender.load(self.store.path(now.previous), engine, threads)

    def _follow(self) -> None:
        """Let the live recommender use what is current now."""
        now = self.store.current()
        if self._live is not None and now.current is not None:
            self._live.swap(now.current, self.store.path(now.current))

    def watch(self, seconds: float = 3600.0, vary: float = 0.2) -> None:
        """Refresh again and again in the background, until `close`; failures are told as events.

        :param seconds: between two refreshes.
        :param vary: share by which each pause is longer or shorter, so that devices do not come all at once.
        :raises ConfigError: on a pause that is not above 0.
        """
        if not seconds > 0 or not 0 <= vary < 1:
            raise ConfigError(f"seconds is {seconds} and vary {vary}; give seconds above 0, and 0 to 1")

        def again() -> None:
            while not self._stop.wait(seconds * random.uniform(1 - vary, 1 + vary)):
                self._try_to_refresh()

        self._start(again)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="pocketrec-sync", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _try_to_refresh(self, or_raise: bool = False) -> None:
        try:
            self.refresh()
            self._error = None
        except Exception as error:  # a background thread must not die of anything
            self._error = str(error)
            self._on_event(Failed(error))
            if or_raise:
                raise

    def wait(self, seconds: float | None = None) -> None:
        """Wait until what runs in the background is done (a `watch` never is)."""
        for thread in list(self._threads):
            thread.join(seconds)

    def status(self) -> Status:
        """What is in the store, and what went wrong last."""
        now, state = self.store.current(), self.store.state()
        return Status(self.url, self.channel, now.current, now.previous, now.release, tuple(state.bad), self._error)

    def _release(self) -> int | None:
        return self.store.current().release

    def close(self) -> None:
        """Stop watching, and close the recommender and all connections."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        if self._live is not None:
            self._live.close()
        if isinstance(self._transport, HttpTransport):
            self._transport.close()

    def __enter__(self) -> SyncClient:
        """Return the client itself; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()


def _ignore(event: Event) -> None:
    pass
