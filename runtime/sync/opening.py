"""Opening the version that is current in a store, whatever happened to its files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pocketrec.runtime.errors import BundleError, StoreError, SyncError
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.sync.store import Store


def open_current(store: Store, load: Callable[[Path], Recommender]) -> tuple[str, Recommender]:
    """Return the current version's name, and its recommender.

    If the version is damaged, it is dropped, so that a refresh fetches it again, and the version before is opened.

    :raises SyncError: if no version is stored.
    :raises BundleError: if the version does not load though it is intact, or no version is intact.
    """
    while True:
        now = store.current()
        if now.current is None:
            raise SyncError(f"{store.folder} holds no release yet; refresh once while there is a connection")
        try:
            return now.current, load(store.path(now.current))
        except BundleError:
            if store.current() != now:
                continue  # another process has swapped meanwhile, and swept this version away
            if not _drop_if_damaged(store, now.current) or now.previous is None:
                raise
        return now.previous, load(store.path(now.previous))


def _drop_if_damaged(store: Store, name: str) -> bool:
    """Drop a version if it is damaged; return whether it is, or cannot be read."""
    with suppress(StoreError):  # the disk cannot be read or written, or another process writes: it stays for now
        if store.is_intact(name):
            return False
        with store.writing():
            if not store.is_intact(name):  # no other process has fetched it again meanwhile
                store.drop(name)
    return True
