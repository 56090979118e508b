"""The item table finds what is there, and only that, without a dict."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.runtime.catalogue.item_table import MAX_ID_BYTES, ItemTable
from pocketrec.runtime.errors import TrieError

# Every character that UTF-8 can hold, zero included.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
IDS = st.lists(TEXT.filter(bool), unique=True, max_size=40)


@given(IDS, st.data())
def test_ids_come_back_and_are_found_like_in_a_dict(ids, data):
    table = ItemTable.from_lists(ids)
    rows = {item_id: row for row, item_id in enumerate(ids)}
    queries = data.draw(st.lists(TEXT | st.sampled_from(ids) if ids else TEXT, max_size=20))
    assert len(table) == len(ids)
    assert table.ids(np.arange(len(ids))) == ids
    found = table.find(queries)
    assert found.dtype == np.int32
    assert found.tolist() == [rows.get(query, -1) for query in queries]


def test_many_ids_are_found_whatever_piece_they_are_hashed_in():
    ids = [str(i) * (1 + i % 5) for i in range(10_000, 90_000)]  # over a megabyte, more than one piece of queries
    table = ItemTable.from_lists(ids)
    order = np.random.default_rng(0).permutation(len(ids))
    queries = [ids[i] for i in order]
    assert (table.find([*queries, "absent"]) == np.append(order, -1)).all()


def thue_morse_pair() -> tuple[str, str]:
    """Two different texts of 1024 bytes that any polynomial hash modulo 2^64 takes for equal.

    The difference is a multiple of the product of (P^(2^i) - 1), i < 10, which 2^64 divides for every odd P.
    """
    bits = [bin(i).count("1") % 2 for i in range(1024)]
    return "".join("ab"[bit] for bit in bits), "".join("ba"[bit] for bit in bits)


def test_ids_whose_hashes_collide_are_told_apart():
    first, second = thue_morse_pair()
    assert len(first.encode()) == MAX_ID_BYTES
    table = ItemTable.from_lists(["x", first, "y", second])
    keys = table.index >> np.uint64(24)
    assert len(np.unique(keys)) == 3, "the two texts were meant to collide"
    assert table.find([second, first, "x"]).tolist() == [3, 1, 0]
    assert ItemTable.from_lists(["x", first]).find([second]).tolist() == [-1]


def test_a_duplicate_id_is_refused_with_both_rows_even_behind_a_collision():
    first, second = thue_morse_pair()
    with pytest.raises(TrieError, match="rows 1 and 4 both have the item id 'b'"):
        ItemTable.from_lists(["a", "b", "c", "d", "b"])
    with pytest.raises(TrieError, match="rows 0 and 2 both have"):
        ItemTable.from_lists([first, second, first])


def test_queries_that_no_table_can_hold_are_unknown_not_errors():
    table = ItemTable.from_lists(["a", "\0", "é"])
    queries = ["", "\ud800", "x" * (MAX_ID_BYTES + 1), "\0", "x" * 1_000_000, "é", "e\u0301"]
    assert table.find(queries).tolist() == [-1, -1, -1, 1, -1, 2, -1]
    assert table.find([]).tolist() == []
    assert ItemTable.from_lists([]).find(["a"]).tolist() == [-1]


@pytest.mark.parametrize(
    ("ids", "titles", "message"),
    [
        (["a", ""], None, "row 1 has 0 bytes"),
        (["a" * (MAX_ID_BYTES + 1)], None, f"row 0 has {MAX_ID_BYTES + 1} bytes"),
        (["a", 7], None, "row 1 is 7, not a string"),
        (["a", "\ud800"], None, "lone surrogates"),
        (["a", "b"], ["one"], "2 item ids but 1 titles"),
        (["a"], [b"one"], "title in row 0"),
    ],
)
def test_ids_and_titles_that_break_the_rules_are_refused(ids, titles, message):
    with pytest.raises(TrieError, match=message):
        ItemTable.from_lists(ids, titles)


def test_titles_are_optional_for_the_table_and_for_each_item():
    table = ItemTable.from_lists(["a", "b", "c"], ["Alien", None, "Amélie"])
    assert table.titles(np.array([2, 1, 0])) == ["Amélie", None, "Alien"]
    assert ItemTable.from_lists(["a"]).titles([0]) == [None]


def test_rows_outside_the_table_are_errors_not_other_items():
    table = ItemTable.from_lists(["a", "b"])
    for rows in ([-1], [2]):
        with pytest.raises(IndexError):
            table.ids(rows)


@given(st.lists(TEXT.filter(bool), unique=True, min_size=1, max_size=30), st.randoms())
def test_take_reorders_ids_and_titles_together(ids, random):
    titles = [item_id.upper() for item_id in ids]
    rows = random.sample(range(len(ids)), random.randint(0, len(ids)))
    part = ItemTable.from_lists(ids, titles).take(np.array(rows, np.int32))
    assert part.ids(np.arange(len(part))) == [ids[row] for row in rows]
    assert part.titles(np.arange(len(part))) == [titles[row] for row in rows]
    assert part.find(ids).tolist() == [rows.index(row) if row in rows else -1 for row in range(len(ids))]


def test_many_threads_may_ask_first():
    ids = [f"item-{i}" for i in range(50_000)]
    table = ItemTable.from_lists(ids).take(np.arange(len(ids)))  # a new table: its index is not built yet
    start, found = threading.Barrier(8), []

    def find():
        start.wait()
        found.append(table.find(ids[::1000]).tolist())

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(0, 50_000, 1000))] * 8


def test_ids_made_to_collide_are_refused_since_looking_one_up_would_pass_by_all_the_others():
    by = [-2, -4, -6, 5, 6, 3, 0, -2, 2, 0, 3, 0, 1, -1, 0, -2, -5, -2]  # the sum of by[i] * _BASE ** i is 0
    blocks = ("m" * len(by), "".join(chr(ord("m") + step) for step in by))
    ids = ["".join(blocks[number >> bit & 1] for bit in range(13)) for number in range(1 << 13)]
    assert len(ItemTable.from_lists(ids[:1000]).find(ids[:2000])) == 2000
    with pytest.raises(TrieError, match="8191 item ids collide"):
        ItemTable.from_lists(ids)
