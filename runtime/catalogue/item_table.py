"""Item ids and titles, for catalogues of millions, without a Python object per item.

Ids (and titles, if there are any) lie one after the other in a byte array, with an array of offsets
(`pocketrec.runtime.catalogue.packed_texts`). Rows are found by id in a sorted array of hashes, which takes 8 bytes an
item; a dict takes over 100.

Promises: ids are unique, not empty and valid UTF-8; arrays never change, so that any number of threads may read. On the
path of the data: the ids of every history and of every recommendation are looked up here.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.catalogue.packed_texts import (
    CHUNK_BYTES,
    CHUNK_TEXTS,
    hash_chunk,
    hash_texts,
    pack_texts,
    select_texts,
)
from pocketrec.runtime.compiled import native
from pocketrec.runtime.errors import TrieError

MAX_ITEMS: Final = 1 << 24  # rows fit in the low bits of an index key
MAX_ID_BYTES: Final = 1024
MAX_COLLISIONS: Final = 4096  # ids with equal hashes: 128 of 16 million by chance, but they can be forged

_Scalar = TypeVar("_Scalar", bound=np.generic)

_ROW_BITS: Final = np.uint64(24)
_ROW_MASK: Final = np.uint64(MAX_ITEMS - 1)
_HASH_MASK: Final = ~_ROW_MASK
_RECENT: Final = 1024  # ids whose rows are cached: most of a history comes again with the next call


class ItemTable:
    """Ids and titles of `len(table)` items; a row is an item's position in the table."""

    __slots__ = ("_index", "_lock", "_recent", "id_bytes", "id_offsets", "title_bytes", "title_offsets")

    def __init__(
        self,
        id_bytes: NDArray[np.uint8],
        id_offsets: NDArray[np.int64],
        title_bytes: NDArray[np.uint8] | None = None,
        title_offsets: NDArray[np.int64] | None = None,
    ) -> None:
        """Wrap arrays whose offsets and UTF-8 were checked; the caller must call `check_unique`.

        :param id_bytes: uint8 [sum of id lengths], UTF-8.
        :param id_offsets: int64 [n + 1], strictly rising from 0.
        :param title_bytes: uint8, as for ids, or None where items have no titles.
        :param title_offsets: int64 [n + 1], rising from 0; an empty title means that the item has none.
        """
        self.id_bytes = _read_only(id_bytes)
        self.id_offsets = _read_only(id_offsets)
        self.title_bytes = None if title_bytes is None else _read_only(title_bytes)
        self.title_offsets = None if title_offsets is None else _read_only(title_offsets)
        self._index: NDArray[np.uint64] | None = None
        self._recent: dict[str, int] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_lists(cls, ids: Sequence[str], titles: Sequence[str | None] | None = None) -> ItemTable:
        """Build from Python strings.

        :param ids: one id per item: unique, not empty, at most MAX_ID_BYTES bytes.
        :param titles: one title per item (None: this one has none), or None if no item has one.
        :raises TrieError: on an id that breaks these rules, text that UTF-8 cannot hold, unequal lengths.
        """
        if len(ids) > MAX_ITEMS:
            raise TrieError(f"{len(ids)} items exceed the limit of {MAX_ITEMS}; split the catalogue")
        if titles is not None and len(titles) != len(ids):
            raise TrieError(f"{len(ids)} item ids but {len(titles)} titles; give one title (or None) per item")
        if titles is None:
            table = cls(*pack_texts(ids, "item id"))
        else:
            table = cls(*pack_texts(ids, "item id"), *pack_texts(["" if t is None else t for t in titles], "title"))
        lengths = np.diff(table.id_offsets)
        bad = np.flatnonzero((lengths == 0) | (lengths > MAX_ID_BYTES))
        if len(bad):
            raise TrieError(f"the item id in row {bad[0]} has {lengths[bad[0]]} bytes; ids need 1 to {MAX_ID_BYTES}")
        table.check_unique()
        return table

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.id_offsets) - 1

    def ids(self, rows: NDArray[np.integer] | Sequence[int]) -> list[str]:
        """Return the ids of the given rows.

        :raises IndexError: if a row is negative or past the end.
        """
        return self._texts(self.id_bytes, self.id_offsets, rows)

    def titles(self, rows: NDArray[np.integer] | Sequence[int]) -> list[str | None]:
        """Return the titles of the given rows, None for an item without one.

        :raises IndexError: if a row is negative or past the end.
        """
        if self.title_bytes is None or self.title_offsets is None:
            return [None] * len(rows)
        return [text or None for text in self._texts(self.title_bytes, self.title_offsets, rows)]

    def find(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the row of each id, int32 [len(ids)], -1 for an id that no item has."""
        if native is not None and type(ids) is list:
            rows = np.empty(len(ids), np.int32)
            if native.find_rows(ids, self.index, self.id_bytes, self.id_offsets, rows):
                return rows
        if len(ids) > _RECENT // 2:
            return self._find_all(ids)
        recent = self._recent
        try:
            return np.array([recent[item_id] for item_id in ids], np.int32)
        except (KeyError, TypeError):
            pass
        rows = self._find_all(ids)
        known = {item_id: row for item_id, row in zip(ids, rows.tolist(), strict=True) if row >= 0}
        self._recent = {**recent, **known} if len(recent) + len(known) <= _RECENT else known  # never changed in place
        return rows

    def _find_all(self, ids: Sequence[str]) -> NDArray[np.int32]:
        known = self._find_known(ids)
        if known is not None:
            return known
        rows = np.empty(len(ids), np.int32)
        for start in range(0, len(ids), CHUNK_TEXTS):
            rows[start : start + CHUNK_TEXTS] = self._find(ids[start : start + CHUNK_TEXTS])
        return rows

    def take(self, rows: NDArray[np.integer]) -> ItemTable:
        """Return a table of the given (distinct) rows, in that order."""
        ids = select_texts(self.id_bytes, self.id_offsets, rows)
        if self.title_bytes is None or self.title_offsets is None:
            return ItemTable(*ids)
        return ItemTable(*ids, *select_texts(self.title_bytes, self.title_offsets, rows))

    def check_unique(self) -> None:
        """Build the index that `find` uses; without this call, the first `find` builds it.

        :raises TrieError: if two items have the same id.
        """
        _ = self.index

    def _texts(
        self, blob: NDArray[np.uint8], offsets: NDArray[np.int64], rows: NDArray[np.integer] | Sequence[int]
    ) -> list[str]:
        if native is not None and isinstance(rows, np.ndarray) and rows.dtype == np.int32:
            return list(native.texts(rows, blob, offsets))
        wanted = rows.tolist() if isinstance(rows, np.ndarray) else rows
        lowest = min(wanted, default=0)
        if lowest < 0:
            raise IndexError(f"row {lowest} is negative; -1 stands for an unknown item, drop it first")
        view, at = blob.data, offsets.item  # quicker for the few items of a call than indexing by arrays
        return [str(view[at(row) : at(row + 1)], "utf-8") for row in wanted]

    def _find_known(self, ids: Sequence[str]) -> NDArray[np.int32] | None:
        """Find a few ASCII ids, all of which the table has (the usual history); None if `_find` must be used."""
        if not 0 < len(ids) <= CHUNK_BYTES or len(self) == 0:
            return None
        try:
            joined = "".join(ids)
        except TypeError:  # for `_find` to report
            return None
        lengths = list(map(len, ids))
        if len(joined) > CHUNK_BYTES or 0 in lengths or not joined.isascii():
            return None
        data = joined.encode()
        ends = list(itertools.accumulate(lengths))
        begins = [0, *ends[:-1]]
        index = self.index
        wanted = hash_chunk(np.frombuffer(data, np.uint8), np.array(begins)) & _HASH_MASK
        rows = (index.take(index.searchsorted(wanted), mode="clip") & _ROW_MASK).astype(np.int32)
        view = self.id_bytes.data
        spans = zip(self.id_offsets[rows].tolist(), self.id_offsets[rows + 1].tolist(), begins, ends, strict=True)
        return rows if all(view[start:end] == data[begin:stop] for start, end, begin, stop in spans) else None

    def _find(self, ids: Sequence[str]) -> NDArray[np.int32]:
        blob, offsets = pack_texts(ids, "id", "surrogatepass")  # bytes of a lone surrogate match no valid id
        lengths = np.diff(offsets)
        possible = (lengths > 0) & (lengths <= MAX_ID_BYTES)
        if not possible.all():  # empty or too long for any table, and for the hash
            found = np.full(len(ids), -1, np.int32)
            found[possible] = self._find([ids[i] for i in np.flatnonzero(possible).tolist()])
            return found
        index = self.index
        wanted = hash_texts(blob, offsets) & _HASH_MASK
        order = np.argsort(wanted)  # neighbours in the index share cache lines
        place = np.empty(len(ids), np.int64)
        place[order] = np.searchsorted(index, wanted[order])
        found = np.full(len(ids), -1, np.int32)
        pending = np.arange(len(ids))
        while len(pending):  # one round, and one more for each further item of equal hash
            pending = pending[place[pending] < len(index)]
            keys = index[place[pending]]
            same_hash = (keys & _HASH_MASK) == wanted[pending]
            pending, keys = pending[same_hash], keys[same_hash]
            rows = (keys & _ROW_MASK).astype(np.int32)
            pairs = zip(self.ids(rows), pending.tolist(), strict=True)
            equal = np.fromiter((item_id == ids[query] for item_id, query in pairs), np.bool_, len(rows))
            found[pending[equal]] = rows[equal]
            pending = pending[~equal]
            place[pending] += 1
        return found

    @property
    def index(self) -> NDArray[np.uint64]:
        """The index of `find`, built once: uint64 [n], rising; 40 bits of an id's hash, then 24 bits of its row.

        :raises TrieError: if two items have the same id.
        """
        if self._index is None:
            with self._lock:
                if self._index is None:
                    keys = hash_texts(self.id_bytes, self.id_offsets) & _HASH_MASK
                    keys |= np.arange(len(keys), dtype=np.uint64)
                    keys.sort()
                    self._refuse_duplicates(keys)
                    self._index = keys
        return self._index

    def _refuse_duplicates(self, keys: NDArray[np.uint64]) -> None:
        hashes = keys >> _ROW_BITS
        equal = np.flatnonzero(hashes[1:] == hashes[:-1])
        if len(equal) == 0:
            return
        if len(equal) > MAX_COLLISIONS:
            raise TrieError(
                f"{len(equal)} item ids collide in the index of ids ({MAX_COLLISIONS} are allowed), which does not "
                "happen by chance; rename these items, and check where the catalogue comes from"
            )
        suspects = np.union1d(keys[equal], keys[equal + 1]) & _ROW_MASK
        rows = np.sort(suspects).astype(np.int64)
        seen: dict[str, int] = {}
        for row, item_id in zip(rows.tolist(), self.ids(rows), strict=True):
            if item_id in seen:
                raise TrieError(f"rows {seen[item_id]} and {row} both have the item id {item_id!r}; ids must be unique")
            seen[item_id] = row


def _read_only(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    view: NDArray[_Scalar] = array.view()
    view.flags.writeable = False
    return view
