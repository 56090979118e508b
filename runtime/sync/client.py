"""The sync client: keeps a store up to date with a repository, and gives out a recommender that follows the store.

Promises:

- Whatever fails (the network, the server, the disk, or the process itself at any moment), the last good version goes on
  recommending.
- Only files that are signed are used.
- A call in flight finishes on the version with which it began.
- After `close`, nothing that the client opened stays open, and no request is made.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from types import TracebackType
from typing import Final

from pocketrec.runtime.bundle.bundle import MANIFEST_FILE, describe_file
from pocketrec.runtime.errors import BundleError, ConfigError, SyncError
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.sync.background import Background
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
from pocketrec.runtime.sync.install import BadReleaseError, Installer, candidates, mark_bad
from pocketrec.runtime.sync.live import LiveRecommender
from pocketrec.runtime.sync.opening import open_current
from pocketrec.runtime.sync.release import check_channel
from pocketrec.runtime.sync.store import Store
from pocketrec.runtime.sync.transport import HttpTransport, Transport
from pocketrec.runtime.sync.trust import Trust

MODES: Final = ("local", "latest", "local_then_background")
CLOSING_SECONDS: Final = 5  # that `close` waits for each thread of the client


@dataclass(frozen=True)
class Status:
    """What the client has.

    Attributes: `current` and `previous`, names of versions (channel, release and hash); `release`, the current one;
    `bad`, SHA-256 of the manifests of releases that do not work here; `error`, of the last refresh in the background.
    """

    url: str
    channel: str
    current: str | None
    previous: str | None
    release: int | None
    bad: tuple[str, ...]
    error: str | None


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

        :param url: base address of the repository. It must be https, except on this machine.
        :param store: a folder for this client alone; several processes may share it.
        :param trusted_root: the repository's `metadata/1.root.json`, or any later root, as the app carries it.
        :param channel: which releases to follow.
        :param mode: "local": never make a request; "latest": refresh before the first use; "local_then_background": use
            the stored version at once, and refresh meanwhile.
        :param limits: attempts, pauses and deadline.
        :param allow_http: allow addresses that are not https.
        :param conditions: called with the bytes to download before a release is fetched; False postpones it.
        :param on_event: called with what a refresh does, in the refresh's thread. It may call the client, except for
            `refresh` and `rollback`, which then raise a StoreError.
        :param transport: fetches files; None: HTTP.
        :param runtime: version of pocketrec for which releases are chosen; None: the installed one.
        :raises ConfigError: if there is no such mode, or the address is not https.
        :raises SyncError: if the name of the channel has another form.
        """
        if mode not in MODES:
            raise ConfigError(f"there is no mode {mode!r}; choose one of {', '.join(MODES)}")
        self._own_transport: HttpTransport | None = None
        if transport is None:
            transport = self._own_transport = HttpTransport(allow_http=allow_http)
            transport.check_address(url)
        self.url, self.channel, self.mode = url, check_channel(channel), mode
        self.store = Store(store)
        self._transport, self._limits, self._root = transport, limits or Limits(), trusted_root
        self._conditions, self._on_event = conditions, on_event or _ignore
        self._runtime = runtime or installed("pocketrec")
        self._live: LiveRecommender | None = None
        # One refresh, rollback or opening at a time. Events are sent while it is held, so a thread may take it again.
        self._lock = threading.RLock()
        self._background = Background()
        self._closing = self._background.stop
        self._error: str | None = None

    def refresh(self) -> Refreshed:
        """Swap to the newest release that this device may have. Whatever is raised, the current version stays usable.

        :raises TrustError: if the repository sends invalid or expired data.
        :raises NetworkError: if requests fail, or the client is closed meanwhile.
        :raises StoreError: if the store cannot be written, or another process is refreshing it.
        :raises SyncError: if the new version is stored, but cannot be opened by the recommender's engine.
        :raises ConfigError: if the client was closed.
        """
        with self._lock:
            self._check_open()
            if self.mode == "local":
                self._follow()
                return Refreshed(False, self._release(), 0, 0, "unchanged")
            fetcher = Fetcher(self._transport, self._limits, self._closing)
            with self.store.writing():
                before = self.store.current()
                how = self._update(fetcher)
                changed = self.store.current().current != before.current
            self._follow()
            if changed:
                self._on_event(Swapped(self._release() or 0))
            return Refreshed(changed, self._release(), fetcher.received, fetcher.requests, how)

    def _update(self, fetcher: Fetcher) -> str:
        """Bring the store up to date; return `Refreshed.how`."""
        self._on_event(Checking())
        trust = Trust(self.store.trust, self.url, self._root, fetcher)
        state, now = self.store.state(), self.store.current()
        if not trust.has_news() and state.settled == self._settled():
            return "unchanged"
        trust.refresh()
        self.store.remember(state)  # the device's id decides which releases it may have
        installer = Installer(self.store, fetcher, self._conditions, self._on_event)
        for release in candidates(trust, self.channel, state, self._runtime, self._on_event):
            if release.name == now.current:
                break
            try:
                if not installer.install(release):
                    return "postponed"
            except BadReleaseError as error:
                state = mark_bad(state, release.manifest.sha256, self._runtime)
                self.store.remember(state)
                self._on_event(Failed(error))
                continue
            self.store.swap(release.name, now.current)
            break
        self._settle()
        return installer.how if self.store.current().current != now.current else "unchanged"

    def _settle(self) -> None:
        """Remember that nothing is left to do about the current metadata, and sweep the store."""
        self.store.remember(replace(self.store.state(), settled=self._settled()))
        self.store.sweep()

    def _settled(self) -> str:
        """What a finished refresh was about: channel, version of pocketrec, current version and timestamp."""
        signed = self.store.trust / "timestamp.json"
        digest = hashlib.sha256(signed.read_bytes()).hexdigest() if signed.exists() else ""
        return f"{self.channel} {self._runtime} {self.store.current().current} {digest}"

    def rollback(self) -> str:
        """Go back to the version before the current one. The release that is left is not installed again.

        :return: the name of the version that is current now.
        :raises SyncError: if there is no version before it, or it is damaged; the current version then stays.
        :raises StoreError: if the store cannot be written, or another process is refreshing it.
        :raises ConfigError: if the client was closed.
        """
        with self._lock:
            self._check_open()
            with self.store.writing():
                now = self.store.current()
                if now.previous is None or now.current is None:
                    raise SyncError("there is no version before this one to go back to")
                if not self.store.is_intact(now.previous):
                    raise SyncError(f"the version before this one, {now.previous}, is damaged; refresh instead")
                left = describe_file(self.store.path(now.current) / MANIFEST_FILE).sha256
                self.store.remember(mark_bad(self.store.state(), left, self._runtime))
                self.store.swap(now.previous, None)
                self._settle()
            self._follow()
        return now.previous

    def recommender(self, engine: str | None = None, threads: int = 1) -> LiveRecommender:
        """Return the recommender that follows the store. It is made by the first call, as the mode says, and kept.

        :param engine: as for `Recommender.load`; only the call that makes the recommender looks at it and at `threads`.
        :raises SyncError: if no version is stored, and none could be fetched.
        :raises BundleError: if the version does not open with this engine, or every stored version is damaged.
        :raises ConfigError: if the client was closed, or there is no such engine.
        """
        live = self._live
        if live is not None and not live.closed:
            return live
        self._check_open()
        empty = self.store.current().current is None
        if self.mode == "latest" or (empty and self.mode != "local"):
            error = self._try_to_refresh()
            if error is not None and empty:
                raise error
        live, made = self._make_live(engine, threads)
        if made and self.mode == "local_then_background" and not empty:
            self._background.start(self._try_to_refresh)
        return live

    def _make_live(self, engine: str | None, threads: int) -> tuple[LiveRecommender, bool]:
        """Return the live recommender, and whether this call has made it."""

        def load(path: Path) -> Recommender:
            return Recommender.load(path, engine, threads)

        with self._lock:
            live, made = self._live, False
            if live is None or live.closed:
                self._check_open()
                live, made = LiveRecommender(*open_current(self.store, load), load), True
                self._live = live
            if self._closing.is_set():  # `close` sets this first and reads `_live` afterwards: one of both closes it
                live.close()
            self._check_open()
            return live, made

    def _follow(self) -> None:
        """Swap the live recommender to the version that is current in the store."""
        while self._live is not None:
            now = self.store.current()
            if now.current is None:
                return
            try:
                self._live.swap(now.current, self.store.path(now.current))
                return
            except BundleError as error:
                if self.store.current() == now:
                    raise SyncError(
                        f"version {now.current} is stored, but does not open ({error}); the one before stays in use"
                    ) from error

    def watch(self, seconds: float = 3600.0, vary: float = 0.2) -> None:
        """Refresh again and again in the background, until `close`. Failures are sent as events.

        A further call changes the pause.

        :param seconds: pause between two refreshes.
        :param vary: share by which each pause is longer or shorter, so that devices do not refresh all at once.
        :raises ConfigError: if a value is out of range, or the client was closed.
        """
        if not seconds > 0 or not 0 <= vary < 1:
            raise ConfigError(
                f"seconds is {seconds} and vary {vary}; seconds must be above 0, and vary from 0 to below 1"
            )
        self._check_open()
        self._background.repeat(self._try_to_refresh, seconds, vary)

    def _try_to_refresh(self) -> Exception | None:
        """Refresh; return an error instead of raising it, and send it as an event."""
        try:
            self.refresh()
        except Exception as error:  # whatever it is, it must not end a thread in the background
            self._error = str(error)
            if not self._closing.is_set():
                with suppress(Exception):  # of the app's own code
                    self._on_event(Failed(error))
            return error
        self._error = None
        return None

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the threads in the background have ended. A `watch` ends with `close` only.

        :param seconds: how long to wait for each; None: without limit.
        """
        self._background.wait(seconds)

    def status(self) -> Status:
        """Return what is stored, and the last error in the background."""
        now, state = self.store.current(), self.store.state()
        return Status(self.url, self.channel, now.current, now.previous, now.release, tuple(state.bad), self._error)

    def _release(self) -> int | None:
        return self.store.current().release

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise ConfigError("this sync client was closed; make another")

    def close(self) -> None:
        """End what runs in the background, and close the recommender and the connections. May be called twice.

        A download ends at its next bytes; what has arrived is resumed by a later client. A transport that was given to
        the client stays open.
        """
        self._closing.set()
        self.wait(CLOSING_SECONDS)
        if self._live is not None:
            self._live.close()
        if self._own_transport is not None:
            self._own_transport.close()

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
