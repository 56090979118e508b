"""Reading and writing single files safely: atomic writes, plain-file checks, streamed hashes.

Everything the device keeps (tries, manifests, and later synced files) is written here: a reader sees the old
file or the new one, never half of either, even when the power fails in between.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

_READ_BYTES = 1 << 18


def atomic_write(path: str | Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write `chunks`, one after the other, as the whole new content of `path`.

    The bytes go to a temporary file in the same folder, reach the disk (fsync), and then take the name.

    :param path: the file to create or replace; its folder must exist.
    :param chunks: contiguous bytes.
    :raises OSError: if the disk refuses; an existing file is then untouched.
    """
    import secrets  # here, since what only reads never writes, and starts the sooner

    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_to_disk(path.parent)


def sync_to_disk(path: Path) -> None:
    """Make a file, or the renames in a folder, durable; a no-op where folders cannot be opened (Windows).

    :raises OSError: if the disk refuses.
    """
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(have: Path, place: Path) -> None:
    """Give a file a second name; where the file system has no hard links, a copy takes it once it is whole.

    :raises OSError: if neither can be made.
    """
    try:
        os.link(have, place)
    except OSError:
        import shutil

        temporary = place.with_name(f".{place.name}.tmp")
        shutil.copyfile(have, temporary)
        temporary.replace(place)


def open_plain(path: Path) -> BufferedReader:
    """Open a file for reading if it is a plain file: no link, folder, pipe or device.

    :raises FileNotFoundError: if nothing is there.
    :raises OSError: if it is not a plain file, or cannot be read.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(f"{path.name} is not a plain file")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    return os.fdopen(descriptor, "rb")


class FileState(NamedTuple):
    """What tells whether a file is still the one that was looked at, and unchanged.

    The time of the last change of status is not among it: a link made to the file elsewhere moves that.
    """

    device: int
    inode: int
    bytes: int
    changed_ns: int


def file_state(found: os.stat_result) -> FileState:
    """Return the state that `os.fstat` or `Path.lstat` tells of."""
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def sha256_of(file: BufferedReader) -> str:
    """Return the SHA-256 of the rest of an open file, as 64 lower-case hex digits; reads in small pieces."""
    digest = hashlib.sha256()
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    while read := file.readinto(buffer):
        digest.update(view[:read])
    return digest.hexdigest()
