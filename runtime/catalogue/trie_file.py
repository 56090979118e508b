"""The trie file: one catalogue as safetensors, written atomically, checked in full before use.

Format "pocketrec.trie", version 2. Tensors, n items of L codes each:
`id_bytes` uint8 and `id_lengths` uint16 [n]: item ids in UTF-8, one after the other, and the length of each in bytes;
`title_lengths`, `title_bytes`: the same for titles, both or neither;
`codes` uint8 [n, L] (uint16 above 256 codes a level): semantic IDs, rising and distinct.
Metadata, all strings: format, version, sid_space, codes_per_level.

Promises: equal catalogues give equal bytes; a file that breaks any rule is refused by a TrieError that names the rule.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pocketrec.runtime.catalogue.item_table import MAX_ID_BYTES, MAX_ITEMS, ItemTable
from pocketrec.runtime.errors import TrieError, one_line
from pocketrec.runtime.files.safetensors import check_header, write_tensors

FORMAT: Final = "pocketrec.trie"
VERSION: Final = "2"
MAX_FILE_BYTES: Final = 1 << 31
MAX_LEVELS: Final = 8
MAX_CODES: Final = 1 << 16  # codes are uint16 at most
MAX_TITLE_BYTES: Final = (1 << 16) - 1
MAX_SPACE: Final = 256

_UTF8_PIECE: Final = 1 << 20
_FETCH: Final = "fetch it again or re-publish it"
_NAMES = {"U8": np.uint8, "U16": np.uint16}


@dataclass(frozen=True)
class TrieFile:
    """The content of a trie file. codes: uint8 or uint16 [n, L], sorted; table: the items, in the same order."""

    codes: NDArray[np.uint8] | NDArray[np.uint16]
    table: ItemTable
    codes_per_level: int
    sid_space: str


def code_type(codes_per_level: int) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest type that holds codes in [0, codes_per_level)."""
    return np.uint8 if codes_per_level <= 256 else np.uint16


def write_trie_file(path: str | Path, content: TrieFile) -> None:
    """Write a trie file atomically; the same content always gives the same bytes.

    :raises TrieError: if a title is too long.
    :raises OSError: if the file cannot be written; a file that was there is then untouched.
    """
    table = content.table
    tensors: dict[str, NDArray[Any]] = {"id_lengths": np.diff(table.id_offsets).astype(np.uint16)}
    if table.title_bytes is not None and table.title_offsets is not None:
        lengths = np.diff(table.title_offsets)
        if lengths.max(initial=0) > MAX_TITLE_BYTES:
            row = int(lengths.argmax())
            raise TrieError(f"the title in row {row} has {lengths[row]} bytes; cut it to {MAX_TITLE_BYTES}")
        tensors["title_lengths"] = lengths.astype(np.uint16)  # 2-byte numbers come first, so that all are aligned
    tensors["codes"] = content.codes
    tensors["id_bytes"] = table.id_bytes
    if table.title_bytes is not None:
        tensors["title_bytes"] = table.title_bytes
    metadata = {
        "codes_per_level": str(content.codes_per_level),
        "format": FORMAT,
        "sid_space": content.sid_space,
        "version": VERSION,
    }
    write_tensors(path, metadata, tensors)


def read_trie_file(path: str | Path) -> TrieFile:
    """Read a trie file and check all of it except the order of its codes, which the trie's builder checks.

    :raises TrieError: if there is no such file, or it breaks a rule of the format; the message says which.
    """
    path = Path(path)
    if not path.is_file():
        raise TrieError(f"{path} is not a file; give the path of a trie file ({FORMAT})")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise _refusal(path, f"is over the limit of {MAX_FILE_BYTES} bytes", "split the catalogue")
    try:
        check_header(path)
        with safe_open(path, framework="numpy") as file:
            return _read(path, file)
    except (SafetensorError, OSError, ValueError) as error:
        raise _refusal(path, f"is damaged or no safetensors file ({one_line(error)})") from error


def _refusal(path: Path, wrong: str, remedy: str = _FETCH) -> TrieError:
    return TrieError(f"{path.name} {wrong}; {remedy}")


def _read(path: Path, file: Any) -> TrieFile:
    sid_space, codes_per_level = _read_metadata(path, file.metadata() or {})
    names = set(file.keys())
    needed = {"codes", "id_bytes", "id_lengths"} | (names & {"title_bytes", "title_lengths"})
    if len(needed) == 4:
        needed |= {"title_bytes", "title_lengths"}
    if missing := needed - names:
        raise _refusal(path, f"lacks the tensor {min(missing)!r}")
    if extra := names - needed:
        raise _refusal(path, f"has a tensor {min(extra)!r} that the format does not know")
    codes = _read_codes(path, file, codes_per_level)
    n = len(codes)
    ids = _read_texts(path, file, "id", n, shortest=1, longest=MAX_ID_BYTES)
    titles = _read_texts(path, file, "title", n, shortest=0, longest=MAX_TITLE_BYTES) if len(needed) == 5 else ()
    table = ItemTable(*ids, *titles)
    try:
        table.check_unique()
    except TrieError as error:
        raise _refusal(path, f"is malformed ({error})") from error
    return TrieFile(codes, table, codes_per_level, sid_space)


def _read_metadata(path: Path, metadata: dict[str, str]) -> tuple[str, int]:
    """Return sid_space and codes_per_level."""
    if metadata.get("format") != FORMAT:
        raise _refusal(path, f"has format {metadata.get('format')!r:.60}, not {FORMAT!r}", "give a trie file")
    if metadata.get("version") != VERSION:
        raise _refusal(
            path,
            f"has version {metadata.get('version')!r:.60}, and this runtime reads {VERSION!r}",
            "update pocketrec or re-publish the file",
        )
    for name in ("sid_space", "codes_per_level"):
        if name not in metadata:
            raise _refusal(path, f"lacks {name!r} in its metadata")
    if len(metadata["sid_space"]) > MAX_SPACE:
        raise _refusal(path, f"has a sid_space of {len(metadata['sid_space'])} characters; {MAX_SPACE} are allowed")
    text = metadata["codes_per_level"]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_CODES):
        raise _refusal(path, f"says codes_per_level {text[:20]!r}, which is not a number from 1 to {MAX_CODES}")
    return metadata["sid_space"], int(text)


def _read_tensor(path: Path, file: Any, name: str, kind: type[np.generic], dimensions: int) -> NDArray[Any]:
    """Return a tensor whose type and number of dimensions were checked before it was read."""
    tensor = file.get_slice(name)
    if _NAMES.get(tensor.get_dtype()) is not kind:
        raise _refusal(path, f"has {name} of type {tensor.get_dtype()}, where {kind.__name__} is needed")
    if len(tensor.get_shape()) != dimensions:
        raise _refusal(path, f"has {name} of shape {tensor.get_shape()}, where {dimensions} dimension(s) are needed")
    array: NDArray[Any] = file.get_tensor(name)
    return array


def _read_codes(path: Path, file: Any, codes_per_level: int) -> NDArray[Any]:
    codes = _read_tensor(path, file, "codes", code_type(codes_per_level), 2)
    n, levels = codes.shape
    if n > MAX_ITEMS:
        raise _refusal(path, f"holds {n} items, over the limit of {MAX_ITEMS}", "split the catalogue")
    if not 1 <= levels <= MAX_LEVELS:
        raise _refusal(path, f"has {levels} levels, where 1 to {MAX_LEVELS} are allowed")
    if n and int(codes.max()) >= codes_per_level:
        raise _refusal(path, f"has a code {codes.max()}, but codes_per_level is {codes_per_level}")
    return codes


def _read_texts(
    path: Path, file: Any, what: str, n: int, *, shortest: int, longest: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes and offsets of n texts; check that they are UTF-8, of allowed lengths, and fill the bytes."""
    blob = _read_tensor(path, file, f"{what}_bytes", np.uint8, 1)
    lengths = _read_tensor(path, file, f"{what}_lengths", np.uint16, 1)
    if len(lengths) != n:
        raise _refusal(path, f"has {len(lengths)} {what}_lengths for {n} items")
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] != len(blob):
        raise _refusal(path, f"has {what}_lengths that sum to {offsets[-1]}, but {len(blob)} {what}_bytes")
    if n and not shortest <= lengths.min() <= lengths.max() <= longest:
        raise _refusal(
            path,
            f"has {what}s of {lengths.min()} to {lengths.max()} bytes; {shortest} to {longest} are allowed",
        )
    if not _is_utf8(blob, offsets):
        raise _refusal(path, f"has {what}s that are not valid UTF-8")
    return blob, offsets


def _is_utf8(blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> bool:
    """Tell whether every text is valid: all bytes together are, and no text starts inside a character."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(blob), _UTF8_PIECE):
            decoder.decode(blob[start : start + _UTF8_PIECE].data)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    starts = offsets[:-1]
    starts = starts[starts < len(blob)]
    return not bool(((blob[starts] & 0xC0) == 0x80).any())
