"""Many texts in one array of UTF-8 bytes, text i from `offsets[i]` to `offsets[i + 1]`: pack, select and hash them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.errors import TrieError

CHUNK_BYTES: Final = 1 << 14  # texts are hashed in chunks of this size; none may be longer
CHUNK_TEXTS: Final = 1 << 16  # and copied in chunks of this many: a few megabytes of scratch memory
_BASE: Final = 0x9E3779B97F4A7C15  # odd, so that it has an inverse
_INVERSE: Final = pow(_BASE, -1, 1 << 64)


def hash_texts(blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash each (non-empty) text of a blob; uint64 [n].

    A polynomial in _BASE modulo 2^64. Its powers count from the start of a chunk of texts, not of each text, so that
    one table of powers serves all; multiplying by an inverse power shifts each sum back.
    """
    out = np.empty(len(offsets) - 1, np.uint64)
    first = 0
    while first < len(out):
        last = int(np.searchsorted(offsets, offsets[first] + CHUNK_BYTES, side="right")) - 1
        begin, end = offsets[first], offsets[last]
        out[first:last] = hash_chunk(blob[begin:end], offsets[first:last] - begin)
        first = last
    return out


def hash_chunk(chunk: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash the texts that begin at `starts` in at most CHUNK_BYTES; uint64 [len(starts)]."""
    terms = chunk.astype(np.uint64)
    terms += np.uint64(1)  # so that a zero byte changes the hash
    terms *= _powers(_BASE)[: len(chunk)]
    out: NDArray[np.uint64] = np.add.reduceat(terms, starts)
    out *= _powers(_INVERSE)[starts]
    out ^= out >> np.uint64(32)  # the index keeps the high bits; mix the low ones in
    out *= np.uint64(_BASE)
    return out


@functools.cache
def _powers(base: int) -> NDArray[np.uint64]:
    powers = np.full(CHUNK_BYTES, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def pack_texts(texts: Sequence[str], what: str, errors: str = "strict") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Join texts into UTF-8 bytes and offsets; `what` names them in errors."""
    try:
        joined = "".join(texts)
    except TypeError:
        row, text = next((row, text) for row, text in enumerate(texts) if not isinstance(text, str))
        raise TrieError(f"the {what} in row {row} is {text!r}, not a string; convert it first") from None
    pieces: Sequence[str] | list[bytes] = texts
    if joined.isascii():  # the usual case, five times as fast
        data = joined.encode()
    else:
        try:
            pieces = [text.encode("utf-8", errors) for text in texts]
        except UnicodeEncodeError as error:
            raise TrieError(f"a {what} is not valid text: {error.object!r}; drop its lone surrogates") from None
        data = b"".join(pieces)
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)), out=offsets[1:])
    return np.frombuffer(data, np.uint8), offsets


def select_texts(
    blob: NDArray[np.uint8], offsets: NDArray[np.int64], rows: NDArray[np.integer]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the texts of `rows`, packed in that order."""
    starts = offsets[rows]
    chosen = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(offsets[1:][rows] - starts, out=chosen[1:])
    out = np.empty(chosen[-1], np.uint8)
    for first in range(0, len(rows), CHUNK_TEXTS):
        ends = chosen[first : first + CHUNK_TEXTS + 1]
        shifts = np.repeat(starts[first : first + CHUNK_TEXTS] - ends[:-1], np.diff(ends))
        out[ends[0] : ends[-1]] = blob[shifts + np.arange(ends[0], ends[-1])]
    return out, chosen
