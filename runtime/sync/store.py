"""The store on the device: versions of a bundle that never change, and a small file that says which is current.

    versions/<name>/   a bundle, verified before it got this name, and never changed afterwards
    current            the current version and the one before it
    state.json         the device's random id, releases that do not work here, and what the last refresh settled
    trust/             verified metadata
    downloads/         part files of downloads
    lock               held by the one process or thread that writes

Promises:

- A version becomes current by one atomic rename of `current`. Readers need no lock: they see one or the other.
- A version and its files are on the disk (fsync) before it gets its name, and `current` names it only afterwards.
- What a killed writer left behind has names that no reader looks at; the next writer deletes it.
"""

from __future__ import annotations

import errno
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.errors import BundleError, MissingExtraError, StoreError
from pocketrec.runtime.files.atomic import atomic_write, begin_folder, partial_folder, put_in_place
from pocketrec.runtime.sync.release import release_of_version

MAX_STATE_BYTES: Final = 1 << 20
MAX_BAD: Final = 64  # releases remembered as not working; older ones are forgotten
SPARE_BYTES: Final = 1 << 20
_DAMAGE: Final = (None, errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # errors of reading that mean a damaged version


@dataclass(frozen=True)
class Current:
    """Names of the current version and of the one before it."""

    current: str | None = None
    previous: str | None = None

    @property
    def release(self) -> int | None:
        """The release of the current version."""
        return release_of_version(self.current)


@dataclass(frozen=True)
class State:
    """What the device remembers.

    Attributes: `device`, its random id; `bad`, SHA-256 of a manifest -> the version of pocketrec with which that
    release does not work; `settled`, what the last finished refresh was about.
    """

    device: str
    bad: dict[str, str] = field(default_factory=dict)
    settled: str = ""


class Store:
    """A folder of versions. Only a block of `writing` may write into it."""

    def __init__(self, folder: str | Path) -> None:
        """Name the folder; the first writer makes it."""
        self.folder = Path(folder).expanduser()
        self.versions, self.downloads = self.folder / "versions", self.folder / "downloads"
        self.trust = self.folder / "trust"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer inside the block, and delete what a killed writer left behind.

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
            raise StoreError(f"another refresh is writing into {self.folder}; try again when it is done") from error
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written ({error}); check its permissions") from error
        try:
            self._delete_leftovers()
            yield
        except OSError as error:
            raise StoreError(
                f"{self.folder} cannot be written ({error}); free some space or check permissions"
            ) from error
        finally:
            lock.release()

    def _delete_leftovers(self) -> None:
        """Delete what a killed writer left half made; the temporary files of python-tuf have names like tmp3f2a."""
        for path in (*self.versions.glob(".*"), *self.folder.glob(".*.tmp"), *self.trust.glob("tmp*")):
            _remove(path)

    def current(self) -> Current:
        """Read which version is current. If that note is lost or damaged, it is the greatest release that is here."""
        content = self._json("current")
        current, previous = (
            name if self._is_version(name) else None for name in (content.get("current"), content.get("previous"))
        )
        if current is None:
            current = max(filter(self._is_version, self._names()), key=_release, default=None)
        return Current(current, previous if previous != current else None)

    def _names(self) -> list[str]:
        return [path.name for path in self.versions.iterdir()] if self.versions.is_dir() else []

    def _is_version(self, name: Any) -> bool:
        return release_of_version(name) is not None and (self.versions / name).is_dir()

    def path(self, name: str) -> Path:
        """The folder of a version."""
        return self.versions / name

    def is_intact(self, name: str) -> bool:
        """Whether every file of a version is what its manifest lists.

        :raises StoreError: if that cannot be said, because the disk or the system refuses to read.
        """
        try:
            open_bundle(self.path(name))
        except BundleError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno not in _DAMAGE:
                raise StoreError(f"version {name} cannot be read ({error}); try again") from error
            return False
        return True

    def swap(self, name: str, previous: str | None) -> None:
        """Make a version the current one.

        :param previous: the version to go back to; None: none.
        """
        atomic_write(self.folder / "current", [json.dumps({"current": name, "previous": previous}).encode()])

    def state(self) -> State:
        """Read what the device remembers. A damaged file counts as none: the device then gets a new id."""
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
        """Return an empty folder in which a version is made."""
        return begin_folder(self.path(name))

    def finish(self, name: str) -> None:
        """Give the verified version in the folder of `begin` its name, once all of it is on the disk."""
        put_in_place(partial_folder(self.path(name)), self.path(name))

    def sweep(self) -> None:
        """Delete all versions except the current one and the one before it, and all part files.

        What cannot be deleted now (on Windows a file that is open) is deleted by a later sweep.
        """
        now = self.current()
        for path in self.versions.iterdir():
            if path.name not in (now.current, now.previous):
                _remove(path)
        for path in self.downloads.iterdir():
            _remove(path)

    def drop(self, name: str) -> None:
        """Delete a damaged version; if it is the current one, the one before it becomes current."""
        now = self.current()
        if now.current == name and now.previous is not None:
            self.swap(now.previous, None)
        _remove(self.path(name))

    def require_space(self, size: int) -> None:
        """Make sure that the disk has room for `size` bytes and `SPARE_BYTES` more.

        :raises StoreError: if it has not.
        """
        free = shutil.disk_usage(self.folder).free
        if free < size + SPARE_BYTES:
            raise StoreError(f"{self.folder} has {free:,} bytes free, and the release needs {size:,}; free some space")


def _release(name: str) -> int:
    return release_of_version(name) or 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
