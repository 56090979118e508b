"""What cleaning promises: every row is kept, or dropped by a stated rule."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.clean import core, repeats, ties
from pocketrec.distill.data.load import check_data, load_dataset
from pocketrec.runtime.errors import DataError
from small_logs import (
    EXPECTED,
    ITEMS,
    JSON_LINES,
    LENIENT,
    LOG,
    assert_accounted,
    check,
    finding,
    histories,
    load,
    quick,
    rows_of,
    write,
)


class TestRows:
    """Each kind of bad row: counted, listed with its line, dropped or refused."""

    CASES = (
        ("D104", b"u1,1\x000,1600000004"),
        ("D105", b"u1,10"),
        ("D105", b"u1,10,1600000004,more"),
        ("D106", b'u1,"10,1600000004'),
        ("D106", b'u1,"10"x,1600000004'),
        ("D301", b",10,1600000004"),
        ("D301", b"  ,10,1600000004"),
        ("D302", b"u1,,1600000004"),
        ("D303", b"u1,10,"),
        ("D304", b"u1,10,soon"),
        ("D304", b"u1,10,nan"),
        ("D305", b"u1,10,0"),
        ("D305", b"u1,10,1600000004000"),
        ("D307", b"u1,99,1600000004"),
    )

    @pytest.mark.parametrize(("code", "line"), CASES)
    def test_a_bad_row_is_dropped_and_listed(self, tmp_path, code, line):
        before, after = LOG.encode().split(b"u2,", 1)
        dataset = load(tmp_path, before + line + b"\nu2," + after, ITEMS)
        assert histories(dataset) == EXPECTED
        found = finding(dataset.report, code)
        assert (found.count, found.severity) == (1, "warning")
        assert [(Path(row.file).name, row.row) for row in found.examples] == [("log.csv", 3)]
        assert dataset.report.counts.rows_read == 5
        assert dataset.report.counts.rows_rejected == 1

    @pytest.mark.parametrize(("code", "line"), CASES)
    def test_a_bad_row_is_refused_where_the_rule_says_so(self, tmp_path, code, line):
        config = DataConfig(bad_rows="refuse", unknown_items="refuse", max_bad_share=0.99)
        text = LOG.encode() + line + b"\n"
        with pytest.raises(DataError, match=rf"{code}.*log\.csv:6"):
            load(tmp_path, text, ITEMS, config)
        assert finding(check(tmp_path, text, ITEMS, config), code).severity == "error"

    def test_a_line_that_is_not_json_is_dropped_and_listed(self, tmp_path):
        lines = JSON_LINES.splitlines(keepends=True)
        text = lines[0] + "{'user_id': 1}\n\n[1]\n" + "".join(lines[1:])
        dataset = load_dataset(write(tmp_path / "log.jsonl", text), None, LENIENT)
        assert histories(dataset) == EXPECTED
        assert rows_of(dataset.report, "D107") == [2, 4]

    def test_other_encodings_are_read_line_by_line_and_listed(self, tmp_path):
        text = LOG.replace("u1", "Zoë").encode() + "Zoë,10,1600000009\n".encode("cp1252")
        dataset = load(tmp_path, text)
        assert histories(dataset) == {"Zoë": ["20", "10", "30", "10"], "u2": ["20"]}
        assert rows_of(dataset.report, "D103") == [6]
        with pytest.raises(DataError, match=r"D103.*:6"):
            load(tmp_path, text, config=DataConfig(bad_rows="refuse"))

    def test_an_unclosed_quote_costs_one_line_not_the_rest_of_the_file(self, tmp_path):
        log = 'user_id,item_id,time\nu,"1,1600000001\n' + "".join(f"u,{i},{1600000002 + i}\n" for i in range(300))
        dataset = load(tmp_path, log)
        assert dataset.report.counts.events == 300
        assert rows_of(dataset.report, "D106") == [2]

    def test_line_numbers_count_lines_inside_quotes(self, tmp_path):
        items = 'item_id,title\n10,"Te\nn"\n,No id\n20,Twenty\n30,5" pipe\n'
        dataset = load(tmp_path, LOG, items)
        assert rows_of(dataset.report, "D201") == [4]
        assert dataset.catalogue.titles == ["Te\nn", "Twenty", '5" pipe']

    def test_repeated_events_are_dropped_or_kept(self, tmp_path):
        log = LOG + "u1,10,1600000002\nu1,10,1600000009\nu1,20,1600000002\nu1,10,1600000002\n"
        dataset = load(tmp_path, log)
        assert histories(dataset) == {"u1": ["20", "10", "20", "30", "10"], "u2": ["20"]}
        assert rows_of(dataset.report, "D310") == [6, 9]
        assert dataset.report.counts.rows_duplicate == 2
        kept = load(tmp_path, log, config=DataConfig(duplicates="keep"))
        assert histories(kept)["u1"] == ["20", "10", "10", "20", "10", "30", "10"]
        assert finding(kept.report, "D310").count == 2
        assert kept.report.counts.rows_duplicate == 0

    def test_event_types_and_ratings_filter_without_being_errors(self, tmp_path):
        rows = ("u,1,1600000001,buy,5", "u,2,1600000002,view,", "u,3,1600000003,buy,2", "u,4,1600000004,buy,x")
        log = "\n".join(["user,item,ts,event,stars", *rows])
        config = DataConfig(keep_events=("buy",), min_rating=3, rating="stars", max_bad_share=0.5)
        dataset = load(tmp_path, log, config=config)
        assert histories(dataset) == {"u": ["1"]}
        assert [rows_of(dataset.report, code) for code in ("D308", "D309", "D306")] == [[3], [4], [5]]
        assert dataset.report.counts.rows_filtered == 2
        assert_accounted(dataset.report)

    def test_too_many_bad_rows_are_refused_also_if_rows_are_to_be_dropped(self, tmp_path):
        log = LOG + "u1,10,never\n" * 2
        with pytest.raises(DataError, match=r"(?s)D314.*33\.3% of 6 rows.*D304.*log\.csv:6"):
            load(tmp_path, log, config=DataConfig(max_bad_share=0.3))
        load(tmp_path, log, config=DataConfig(max_bad_share=0.4))

    @pytest.mark.parametrize("log", ["", "user_id,item_id,timestamp\n"])
    def test_an_empty_log_is_an_error_that_the_report_shows(self, tmp_path, log):
        report = check(tmp_path, log, ITEMS)
        assert finding(report, "D101").count == 1
        assert finding(report, "D406").severity == "error"
        with pytest.raises(DataError, match="D406"):
            load(tmp_path, log, ITEMS)

    def test_an_empty_part_among_others_is_a_warning(self, tmp_path):
        full, empty = write(tmp_path / "a.csv", LOG), write(tmp_path / "b.csv", "")
        dataset = load_dataset([empty, full], None, DataConfig())
        assert histories(dataset) == EXPECTED
        assert finding(dataset.report, "D101").examples[0].file == str(empty)

    def test_only_so_many_places_are_listed(self, tmp_path):
        path = write(tmp_path / "log.csv", LOG + "u1,,1600000001\n" * 50)
        assert len(finding(check_data(path, None, LENIENT), "D302").examples) == 20
        listed = finding(check_data(path, None, LENIENT, listed=1000), "D302")
        assert [row.row for row in listed.examples] == list(range(6, 56))


pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40)


class TestCore:
    @quick
    @given(pairs, st.integers(0, 4), st.integers(0, 4))
    def test_the_core_is_what_dropping_one_by_one_leaves(self, events, user_core, item_core):
        left = list(range(len(events)))
        while True:
            users, items = Counter(events[i][0] for i in left), Counter(events[i][1] for i in left)
            bad = [i for i in left if users[events[i][0]] < user_core or items[events[i][1]] < item_core]
            if not bad:
                break
            left.remove(bad[0])
        users_, items_ = (np.array([e[k] for e in events], np.int32) for k in (0, 1))
        assert np.flatnonzero(core(users_, items_, user_core, item_core)).tolist() == left

    @quick
    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=30))
    def test_repeats_and_ties_are_those_that_brute_force_finds(self, rows):
        rows.sort(key=lambda r: (r[0], r[2]))
        users, items = (np.array([r[k] for r in rows], np.int32) for k in (0, 1))
        times = np.array([r[2] for r in rows], np.int64)
        assert repeats(users, items, times).tolist() == [rows[i] in rows[:i] for i in range(len(rows))]
        moments = Counter((r[0], r[2]) for r in rows)
        assert ties(users, times).tolist() == [moments[r[0], r[2]] > 1 for r in rows]

    def test_short_histories_go(self, tmp_path):
        dataset = load(tmp_path, LOG, ITEMS, DataConfig(min_history=3))
        assert histories(dataset) == {"u1": ["20", "10", "30"]}
        assert finding(dataset.report, "D401").count == 1
        assert rows_of(dataset.report, "D403") == [3]
        assert_accounted(dataset.report)
