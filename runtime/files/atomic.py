"""Write files and folders whole or not at all; read plain files only; hash in small pieces.

Everything that pocketrec keeps is written here. A reader sees the old content or the new one, never half of either,
even when the process is killed or the power fails in between:

- `atomic_write`, `atomic_write_text`: content in memory.
- `atomic_file`: a library writes the file.
- `atomic_folder`, or its two halves `begin_folder` and `put_in_place`: a whole folder.

Each writes under a temporary name beside the target, makes the bytes durable (fsync), and then renames.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

_READ_BYTES = 1 << 18
_TEMPORARY = ".tmp"
_RANDOM_BYTES = 8  # in the name of a temporary file


def atomic_write(path: str | Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write `chunks`, one after the other, as the whole new content of `path`.

    :param path: the file to create or replace; its folder must exist.
    :param chunks: contiguous bytes.
    :raises OSError: if the disk refuses; an existing file is then untouched.
    """
    with atomic_file(path) as temporary, temporary.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8, byte for byte, as the whole new content of `path`; otherwise as `atomic_write`."""
    atomic_write(path, [text.encode()])


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path for a library to write to; the file is renamed to `path` when the block ends without error.

    If the block raises, the temporary file is deleted and an existing file stays as it is.

    :param path: the file to create or replace; its folder must exist.
    :raises OSError: if the disk refuses, or the block wrote no file.
    """
    import secrets  # here: processes that only read start faster without it

    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM_BYTES)}{_TEMPORARY}")
    try:
        yield temporary
        sync_to_disk(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_to_disk(path.parent)


def discard_unfinished(path: str | Path) -> None:
    """Delete the temporary files of `atomic_file(path)` that killed processes left; no other may be writing `path`."""
    import glob

    path = Path(path)
    for entry in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 2 * _RANDOM_BYTES}{_TEMPORARY}"):
        entry.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty folder to fill; it is renamed to `path`, replacing an older one, when the block ends without error.

    If the block raises, what it wrote is deleted and an older folder stays as it is.

    :raises OSError: if the disk refuses.
    """
    import shutil

    path = Path(path)
    partial = begin_folder(path)
    try:
        yield partial
        put_in_place(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def partial_folder(path: str | Path) -> Path:
    """Return the path beside `path` where its next version is written: `.NAME.partial`."""
    path = Path(path)
    return path.with_name(f".{path.name}.partial")


def begin_folder(path: str | Path) -> Path:
    """Make `partial_folder(path)`, empty; what an earlier attempt left there is deleted.

    :raises OSError: if the disk refuses.
    """
    import shutil

    partial = partial_folder(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def put_in_place(partial: Path, path: str | Path) -> None:
    """Make a finished folder durable and rename it to `path`; an older folder of that name is deleted.

    A folder cannot be replaced in one step, so the older one is renamed to `old_folder(path)` first. A reader that
    finds no folder `path` after a crash finds the older one there.

    :raises OSError: if the disk refuses; the older folder then has its name again.
    """
    import shutil

    path = Path(path)
    old = old_folder(path)
    for folder, _, names in os.walk(partial):
        for name in names:
            sync_to_disk(Path(folder, name))
        sync_to_disk(Path(folder))
    had_older = path.exists()
    if had_older:
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    try:
        os.replace(partial, path)
    except OSError:
        if had_older:
            os.replace(old, path)
        raise
    sync_to_disk(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def old_folder(path: str | Path) -> Path:
    """Return where `put_in_place` keeps the older folder while it replaces `path`: `NAME.old`, beside it."""
    path = Path(path)
    return path.with_name(f"{path.name}.old")


def make_folder(path: str | Path) -> None:
    """Make a folder and the folders above it, durably; those that are there stay as they are.

    :raises OSError: if the disk refuses, or the path is a file.
    """
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_to_disk(folder.parent)


def sync_to_disk(path: Path) -> None:
    """Make a file, or the renames in a folder, durable; does nothing where folders cannot be opened (Windows).

    :raises OSError: if the disk refuses.
    """
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    mode = os.O_RDONLY if hasattr(os, "O_DIRECTORY") else os.O_RDWR  # Windows flushes only files open for writing
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; where the file system has no hard links, write a copy instead.

    :raises OSError: if neither can be made.
    """
    try:
        os.link(source, target)
    except OSError:
        with source.open("rb") as file:
            atomic_write(target, iter(lambda: file.read(_READ_BYTES), b""))


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
    """Tells whether a file is still the one that was checked, and unchanged.

    The time of the last change of status (ctime) is left out: making a hard link to the file changes it.
    """

    device: int
    inode: int
    bytes: int
    changed_ns: int


def file_state(found: os.stat_result) -> FileState:
    """Return the state that `os.fstat` or `Path.lstat` found."""
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def sha256_of(file: BufferedReader) -> str:
    """Return the SHA-256 of the rest of an open file, as 64 lower-case hex digits; reads in small pieces."""
    digest = hashlib.sha256()
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    while read := file.readinto(buffer):
        digest.update(view[:read])
    return digest.hexdigest()
