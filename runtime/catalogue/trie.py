"""The item trie: which semantic IDs exist, and which item each one is.

A search that walks the trie can only find items of the catalogue, whatever codes the model prefers. Engines pass
`first_child` and `codes` to the device graph; `pocketrec.runtime.catalogue.beam` is the same search in numpy.

Layout: nodes are numbered breadth-first, root 0, siblings by rising code. The children of an internal node v are nodes
`first_child[v]` to `first_child[v + 1] - 1`. The leaves come last, in the order of the sorted rows, so that
leaf row = node - n_internal. Nothing changes after construction, so that any number of threads may read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketrec.runtime.catalogue.item_table import ItemTable
from pocketrec.runtime.catalogue.trie_file import (
    MAX_CODES,
    MAX_LEVELS,
    TrieFile,
    code_type,
    read_trie_file,
    write_trie_file,
)
from pocketrec.runtime.errors import TrieError

Codes: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False, slots=True)
class ItemTrie:
    """Semantic IDs of n items, L codes each, in [0, K). Make one with `from_rows`, `load` or `filter`.

    The table of a whole catalogue is in leaf order (leaf row = table row); a sub-catalogue, made by `filter`, has fewer
    leaves and the table of the whole.
    """

    rows: Codes  # [n, L], sorted and distinct
    subset: NDArray[np.int32] | None  # [n], of a sub-catalogue: leaf row -> table row, rising; None: the whole
    table: ItemTable
    codes_per_level: int  # K
    sid_space: str  # hash of the codebooks; a model and a trie of different spaces do not fit
    first_child: NDArray[np.int32] = field(init=False)  # [n_internal + 1]
    codes: Codes = field(init=False)  # [n_nodes]; codes[0] = 0 stands for the root
    max_branch: tuple[int, ...] = field(init=False)  # [L]: the largest number of children at each depth

    def __post_init__(self) -> None:
        first_child, codes, max_branch = _structure(self.rows)
        for array in (self.rows, first_child, codes, *(() if self.subset is None else (self.subset,))):
            array.flags.writeable = False
        object.__setattr__(self, "first_child", first_child)
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "max_branch", max_branch)

    @classmethod
    def from_rows(
        cls,
        rows: ArrayLike,
        item_ids: Sequence[str],
        *,
        codes_per_level: int,
        titles: Sequence[str | None] | None = None,
        sid_space: str = "",
    ) -> ItemTrie:
        """Build from the semantic IDs of a catalogue, in any order.

        :param rows: integers [n, L], the semantic ID of each item; n = 0 is allowed.
        :param item_ids: n unique ids, aligned with `rows`.
        :param codes_per_level: K; codes lie in [0, K).
        :param titles: n titles (None: this item has none), or None.
        :param sid_space: hash of the codebooks the IDs come from.
        :raises TrieError: on a wrong shape or type, a code out of range, two items of one semantic ID or id.
        """
        checked = _checked_rows(rows, codes_per_level)
        if len(item_ids) != len(checked):
            raise TrieError(f"{len(checked)} semantic IDs but {len(item_ids)} item ids; give one id per row")
        if titles is not None and len(titles) != len(checked):
            raise TrieError(f"{len(checked)} semantic IDs but {len(titles)} titles; give one (or None) per row")
        order = np.lexsort(checked.T[::-1])
        checked = checked[order]
        _refuse_duplicates(checked, order)
        table = ItemTable.from_lists(item_ids, titles).take(order)
        return cls(checked, None, table, codes_per_level, sid_space)

    @classmethod
    def load(cls, path: str | Path) -> ItemTrie:
        """Read a trie file, checking all of it.

        :raises TrieError: if it is missing, damaged, of another version or malformed; the message says how.
        """
        content = read_trie_file(path)
        try:
            return cls(content.codes, None, content.table, content.codes_per_level, content.sid_space)
        except TrieError as error:
            raise TrieError(f"{Path(path).name} is malformed ({error}); fetch it again or re-publish it") from error

    def save(self, path: str | Path) -> None:
        """Write a trie file atomically: equal catalogues give equal bytes; a sub-catalogue becomes a whole one.

        :raises OSError: if the file cannot be written; a file that was there is then untouched.
        """
        table = self.table if self.subset is None else self.table.take(self.subset)
        write_trie_file(path, TrieFile(self.rows, table, self.codes_per_level, self.sid_space))

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.rows)

    @property
    def table_rows(self) -> NDArray[np.int32]:
        """Table row of every leaf row, int32 [n], rising."""
        return np.arange(len(self), dtype=np.int32) if self.subset is None else self.subset

    def table_rows_of(self, leaves: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the table row of each leaf row, int32 of the same shape."""
        return leaves if self.subset is None else self.subset[leaves]

    @property
    def levels(self) -> int:
        """Codes in a semantic ID, L."""
        return int(self.rows.shape[1])

    @property
    def n_internal(self) -> int:
        """Number of nodes that are not leaves, the root included."""
        return len(self.first_child) - 1

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.codes)

    def children(self, prefix: Sequence[int]) -> Codes:
        """Return the codes that may follow a prefix of 0 to L codes, rising; none if no item has it."""
        node = self._walk(prefix)
        if node < 0 or node >= self.n_internal:
            return self.codes[:0]
        return self.codes[self.first_child[node] : self.first_child[node + 1]]

    def contains(self, sid: Sequence[int]) -> bool:
        """Tell whether an item has this semantic ID (all L codes of it)."""
        return self.leaf(sid) >= 0

    def leaf(self, sid: Sequence[int]) -> int:
        """Return the leaf row of a semantic ID, -1 if no item has it."""
        return max(-1, self._walk(sid) - self.n_internal) if len(sid) == self.levels else -1

    def _walk(self, prefix: Sequence[int]) -> int:
        """Return the node that a prefix leads to, -1 if there is none."""
        node = 0
        for code in prefix:
            if node >= self.n_internal:
                return -1
            first, end = int(self.first_child[node]), int(self.first_child[node + 1])
            node = first + int(np.searchsorted(self.codes[first:end], np.int64(code)))
            if node == end or self.codes[node] != code:
                return -1
        return node

    def filter(self, mask: NDArray[np.bool_]) -> ItemTrie:
        """Return the sub-catalogue of the leaves where `mask` is true; it shares this trie's table.

        :param mask: bool [n], by leaf row; all false gives a valid empty trie.
        :raises TrieError: if the mask has another shape or type.
        """
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (len(self),):
            raise TrieError(
                f"the mask is {mask.dtype} {list(mask.shape)}, but this trie needs bool [{len(self)}]; "
                "give one true or false per leaf row"
            )
        subset = np.flatnonzero(mask).astype(np.int32) if self.subset is None else self.subset[mask]
        return ItemTrie(self.rows[mask], subset, self.table, self.codes_per_level, self.sid_space)

    def filter_ids(self, ids: Sequence[str]) -> ItemTrie:
        """Return the sub-catalogue of the given items; ids that this trie does not have are skipped.

        :raises TrieError: if `ids` is one string instead of a list of them.
        """
        if isinstance(ids, str):
            raise TrieError(f"the ids are one string, {ids!r}; give a list of ids")
        leaves = self.find(ids)
        mask = np.zeros(len(self), np.bool_)
        mask[leaves[leaves >= 0]] = True
        return self.filter(mask)

    def find(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the leaf row of each id, int32 [len(ids)], -1 for an id that no item of this trie has."""
        rows = self.table.find(ids)
        return rows if self.subset is None else self.leaves_of(rows)

    def leaves_of(self, table_rows: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return the leaf row of each table row, int32 of the same shape, -1 where the trie lacks it."""
        wanted = np.asarray(table_rows)
        if self.subset is None:
            if wanted.dtype == np.int32 and wanted.max(initial=-1) < len(self) and wanted.min(initial=0) >= -1:
                return wanted
            return np.where((wanted >= 0) & (wanted < len(self)), wanted, -1).astype(np.int32)
        if len(self) == 0:
            return np.full(wanted.shape, -1, np.int32)
        place = np.minimum(np.searchsorted(self.subset, wanted), len(self) - 1)
        return np.where(self.subset[place] == wanted, place, -1).astype(np.int32)


def _checked_rows(rows: ArrayLike, codes_per_level: int) -> Codes:
    """Return semantic IDs in their smallest type, shape and range checked; always a copy."""
    given = np.asarray(rows)
    if not 1 <= codes_per_level <= MAX_CODES:
        raise TrieError(f"codes_per_level is {codes_per_level}, but it must be 1 to {MAX_CODES}")
    if given.ndim != 2 or not 1 <= given.shape[1] <= MAX_LEVELS:
        raise TrieError(f"semantic IDs have shape {list(given.shape)}; give [items, levels], 1 to {MAX_LEVELS} levels")
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise TrieError(f"semantic IDs have type {given.dtype}; give integers")
    if given.size and (given.min() < 0 or given.max() >= codes_per_level):
        row, level = np.argwhere((given < 0) | (given >= codes_per_level))[0]
        raise TrieError(
            f"row {row} has code {given[row, level]} at level {level}, where 0 to {codes_per_level - 1} are "
            f"allowed (codes_per_level is {codes_per_level}); give the codebooks' own size"
        )
    return given.astype(np.uint8) if code_type(codes_per_level) is np.uint8 else given.astype(np.uint16)


def _refuse_duplicates(rows: Codes, order: NDArray[np.int64]) -> None:
    """Name two input rows with one semantic ID, if any; `rows` are sorted, `order` is where each was."""
    same = np.flatnonzero((rows[1:] == rows[:-1]).all(axis=1))
    if len(same):
        first, second = sorted(order[same[0] : same[0] + 2].tolist())
        raise TrieError(
            f"rows {first} and {second} both have the semantic ID {tuple(rows[same[0]].tolist())}; "
            "give every item its own (semantic_ids.assign does)"
        )


def _structure(rows: Codes) -> tuple[NDArray[np.int32], Any, tuple[int, ...]]:
    """Return the first_child, codes and max_branch (see `ItemTrie`) of sorted rows.

    :raises TrieError: if the rows are not sorted or not distinct.
    """
    n, levels = rows.shape
    if n == 0:  # a root without children
        return np.ones(2, np.int32), np.zeros(1, rows.dtype), (0,) * levels
    opens = np.zeros(n, np.bool_)  # opens[i]: rows i and i - 1 have different prefixes so far
    opens[0] = True
    pointers, codes, max_branch = [], [np.zeros(1, rows.dtype)], []
    nodes = 1  # numbered so far
    for level in range(levels):
        column = rows[:, level]
        if bool((~opens[1:] & (column[1:] < column[:-1])).any()):
            raise TrieError("the semantic IDs are not sorted")
        opens_parent = opens.copy()
        opens[1:] |= column[1:] != column[:-1]
        starts = np.flatnonzero(opens)  # the first row of every node at this depth
        firsts = np.flatnonzero(opens_parent[starts])  # the first child of every parent
        pointers.append((firsts + nodes).astype(np.int32))
        max_branch.append(int(np.diff(firsts, append=len(starts)).max()))
        codes.append(column[starts])
        nodes += len(starts)
    if not opens.all():
        raise TrieError(f"leaf rows {int(np.argmin(opens)) - 1} and {int(np.argmin(opens))} have one semantic ID")
    return (
        np.concatenate([*pointers, [np.int32(nodes)]], dtype=np.int32),
        np.concatenate(codes),
        tuple(max_branch),
    )
