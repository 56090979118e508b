"""The store on the device: immutable versions of a bundle, and one small file that says which is current.

    versions/<name>/   a bundle, checked before it got this name, never changed afterwards
    current            which version is current and which was before: one atomic rename is the whole swap
    state.json         the device's random id, releases that did not work here, and what the last refresh settled
    trust/             signed metadata        downloads/   files on their way        lock   one writer at a time

Readers need no lock. Whatever a killed writer left is swept away by the next one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pocketrec.runtime.errors import MissingExtraError, StoreError
from pocketrec.runtime.files.atomic import atomic_write, sync_to_disk

MAX_STATE_BYTES: Final = 1 << 20
MAX_BAD: Final = 64  # releases that are remembered as not working, the newest
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}-[1-9][0-9]{0,15}-[0-9a-f]{16}")


@dataclass(frozen=True)
class Current:
    """Names of the current version and of the one before it."""

    current: str | None = None
    previous: str | None = None

    @property
    def release(self) -> int | None:
        """Number of the current version's release."""
        return None if self.current is None else _release(self.current)


@dataclass(frozen=True)
class State:
    """What the device remembers. bad: SHA-256 of a manifest → version of the runtime that could not use it."""

    device: str
    bad: dict[str, str] = field(default_factory=dict)
    settled: str = ""  # what the last finished refresh was about


class Store:
    """A folder that holds versions. All writing happens inside `writing`."""

    def __init__(self, folder: str | Path) -> None:
        """Name the folder; it is made by the first writer."""
        self.folder = Path(folder).expanduser()
        self.versions, self.downloads = self.folder / "versions", self.folder / "downloads"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer, and clear away what a killed one left half made.

        :raises StoreError: if another process or thread writes, or the folder cannot be written.
        """
        try:
            from filelock import FileLock, Timeout
        except ImportError as error:
            raise MissingExtraError("sync needs `pip install pocketrec[sync]`") from error
        try:
            self.versions.mkdir(parents=True, exist_ok=True)
            self.downloads.mkdir(exist_ok=True)
            lock = FileLock(self.folder / "lock", timeout=0, thread_local=False)
            lock.acquire()
        except Timeout as error:
            raise StoreError(f"another refresh is at work in {self.folder}; try again when it is done") from error
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written ({error}); refresh from where it can") from error
        try:
            for path in [*self.versions.glob(".*"), *self.folder.glob(".*.tmp")]:
                _remove(path)
            yield
        except OSError as error:
            raise StoreError(
                f"{self.folder} cannot be written ({error}); free some space or check permissions"
            ) from error
        finally:
            lock.release()

    def current(self) -> Current:
        """Read which version is current: of a lost or damaged note, the greatest release; nothing, if there is none."""
        content = self._json("current")
        names = {key: content.get(key) for key in ("current", "previous")}
        found = {key: name for key, name in names.items() if self._is_version(name)}
        if "current" not in found and (left := sorted(filter(self._is_version, self._names()), key=_release)):
            found["current"] = left[-1]
        return Current(**found)

    def _names(self) -> list[str]:
        return [path.name for path in self.versions.iterdir()] if self.versions.is_dir() else []

    def _is_version(self, name: Any) -> bool:
        return isinstance(name, str) and bool(_NAME.fullmatch(name)) and (self.versions / name).is_dir()

    def path(self, name: str) -> Path:
        """The folder of a version."""
        return self.versions / name

    def swap(self, name: str, previous: str | None) -> None:
        """Make a version the current one."""
        atomic_write(self.folder / "current", [json.dumps({"current": name, "previous": previous}).encode()])

    def state(self) -> State:
        """Read what the device remembers; a damaged file counts as none, and the device gets a new id."""
        content = self._json("state.json")
        device, bad, settled = content.get("device"), content.get("bad"), content.get("settled")
        return State(
            device if isinstance(device, str) and device else secrets.token_hex(16),
            {k: v for k, v in bad.items() if isinstance(v, str)} if isinstance(bad, dict) else {},
            settled if isinstance(settled, str) else "",
        )

    def remember(self, state: State) -> None:
        """Write what the device remembers."""
        kept = State(state.device, dict(list(state.bad.items())[-MAX_BAD:]), state.settled)
        atomic_write(self.folder / "state.json", [json.dumps(asdict(kept)).encode()])

    def _json(self, name: str) -> dict[str, Any]:
        try:
            with (self.folder / name).open("rb") as file:
                content = json.loads(file.read(MAX_STATE_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def begin(self, name: str) -> Path:
        """An empty folder for a version in the making."""
        partial = self.versions / f".{name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        return partial

    def finish(self, name: str) -> None:
        """Give a version that is whole and checked its name, once it is safely on the disk."""
        partial = self.versions / f".{name}"
        for path in [*partial.iterdir(), partial]:
            sync_to_disk(path)
        os.replace(partial, self.versions / name)
        sync_to_disk(self.versions)

    def sweep(self) -> None:
        """Delete what is neither current nor previous, and files on their way; what cannot be deleted waits."""
        now = self.current()
        for path in self.versions.iterdir():
            if path.name not in (now.current, now.previous):
                _remove(path)
        for path in self.downloads.iterdir():
            _remove(path)

    def drop(self, name: str) -> None:
        """Give up a version that is damaged; if it is the current one, the one before it is."""
        now = self.current()
        if now.current == name and now.previous is not None:
            self.swap(now.previous, None)
        _remove(self.path(name))

    def room_for(self, size: int) -> None:
        """Make sure that there is space for so many bytes, and a little to spare.

        :raises StoreError: if there is not.
        """
        free = shutil.disk_usage(self.folder).free
        if free < size + (1 << 20):
            raise StoreError(f"{self.folder} has {free:,} bytes free, and the release needs {size:,}; free some space")


def _release(name: str) -> int:
    return int(name.rsplit("-", 2)[1])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
