"""Text files as blocks of whole UTF-8 lines: gzip is unpacked, other encodings are converted, NUL bytes are removed.

On the path of the data: the first step of reading a text file, before it is parsed (`distill.data.parse`).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pocketrec.distill.data.report import Action, FindingLog, Places, Row
from pocketrec.runtime.errors import DataError

BLOCK_BYTES = 1 << 24
MARK = b"\xef\xbb\xbf"  # UTF-8 byte order mark


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise `DataError` for any error of reading a file that is missing or damaged."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} cannot be read ({reason}); it may be truncated, or not of the kind that its name says"
        ) from error


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a text file for reading; it is unpacked if its first bytes are those of gzip, whatever its name.

    :raises DataError: if it is not a text file, or cannot be read to its end.
    """
    with readable(path), path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if magic[:2] == b"\x1f\x8b" else raw
        start = stream.read(4)
        stream.seek(0)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} is UTF-16 text; save it as UTF-8")
        if start in (b"PK\x03\x04", b"PAR1") or start[:3] == b"BZh":
            raise DataError(f"{path} is not a text file, although its name says so; unpack it, or correct its name")
        yield stream


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield whole lines, about `BLOCK_BYTES` at a time; a line end is added to the last line if it has none."""
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
    if rest:
        yield rest + b"\n"


class LineNotes:
    """Repairs the text of one file and records findings by line number; `action` is what bad lines lead to."""

    def __init__(self, file: str, findings: FindingLog, action: Action) -> None:
        """Start for one file."""
        self.file, self.findings, self.action = file, findings, action

    def byte_order_mark(self, header: bytes) -> None:
        """Record a header that starts with a byte order mark."""
        if header.startswith(MARK):
            self.findings.add("D102", 1, "the mark is skipped", "ok", [Row(self.file, 1)])

    def damaged(self, code: str, lines: Sequence[int] | NDArray[np.int64]) -> None:
        """Record rows that are rejected."""
        places = Places()
        places.add(self.file, np.asarray(lines, np.int64))
        self.findings.reject(code, np.ones(len(lines), np.bool_), self.action, "bad_rows", places)

    def clean(self, block: bytes, first_line: int) -> tuple[bytes, list[int]]:
        """Return a block as UTF-8 without NUL bytes and carriage returns, and the numbers of the lines that had NUL.

        Each line that is not UTF-8 is read as Windows-1252, so files of mixed encodings are read correctly. A carriage
        return within a line becomes a space.
        """
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b" ")
        if b"\0" not in block and _is_utf8(block):
            return block, []
        lines, foreign, nul = block.split(b"\n"), [], []
        for index, line in enumerate(lines):
            if b"\0" in line:
                nul.append(first_line + index)
                line = line.replace(b"\0", b"")
            if not _is_utf8(line):
                foreign.append(first_line + index)
                line = decode(line).encode()
            lines[index] = line
        rows = (Row(self.file, n) for n in foreign)
        if self.action == "refuse":
            self.findings.add("D103", len(foreign), "refused (bad_rows = refuse)", "error", rows)
        else:
            self.findings.add("D103", len(foreign), "kept", "warning", rows)
        return b"\n".join(lines), nul


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode(line: bytes) -> str:
    """Decode as UTF-8, or else as Windows-1252, or, with one of its five unassigned bytes, as Latin-1."""
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")
