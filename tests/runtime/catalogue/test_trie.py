"""The trie holds exactly the catalogue's semantic IDs; its file is refused unless every byte is right."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.catalogue.trie_file import MAX_LEVELS
from pocketrec.runtime.errors import TrieError

ROWS = [[2, 0, 1], [0, 1, 1], [0, 1, 0], [0, 3, 3], [2, 0, 2], [2, 0, 3]]
IDS = ["f", "b", "a", "c", "g", "h"]


def small() -> ItemTrie:
    return ItemTrie.from_rows(ROWS, IDS, codes_per_level=4, titles=[i.upper() for i in IDS], sid_space="s1")


@st.composite
def catalogues(draw) -> list[tuple[int, ...]]:
    """Distinct semantic IDs in any order, few codes so that prefixes are shared."""
    levels = draw(st.integers(1, 4))
    return draw(st.lists(st.tuples(*[st.integers(0, 4)] * levels), unique=True, min_size=1, max_size=40))


def build(rows: list[tuple[int, ...]], codes: int = 5) -> ItemTrie:
    return ItemTrie.from_rows(rows, [str(row) for row in rows], codes_per_level=codes, sid_space="s")


def same(a: ItemTrie, b: ItemTrie) -> bool:
    arrays = ("rows", "first_child", "codes", "table_rows")
    return (
        all(np.array_equal(getattr(a, x), getattr(b, x)) for x in arrays)
        and all(getattr(a, x) == getattr(b, x) for x in ("max_branch", "codes_per_level", "sid_space", "levels"))
        and a.table.ids(a.table_rows) == b.table.ids(b.table_rows)
        and a.table.titles(a.table_rows) == b.table.titles(b.table_rows)
    )


def test_the_layout_is_breadth_first_with_contiguous_children():
    trie = small()
    # root | 0 2 | 01 03 20 | 010 011 033 201 202 203
    assert trie.codes.tolist() == [0, 0, 2, 1, 3, 0, 0, 1, 3, 1, 2, 3]
    assert trie.first_child.tolist() == [1, 3, 5, 6, 8, 9, 12]
    assert (trie.n_nodes, trie.n_internal, len(trie), trie.levels) == (12, 6, 6, 3)
    assert trie.max_branch == (2, 2, 3)
    assert (trie.codes.dtype, trie.first_child.dtype, trie.table_rows.dtype) == (np.uint8, np.int32, np.int32)
    assert trie.table.ids(trie.table_rows) == ["a", "b", "c", "f", "g", "h"]
    assert trie.table.titles([0, 5]) == ["A", "H"]


@given(catalogues(), st.data())
def test_children_contains_and_leaf_agree_with_the_set_of_rows(rows, data):
    trie = build(rows)
    levels = len(rows[0])
    assert trie.rows.tolist() == [list(row) for row in sorted(rows)]
    prefix = data.draw(st.lists(st.integers(-1, 6), max_size=levels + 1).map(tuple) | st.sampled_from(rows))
    starts = {row[len(prefix)] for row in rows if row[: len(prefix)] == prefix and len(prefix) < levels}
    assert trie.children(prefix).tolist() == sorted(starts)
    assert trie.contains(prefix) == (prefix in rows)
    assert trie.leaf(prefix) == (sorted(rows).index(prefix) if prefix in rows else -1)


@given(catalogues())
def test_the_arrays_spell_out_every_row_and_no_other(rows):
    trie = build(rows)

    def walk(node: int, prefix: tuple[int, ...]):
        if node >= trie.n_internal:
            yield node - trie.n_internal, prefix
            return
        for child in range(trie.first_child[node], trie.first_child[node + 1]):
            yield from walk(child, (*prefix, int(trie.codes[child])))

    assert list(walk(0, ())) == list(enumerate(sorted(rows)))
    branches = [max(len(trie.children(row[:depth])) for row in rows) for depth in range(trie.levels)]
    assert trie.max_branch == tuple(branches)


@given(catalogues(), st.data())
def test_a_filtered_trie_is_the_trie_of_the_kept_items(rows, data):
    trie = build(rows)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    part = trie.filter(mask)
    kept = [row for row, keep in zip(sorted(rows), mask, strict=True) if keep]
    assert part.table is trie.table
    assert part.rows.tolist() == [list(row) for row in kept]
    assert part.table.ids(part.table_rows) == [str(row) for row in kept]
    if kept:
        fresh = build(kept)
        assert np.array_equal(part.codes, fresh.codes)
        assert np.array_equal(part.first_child, fresh.first_child)
        assert part.max_branch == fresh.max_branch
    wanted = np.arange(-1, len(rows) + 1)
    places = {int(row): leaf for leaf, row in enumerate(part.table_rows)}
    assert part.leaves_of(wanted).tolist() == [places.get(int(row), -1) for row in wanted]
    again = part.filter(np.ones(len(part), bool))
    assert same(part, again)


def test_filter_ids_keeps_the_named_items_and_passes_over_strangers():
    part = small().filter_ids(["h", "nobody", "a"])
    assert part.table.ids(part.table_rows) == ["a", "h"]
    assert part.filter_ids(["b", "h"]).rows.tolist() == [[2, 0, 3]], "a part of a part cannot grow"
    with pytest.raises(TrieError, match="list of ids"):
        small().filter_ids("h")


def test_an_empty_trie_is_valid_and_can_be_saved(tmp_path):
    none = small().filter(np.zeros(6, bool))
    none.save(tmp_path / "t")
    for trie in (
        none,
        ItemTrie.load(tmp_path / "t"),
        ItemTrie.from_rows(np.empty((0, 3)), [], codes_per_level=4),
    ):
        assert (len(trie), trie.n_nodes, trie.n_internal, trie.max_branch) == (0, 1, 1, (0, 0, 0))
        assert trie.first_child.tolist() == [1, 1]
        assert trie.children([]).tolist() == []
        assert not trie.contains([0, 1, 0])
        assert trie.leaves_of(np.array([0, -1])).tolist() == [-1, -1]


def test_nothing_can_change_a_trie():
    trie = small()
    for array in (
        trie.rows,
        trie.codes,
        trie.first_child,
        trie.filter(np.arange(len(trie)) < 2).table_rows,
        trie.table.id_bytes,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    given_rows = np.array(ROWS, np.uint8)
    ItemTrie.from_rows(given_rows, IDS, codes_per_level=4)
    given_rows[0] = 0  # the caller's array stays the caller's


@pytest.mark.parametrize(
    ("rows", "ids", "codes", "message"),
    [
        ([[0, 0], [0, 9]], ["a", "b"], 4, r"row 1 has code 9 at level 1.*codes_per_level is 4"),
        ([[0, 0], [-1, 0]], ["a", "b"], 4, r"row 1 has code -1 at level 0"),
        ([[300, 0]], ["a"], 256, r"row 0 has code 300 at level 0.*codes_per_level is 256"),
        ([[1, 2], [0, 0], [1, 2]], ["a", "b", "c"], 4, r"rows 0 and 2 both have the semantic ID \(1, 2\)"),
        ([[0, 0], [0, 1]], ["a", "a"], 4, "rows 0 and 1 both have the item id 'a'"),
        ([[0, 0]], ["a", "b"], 4, "1 semantic IDs but 2 item ids"),
        ([0, 1], ["a", "b"], 4, r"shape \[2\]"),
        ([[0] * (MAX_LEVELS + 1)], ["a"], 4, f"1 to {MAX_LEVELS} levels"),
        ([[0.0, 1.0]], ["a"], 4, "float64; give integers"),
        ([[0, 0]], ["a"], 0, "codes_per_level is 0"),
        ([[0, 0]], ["a"], 65537, "codes_per_level is 65537"),
    ],
)
def test_rows_that_make_no_trie_are_refused_with_the_row_and_both_numbers(rows, ids, codes, message):
    with pytest.raises(TrieError, match=message):
        ItemTrie.from_rows(rows, ids, codes_per_level=codes)


@pytest.mark.parametrize("mask", [np.ones(5, bool), np.ones(6, np.int8), np.arange(6)])
def test_a_mask_of_another_shape_or_type_is_refused(mask):
    with pytest.raises(TrieError, match=r"bool \[6\]"):
        small().filter(mask)


@given(catalogues())
def test_saving_and_loading_gives_the_same_trie(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("trie") / "t"
    trie = build(rows)
    trie.save(path)
    assert same(ItemTrie.load(path), trie)


def test_wide_codes_and_titles_survive_the_file(tmp_path):
    rows = [[65535, 0], [256, 255], [0, 300]]
    trie = ItemTrie.from_rows(rows, ["ä", "b", "c"], codes_per_level=65536, titles=["Ä", None, "☃"])
    assert trie.codes.dtype == np.uint16
    trie.save(tmp_path / "t")
    assert same(ItemTrie.load(tmp_path / "t"), trie)


def test_equal_catalogues_give_equal_bytes_in_every_process(tmp_path):
    small().save(tmp_path / "a")
    shuffled = ItemTrie.from_rows(
        ROWS[::-1], IDS[::-1], codes_per_level=4, titles=[i.upper() for i in IDS[::-1]], sid_space="s1"
    )
    shuffled.save(tmp_path / "b")
    script = "from pocketrec.runtime.catalogue.trie import ItemTrie; ItemTrie.load('a').save('c')"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": "7"})
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_a_saved_part_is_a_whole_catalogue_of_its_own(tmp_path):
    small().filter_ids(["h", "a", "g"]).save(tmp_path / "t")
    part = ItemTrie.load(tmp_path / "t")
    assert part.table.ids(np.arange(len(part.table))) == ["a", "g", "h"]
    assert part.table.titles([0, 1, 2]) == ["A", "G", "H"]


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "t"
    target.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match=r"."):
        small().save(target)
    assert list(tmp_path.iterdir()) == [target]


# What a file can have wrong. Files are put together here byte by byte, by none of the code under test.


def pack(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    kinds = {"uint8": "U8", "uint16": "U16", "int64": "I64", "int32": "I32", "float32": "F32"}
    header: dict[str, object] = {"__metadata__": metadata}
    blob = b""
    for name, tensor in tensors.items():
        content = tensor.tobytes()
        header[name] = {
            "dtype": kinds[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [len(blob), len(blob) + len(content)],
        }
        blob += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + blob


def sound() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Three items "a", "bb", "é" with titles "A", "", "E"."""
    tensors = {
        "id_lengths": np.array([1, 2, 2], np.uint16),
        "title_lengths": np.array([1, 0, 1], np.uint16),
        "codes": np.array([[0, 0], [0, 3], [2, 1]], np.uint8),
        "id_bytes": np.frombuffer("abbé".encode(), np.uint8),
        "title_bytes": np.frombuffer(b"AE", np.uint8),
    }
    return tensors, {"format": "pocketrec.trie", "version": "2", "sid_space": "s", "codes_per_level": "4"}


def test_the_handmade_file_is_sound(tmp_path):
    (tmp_path / "t").write_bytes(pack(*sound()))
    trie = ItemTrie.load(tmp_path / "t")
    assert trie.table.ids([0, 1, 2]) == ["a", "bb", "é"]
    assert trie.table.titles([0, 1, 2]) == ["A", None, "E"]


U8 = np.uint8
FAULTS = {
    "another format": ({}, {"format": "other"}, "format 'other'"),
    "no format": ({}, {"format": None}, "format None"),
    "a later version": ({}, {"version": "3"}, "version '3'.*update"),
    "an earlier version": ({}, {"version": "1"}, "version '1'.*re-publish"),
    "no sid_space": ({}, {"sid_space": None}, "lacks 'sid_space'"),
    "no codes_per_level": ({}, {"codes_per_level": None}, "lacks 'codes_per_level'"),
    "codes_per_level of zero": ({}, {"codes_per_level": "0"}, "codes_per_level '0'"),
    "codes_per_level in words": ({}, {"codes_per_level": "four"}, "codes_per_level 'four'"),
    "huge codes_per_level": ({}, {"codes_per_level": "9" * 5000}, "not a number from 1 to 65536"),
    "no codes": ({"codes": None}, {}, "lacks the tensor 'codes'"),
    "no ids": ({"id_bytes": None}, {}, "lacks the tensor 'id_bytes'"),
    "no lengths": ({"id_lengths": None}, {}, "lacks the tensor 'id_lengths'"),
    "half the titles": ({"title_bytes": None}, {}, "lacks the tensor 'title_bytes'"),
    "a tensor too many": ({"x": np.zeros(1, U8)}, {}, "'x' that the format does not know"),
    "codes of a wrong type": ({"codes": np.zeros((3, 2), np.float32)}, {}, "codes of type F32"),
    "codes of the wide type": ({"codes": np.zeros((3, 2), np.uint16)}, {}, "codes of type U16"),
    "codes in one dimension": ({"codes": np.zeros(3, U8)}, {}, "2 dimension"),
    "too many levels": ({"codes": np.zeros((3, 9), U8)}, {}, "9 levels"),
    "no levels": ({"codes": np.zeros((3, 0), U8)}, {}, "0 levels"),
    "a code out of range": ({"codes": np.array([[0, 0], [0, 3], [4, 1]], U8)}, {}, "code 4.*is 4"),
    "unsorted rows": ({"codes": np.array([[0, 3], [0, 0], [2, 1]], U8)}, {}, "not sorted"),
    "duplicate rows": (
        {"codes": np.array([[0, 3], [0, 3], [2, 1]], U8)},
        {},
        "rows 0 and 1 have one semantic ID",
    ),
    "lengths of a wrong type": ({"id_lengths": np.array([1, 2, 2], np.int32)}, {}, "id_lengths of type I32"),
    "too few lengths": ({"id_lengths": np.array([1, 4], np.uint16)}, {}, "2 id_lengths for 3 items"),
    "lengths past the end": ({"id_lengths": np.array([1, 2, 3], np.uint16)}, {}, "sum to 6, but 5 id_bytes"),
    "lengths before the end": ({"id_lengths": np.array([1, 2, 1], np.uint16)}, {}, "sum to 4, but 5 id_bytes"),
    "an empty id": ({"id_lengths": np.array([1, 0, 4], np.uint16)}, {}, "ids of 0 to 4 bytes"),
    "an id cut inside a character": (
        {"id_lengths": np.array([1, 3, 1], np.uint16)},
        {},
        "ids that are not valid UTF-8",
    ),
    "invalid UTF-8": (
        {"id_bytes": np.array([97, 98, 98, 0xC3, 0x28], U8)},
        {},
        "ids that are not valid UTF-8",
    ),
    "a character without its end": (
        {"id_bytes": np.array([97, 98, 98, 99, 0xC3], U8)},
        {},
        "not valid UTF-8",
    ),
    "titles not UTF-8": ({"title_bytes": np.array([65, 0xFF], U8)}, {}, "titles that are not valid UTF-8"),
    "duplicate ids": (
        {"id_bytes": np.frombuffer(b"ababb", U8), "id_lengths": np.array([2, 2, 1], np.uint16)},
        {},
        "both have",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_trie_file_is_named(tmp_path, fault):
    tensors, metadata = sound()
    changed_tensors, changed_metadata, message = FAULTS[fault]
    tensors = {k: v for k, v in {**tensors, **changed_tensors}.items() if v is not None}
    metadata = {k: v for k, v in {**metadata, **changed_metadata}.items() if v is not None}
    (tmp_path / "t").write_bytes(pack(tensors, metadata))
    with pytest.raises(TrieError, match=message) as caught:
        ItemTrie.load(tmp_path / "t")
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value), "it says what to do"


def test_a_file_cut_anywhere_is_refused(tmp_path):
    content = pack(*sound())
    for length in range(len(content)):
        (tmp_path / "t").write_bytes(content[:length])
        with pytest.raises(TrieError, match="fetch it again"):
            ItemTrie.load(tmp_path / "t")
    (tmp_path / "t").write_bytes(content + b"\0")
    with pytest.raises(TrieError, match="fetch it again"):
        ItemTrie.load(tmp_path / "t")


@given(st.data())
def test_a_damaged_file_is_refused_or_still_a_catalogue_within_its_rules(tmp_path_factory, data):
    """The checksum is the bundle's; damage here may change an item, but never break the trie."""
    content = bytearray(pack(*sound()))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("trie") / "t"
    path.write_bytes(content)
    try:
        trie = ItemTrie.load(path)
    except TrieError:
        return
    ids = trie.table.ids(trie.table_rows)
    assert len(set(ids)) == len(ids) == len(trie)
    assert len({tuple(row) for row in trie.rows.tolist()}) == len(trie)


def test_no_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(TrieError, match="is not a file"):
            ItemTrie.load(path)


def test_a_file_over_the_size_limit_is_refused_unread(tmp_path):
    from pocketrec.runtime.catalogue.trie_file import MAX_FILE_BYTES

    with (tmp_path / "t").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no space
    with pytest.raises(TrieError, match="over the limit"):
        ItemTrie.load(tmp_path / "t")
