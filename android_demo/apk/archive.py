"""The APK as a zip file, laid out so that the system can map it.

Stored and aligned: native libraries to 16 KiB, so that devices with such pages load them out of the APK, and the
resource table to 4 bytes. Everything else is deflated. Times are fixed: the same input gives the same bytes.
"""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

LIBRARY_ALIGNMENT = 16 * 1024
STORED_ALIGNMENT = 4
ALIGNMENT_FIELD = 0xD935  # apksigner keeps the alignment that this extra field states
WHEN = (1981, 1, 1, 1, 1, 2)


@dataclass(frozen=True)
class Entry:
    """A file of the APK: its name, its size, and its size in the APK."""

    name: str
    size: int
    packed: int


def write(target: Path, files: dict[str, bytes]) -> None:
    """Write an unsigned APK.

    :param files: the content by name, in the order of the archive.
    """
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, WHEN)
            alignment = _alignment(name)
            entry.compress_type = zipfile.ZIP_STORED if alignment else zipfile.ZIP_DEFLATED
            if alignment and archive.fp:
                entry.extra = _padding(archive.fp.tell() + 30 + len(name.encode()), alignment)
            archive.writestr(entry, content, compresslevel=9)


def _alignment(name: str) -> int:
    if name.endswith(".so"):
        return LIBRARY_ALIGNMENT
    return STORED_ALIGNMENT if name == "resources.arsc" else 0


def _padding(begin: int, alignment: int) -> bytes:
    """An extra field whose length aligns the content after it."""
    zeros = -(begin + 6) % alignment
    return struct.pack("<HHH", ALIGNMENT_FIELD, 2 + zeros, alignment) + bytes(zeros)


def entries(apk: Path) -> list[Entry]:
    """The files of an APK."""
    with zipfile.ZipFile(apk) as archive:
        return [Entry(i.filename, i.file_size, i.compress_size) for i in archive.infolist()]


def misaligned(apk: Path) -> list[str]:
    """Names of the files that are not stored aligned."""
    wrong = []
    with zipfile.ZipFile(apk) as archive, apk.open("rb") as file:
        for entry in archive.infolist():
            alignment = _alignment(entry.filename)
            file.seek(entry.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            begin = entry.header_offset + 30 + name + extra
            if alignment and (entry.compress_type != zipfile.ZIP_STORED or begin % alignment):
                wrong.append(entry.filename)
    return wrong


def load_alignments(library: bytes) -> list[int]:
    """The segment alignments of a 64-bit ELF library."""
    begin, size, count = *struct.unpack_from("<Q", library, 32), *struct.unpack_from("<HH", library, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", library, begin + n * size) for n in range(count)]
    return [header[7] for header in headers if header[0] == 1]
