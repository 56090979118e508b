"""What cleaning promises: any usual file gives the same histories, and every row is accounted for."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketrec.distill import data_files, data_text
from pocketrec.distill.config import DataConfig
from pocketrec.distill.data import Dataset, check_data, load_dataset
from pocketrec.distill.data_clean import core, repeats, ties
from pocketrec.distill.data_report import DataReport, Finding
from pocketrec.distill.data_values import IdIndex, find_unit, read_times
from pocketrec.distill.splits import split_users
from pocketrec.runtime.errors import ConfigError, DataError

LENIENT = DataConfig(max_bad_share=0.99)
LOG = "user_id,item_id,timestamp\nu1,10,1600000002\nu2,20,1600000001\nu1,20,1600000001\nu1,30,1600000003\n"
ITEMS = "item_id,title\n10,Ten\n20,Twenty\n30,Thirty\n40,Forty\n"

quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def load(folder: Path, log: str | bytes, items: str | None = None, config: DataConfig = LENIENT) -> Dataset:
    catalogue = None if items is None else write(folder / "items.csv", items)
    return load_dataset(write(folder / "log.csv", log), catalogue, config)


def check(folder: Path, log: str | bytes, items: str | None = None, config: DataConfig = LENIENT) -> DataReport:
    catalogue = None if items is None else write(folder / "items.csv", items)
    return check_data(write(folder / "log.csv", log), catalogue, config)


def histories(dataset: Dataset) -> dict[str, list[str]]:
    ids = dataset.catalogue.item_ids
    return {
        user: [ids[i] for i in history] for user, history in zip(dataset.user_ids.to_list(), dataset.users, strict=True)
    }


def finding(report: DataReport, code: str) -> Finding:
    found = [f for f in report.findings if f.code == code]
    assert len(found) == 1, [str(f) for f in report.findings]
    return found[0]


def rows_of(report: DataReport, code: str) -> list[int]:
    return [row.row for row in finding(report, code).examples]


def assert_accounted(report: DataReport) -> None:
    c = report.counts
    assert c.rows_read == c.rows_rejected + c.rows_filtered + c.rows_duplicate + c.rows_below_core + c.events


EXPECTED = {"u1": ["20", "10", "30"], "u2": ["20"]}
RECORDS = [line.split(",") for line in LOG.splitlines()[1:]]
TYPED = {
    "user_id": [r[0] for r in RECORDS],
    "item_id": [int(r[1]) for r in RECORDS],
    "timestamp": [int(r[2]) for r in RECORDS],
}
JSON_LINES = "".join(
    json.dumps({name: column[i] for name, column in TYPED.items()}) + "\n" for i in range(len(RECORDS))
)


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("log.csv", LOG),
            ("log.csv.gz", LOG),
            ("LOG.CSV", LOG),
            ("log.csv", LOG.replace("\n", "\r\n")),
            ("log.csv", LOG.rstrip("\n")),
            ("log.csv", LOG.replace("\n", "\n\n")),
            ("log.csv", "\ufeff" + LOG),
            ("log.csv", LOG.replace(",", ";")),
            ("log.csv", LOG.replace("u1", '"u1"')),
            ("log.tsv", LOG.replace(",", "\t")),
            ("log.txt", LOG.replace(",", "|")),
            ("log.jsonl", JSON_LINES),
            ("log.ndjson.gz", JSON_LINES),
            ("log.jsonl", "\ufeff" + JSON_LINES.replace("\n", "\n\n")),
        ],
    )
    def test_the_same_log_in_any_text_format_gives_the_same_histories(self, tmp_path, name, text):
        dataset = load_dataset(write(tmp_path / name, text), None, DataConfig())
        assert histories(dataset) == EXPECTED
        assert dataset.report.counts.rows_read == 4

    def test_parquet_gives_the_same_histories(self, tmp_path):
        pl.DataFrame(TYPED).write_parquet(tmp_path / "log.parquet")
        assert histories(load_dataset(tmp_path / "log.parquet", None, DataConfig())) == EXPECTED

    def test_gzip_is_known_by_its_first_bytes_not_its_name(self, tmp_path):
        (tmp_path / "log.csv").write_bytes(gzip.compress(LOG.encode()))
        assert histories(load_dataset(tmp_path / "log.csv", None, DataConfig())) == EXPECTED

    def test_parts_in_a_folder_or_a_list_are_one_log(self, tmp_path):
        head, *lines = LOG.splitlines()
        folder = tmp_path / "parts"
        folder.mkdir()
        first = write(folder / "part-0.csv", "\n".join([head, *lines[:2]]))
        # Columns may stand in another order, in another format.
        pl.DataFrame(TYPED).select("timestamp", "item_id", "user_id")[2:].write_parquet(folder / "part-1.parquet")
        write(folder / "_SUCCESS", "")
        assert histories(load_dataset(folder, None, DataConfig())) == EXPECTED
        assert histories(load_dataset([first, folder / "part-1.parquet"], None, DataConfig())) == EXPECTED

    @pytest.mark.parametrize("size", [1, 7, 40, 61])
    def test_the_size_of_a_block_changes_nothing(self, tmp_path, monkeypatch, size):
        text = LOG + 'u3,"2""0",1600000005\nu3,"a\nb",1600000006\nbad\nu3,30,1600000007\n'
        whole = load(tmp_path, text)
        monkeypatch.setattr(data_text, "BLOCK_BYTES", size)
        pieces = load(tmp_path, text)
        assert histories(pieces) == histories(whole)
        assert pieces.report == whole.report
        assert rows_of(pieces.report, "D105") == [9]

    def test_the_size_of_a_parquet_batch_changes_nothing(self, tmp_path, monkeypatch):
        pl.DataFrame(TYPED | {"item_id": [10, None, 20, 30]}).write_parquet(tmp_path / "log.parquet")
        whole = load_dataset(tmp_path / "log.parquet", None, LENIENT)
        monkeypatch.setattr(data_files, "PARQUET_ROWS", 1)
        pieces = load_dataset(tmp_path / "log.parquet", None, LENIENT)
        assert histories(pieces) == histories(whole) == {"u1": ["20", "10", "30"]}
        assert rows_of(pieces.report, "D302") == rows_of(whole.report, "D302") == [1]

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("log.xlsx", b"PK\x03\x04", "unknown kind"),
            ("log.csv", b"PK\x03\x04...", "not a text file"),
            ("log.csv", "a,b\n".encode("utf-16"), "UTF-16"),
            ("log.csv", b"user_id,item_id\ru,i\r", "carriage return"),
            ("log.csv", b"\n\nx", "first line is blank"),
            ("log.csv.gz", None, "truncated"),
            ("log.parquet", b"PAR1 no parquet", "cannot be read"),
            ("log.jsonl", b'[{"user_id": 1}]', "none of the first"),
        ],
    )
    def test_what_cannot_be_read_is_refused_in_one_sentence(self, tmp_path, name, content, words):
        path = tmp_path / name
        path.write_bytes(gzip.compress(LOG.encode() * 500)[:-20] if content is None else content)
        with pytest.raises(DataError, match=words) as error:
            check_data(path, None, LENIENT)
        assert str(path) in str(error.value)

    def test_a_path_that_does_not_exist_is_named(self, tmp_path):
        with pytest.raises(DataError, match=r"nothing\.csv does not exist"):
            load_dataset(tmp_path / "nothing.csv", None, DataConfig())

    def test_a_folder_without_known_files_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="no file of a known kind"):
            load_dataset(tmp_path, None, DataConfig())


class TestIds:
    def test_numbers_and_their_text_are_the_same_id(self, tmp_path):
        pl.DataFrame(TYPED).write_parquet(tmp_path / "log.parquet")
        items = write(tmp_path / "items.csv", ITEMS)
        dataset = load_dataset(tmp_path / "log.parquet", items, DataConfig())
        assert histories(dataset) == EXPECTED
        assert dataset.catalogue.titles == ["Ten", "Twenty", "Thirty", "Forty"]

    def test_floats_with_whole_values_are_whole_ids(self):
        index = IdIndex()
        assert index.numbers(pl.Series([1.0, None, 2.5, float("nan")])).tolist() == [0, -1, 1, -1]
        assert index.numbers(pl.Series([1, 3])).tolist() == [0, 2]
        assert index.numbers(pl.Series([" 1 ", "", "2.5", "  "])).tolist() == [0, -1, 1, -1]
        assert index.names.to_list() == ["1", "2.5", "3"]

    def test_leading_zeros_are_kept(self):
        assert IdIndex().numbers(pl.Series(["01", "1"])).tolist() == [0, 1]

    def test_categories_are_their_names(self):
        index = IdIndex()
        assert index.numbers(pl.Series(["b", "a"], dtype=pl.Categorical)).tolist() == [0, 1]
        assert index.numbers(pl.Series(["c", "a"], dtype=pl.Categorical)).tolist() == [2, 1]

    def test_lists_cannot_be_ids(self):
        with pytest.raises(DataError, match="must be text or numbers"):
            IdIndex().numbers(pl.Series("item_id", [[1], [2]]))

    @quick
    @given(st.lists(st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=8), max_size=6))
    def test_ids_are_numbered_in_order_of_first_appearance(self, batches):
        index, seen = IdIndex(), []
        for batch in batches:
            seen += [i for i in dict.fromkeys(batch) if i is not None and i not in seen]
            expected = [-1 if i is None else seen.index(i) for i in batch]
            assert index.numbers(pl.Series(batch, dtype=pl.Int64)).tolist() == expected
        assert index.names.to_list() == [str(i) for i in seen]


class TestColumns:
    @pytest.mark.parametrize(
        "header",
        ["userId,movieId,timestamp", "reviewerID,asin,unixReviewTime", "User ID,Product-ID,created_at", "uid,sku,ts"],
    )
    def test_usual_names_are_guessed(self, tmp_path, header):
        dataset = load(tmp_path, LOG.replace("user_id,item_id,timestamp", header))
        assert histories(dataset) == EXPECTED
        assert [(c.role, c.column, c.how) for c in dataset.report.columns] == [
            (role, name, "guessed") for role, name in zip(("user", "item", "timestamp"), header.split(","), strict=True)
        ]

    def test_options_name_columns(self, tmp_path):
        config = DataConfig(user="a", item="b", timestamp="c")
        dataset = load(tmp_path, LOG.replace("user_id,item_id,timestamp", "a,b,c"), config=config)
        assert histories(dataset) == EXPECTED
        assert {c.how for c in dataset.report.columns} == {"given"}

    @pytest.mark.parametrize(
        ("header", "config", "words"),
        [
            ("x,item_id,timestamp", DataConfig(), r"data\.user .*x, item_id, timestamp"),
            ("user_id,x,timestamp", DataConfig(), r"data\.item "),
            ("user_id,customer_id,item_id", DataConfig(), r"user_id and customer_id .*data\.user"),
            ("user_id,item_id,timestamp", DataConfig(user="who"), r"'who' \(data\.user\).*user_id, item_id"),
            ("user_id,item_id,item_id", DataConfig(item="item_id"), "several columns"),
            ("user_id,item_id,x", DataConfig(keep_events=("buy",)), r"data\.event"),
            ("user_id,item_id,x", DataConfig(min_rating=3), r"data\.rating"),
            ("user_id,item_id,time", DataConfig(timestamp="time", position="time"), "keep the one"),
        ],
    )
    def test_a_missing_or_ambiguous_column_is_refused_with_the_option_to_set(self, tmp_path, header, config, words):
        with pytest.raises(DataError, match=words):
            load(tmp_path, LOG.replace("user_id,item_id,timestamp", header), config=config)

    def test_a_part_without_a_column_is_named(self, tmp_path):
        first = write(tmp_path / "a.csv", LOG)
        second = write(tmp_path / "b.csv", LOG.replace("item_id", "thing"))
        with pytest.raises(DataError, match=r"b\.csv: no column named 'item_id'"):
            load_dataset([first, second], None, DataConfig())


def micros(*values: str) -> list[int]:
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    return [(datetime.fromisoformat(v) - epoch) // timedelta(microseconds=1) for v in values]


class TestTimes:
    @pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
    @pytest.mark.parametrize("as_text", [False, True])
    def test_epoch_units_are_told_by_size(self, factor, as_text):
        values = pl.Series([1_600_000_000 * factor, 900_000_000 * factor])
        values = values.cast(pl.String) if as_text else values
        unit = find_unit(values)
        assert unit is not None
        assert read_times(values, unit).values.tolist() == [1_600_000_000_000_000, 900_000_000_000_000]

    def test_fractions_of_seconds_count(self):
        values = pl.Series(["1600000000.25", "1600000000"])
        assert read_times(values, "s").values.tolist() == [1_600_000_000_250_000, 1_600_000_000_000_000]
        assert read_times(values.cast(pl.Float64), "s").values.tolist() == [
            1_600_000_000_250_000,
            1_600_000_000_000_000,
        ]

    @pytest.mark.parametrize(
        ("text", "iso"),
        [
            ("2014-05-06", "2014-05-06T00:00:00+00:00"),
            ("2014-05-06T07:08", "2014-05-06T07:08:00+00:00"),
            ("2014-05-06 07:08:09", "2014-05-06T07:08:09+00:00"),
            ("2014-05-06T07:08:09Z", "2014-05-06T07:08:09+00:00"),
            ("2014-05-06T07:08:09.123456Z", "2014-05-06T07:08:09.123456+00:00"),
            ("2014-05-06 07:08:09 UTC", "2014-05-06T07:08:09+00:00"),
            ("2014-05-06T07:08:09+02:00", "2014-05-06T07:08:09+02:00"),
            ("2014-05-06T07:08:09-0530", "2014-05-06T07:08:09-05:30"),
        ],
    )
    def test_iso_dates_and_times_are_read(self, text, iso):
        values = pl.Series([text])
        assert find_unit(values) == "calendar"
        assert read_times(values, "calendar").values.tolist() == micros(iso)

    @pytest.mark.parametrize("text", ["06.05.2014", "2014-13-01", "2014-02-30", "yesterday", "2014-05-06T25:00"])
    def test_other_dates_are_malformed(self, text):
        times = read_times(pl.Series([text, "2014-05-06"]), "calendar")
        assert times.malformed.tolist() == [True, False]

    def test_datetimes_with_and_without_zone_are_read(self):
        moment = datetime(2014, 5, 6, 7, 8, 9, tzinfo=timezone.utc)
        zoned = pl.Series([moment]).cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone("Europe/Paris")
        plain = pl.Series([moment.replace(tzinfo=None)]).cast(pl.Datetime("ms"))
        for values in (zoned, plain):
            assert read_times(values, "calendar").values.tolist() == micros(moment.isoformat())

    def test_each_file_may_have_its_own_unit(self, tmp_path):
        first = write(tmp_path / "a.csv", "user_id,item_id,time\nu,1,1600000003\nu,2,1600000001\n")
        second = write(tmp_path / "b.csv", "user_id,item_id,time\nu,3,2020-09-13T12:26:42Z\n")
        assert histories(load_dataset([first, second], None, DataConfig())) == {"u": ["2", "3", "1"]}

    def test_plain_numbers_beside_points_in_time_are_refused(self, tmp_path):
        first = write(tmp_path / "a.csv", "user_id,item_id,time\nu,1,1600000003\n")
        second = write(tmp_path / "b.csv", "user_id,item_id,time\nu,3,17\n")
        with pytest.raises(DataError, match=r"b\.csv has plain numbers.*a\.csv"):
            load_dataset([first, second], None, DataConfig())

    def test_plain_numbers_are_an_order(self, tmp_path):
        dataset = load(tmp_path, "user_id,item_id,time\nu,1,20140103\nu,2,20140102\n")
        assert histories(dataset) == {"u": ["2", "1"]}
        assert finding(dataset.report, "D313").severity == "warning"

    def test_ties_keep_file_order(self, tmp_path):
        log = "user_id,item_id,time\n" + "".join(f"u,{i},2014-05-06\n" for i in (5, 3, 9, 1, 7))
        dataset = load(tmp_path, log)
        assert histories(dataset) == {"u": ["5", "3", "9", "1", "7"]}
        assert finding(dataset.report, "D311").count == 5

    def test_a_position_orders_but_is_no_time(self, tmp_path):
        dataset = load(tmp_path, "user_id,item_id,position\nu,1,2\nu,2,0\nu,3,1.0\n")
        assert histories(dataset) == {"u": ["2", "3", "1"]}
        assert dataset.times is None
        with pytest.raises(ConfigError, match="timestamp"):
            split_users(dataset.users, dataset.times, DataConfig(split="global-time"))

    def test_without_either_the_file_order_counts(self, tmp_path):
        dataset = load(tmp_path, "user_id,item_id\nv,1\nu,3\nu,2\nu,3\n")
        assert histories(dataset) == {"v": ["1"], "u": ["3", "2", "3"]}
        assert dataset.times is None
        assert finding(dataset.report, "D312").severity == "warning"

    def test_times_are_aligned_with_events(self, tmp_path):
        dataset = load(tmp_path, LOG)
        assert dataset.times is not None
        assert (dataset.times // 10**6 - 1_600_000_000).tolist() == [1, 2, 3, 1]


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

    def test_too_many_bad_rows_are_refused_whatever_the_rules_say(self, tmp_path):
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


class TestCatalogue:
    def test_every_item_stays_in_file_order_with_or_without_events(self, tmp_path):
        dataset = load(tmp_path, LOG, ITEMS, DataConfig(item_core=2))
        assert dataset.catalogue.item_ids == ["10", "20", "30", "40"]
        assert histories(dataset) == {"u1": ["20"], "u2": ["20"]}
        assert finding(dataset.report, "D405").count == 3

    def test_without_one_the_items_of_the_kept_events_are_it(self, tmp_path):
        dataset = load(tmp_path, LOG, None, DataConfig(item_core=2))
        assert (dataset.catalogue.item_ids, dataset.catalogue.titles) == (["20"], ["20"])
        assert dataset.catalogue.texts == [""]

    def test_of_repeated_ids_the_first_stays_and_rows_without_id_go(self, tmp_path):
        items = ITEMS + "20,Second\n,Nameless\n 10 ,Spaces\n50\n"
        dataset = load(tmp_path, LOG, items)
        assert dataset.catalogue.titles == ["Ten", "Twenty", "Thirty", "Forty"]
        codes = ("D202", "D201", "D105")
        assert [rows_of(dataset.report, code) for code in codes] == [[6, 8], [7], [9]]
        assert dataset.report.counts.catalogue_rows_rejected == 4
        with pytest.raises(DataError, match=r"D206.*50\.0%"):
            load(tmp_path, LOG, items, DataConfig())
        with pytest.raises(DataError, match="D202"):
            load(tmp_path, LOG, items, DataConfig(bad_rows="refuse", max_bad_share=0.99))

    def test_text_is_the_title_and_all_columns_of_words(self, tmp_path):
        items = "item_id,genre,title,year,image\n10,Drama,Ten,1999,http://x/y\n20,,Twenty,2001,http://x/z\n30,,,,\n"
        dataset = load(tmp_path, LOG, items)
        assert dataset.catalogue.texts == ["Ten. Drama", "Twenty", ""]
        assert dataset.catalogue.titles == ["Ten", "Twenty", "30"]
        assert rows_of(dataset.report, "D203") == rows_of(dataset.report, "D204") == [4]
        config = DataConfig(text=("year", "genre"))
        assert load(tmp_path, LOG, items, config).catalogue.texts == ["Ten. 1999. Drama", "Twenty. 2001", ""]

    def test_nested_json_and_parquet_lists_are_text(self, tmp_path):
        log = write(tmp_path / "log.csv", LOG)
        lines = [
            {"item_id": 10, "title": "Ten", "tags": [["a", "b"], ["c"]]},
            {"item_id": 20.0, "title": "Twenty", "tags": None},
            {"item_id": "30", "tags": ["d"]},
        ]
        path = write(tmp_path / "items.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        catalogue = load_dataset(log, path, DataConfig()).catalogue
        assert (catalogue.item_ids, catalogue.texts) == (["10", "20", "30"], ["Ten. a, b, c", "Twenty", "d"])
        table = pl.DataFrame({"id": [10, 20, 30], "name": ["x", "y", "z"], "tags": [["a", None, "b"], [], None]})
        table.with_columns(pl.struct("id").alias("extra")).write_parquet(tmp_path / "items.parquet")
        catalogue = load_dataset(log, tmp_path / "items.parquet", DataConfig()).catalogue
        assert (catalogue.item_ids, catalogue.texts) == (["10", "20", "30"], ["x. a, b", "y", "z"])

    def test_the_name_of_the_logs_item_column_finds_the_id(self, tmp_path):
        items = ITEMS.replace("item_id,title", "thing,title")
        log = LOG.replace("item_id", "thing")
        assert histories(load(tmp_path, log, items, DataConfig(item="thing"))) == EXPECTED

    def test_images_follow_their_rows(self, tmp_path):
        images = np.arange(12, dtype=np.float32).reshape(6, 2)
        np.save(tmp_path / "images.npy", images)
        config = DataConfig(images=str(tmp_path / "images.npy"), max_bad_share=0.9)
        dataset = load(tmp_path, LOG, "item_id,title\n10,Ten\n10,Again\n\n20,Twenty\n,None\nbad\n30,Thirty\n", config)
        assert dataset.catalogue.images is not None
        assert dataset.catalogue.images.tolist() == images[[0, 2, 5]].tolist()

    @pytest.mark.parametrize(
        ("images", "words"),
        [(np.zeros((3, 2)), "rows of the catalogue"), (np.full((4, 2), np.nan), "4 rows that are not finite")],
    )
    def test_images_that_do_not_fit_are_refused(self, tmp_path, images, words):
        np.save(tmp_path / "images.npy", images)
        with pytest.raises(DataError, match=words):
            load(tmp_path, LOG, ITEMS, DataConfig(images=str(tmp_path / "images.npy")))

    def test_images_need_a_catalogue(self, tmp_path):
        with pytest.raises(ConfigError, match="needs a catalogue"):
            load(tmp_path, LOG, None, DataConfig(images="images.npy"))

    def test_an_empty_catalogue_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="D207"):
            load(tmp_path, LOG, "")


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


class TestReport:
    def test_it_is_json_with_counts_columns_and_findings(self, tmp_path):
        tree = json.loads(json.dumps(check(tmp_path, LOG + "u1,99,1600000009\n", ITEMS).to_dict()))
        assert (tree["rows_read"], tree["users"], tree["items"], tree["events"]) == (5, 2, 4, 4)
        assert tree["density"] == 4 / 8
        assert (tree["history"]["min"], tree["history"]["max"]) == (1, 3)
        assert {"table": "items", "role": "title", "column": "title", "how": "guessed"} in tree["columns"]
        unknown = next(f for f in tree["findings"] if f["code"] == "D307")
        assert unknown["examples"] == [{"file": str(tmp_path / "log.csv"), "row": 6}]
        assert unknown["rule"] == "dropped (unknown_items = drop)"

    def test_users_with_nothing_to_ask_are_noted(self, tmp_path):
        assert finding(check(tmp_path, LOG, ITEMS), "D404").count == 1

    cell = st.one_of(
        st.sampled_from(["", "u", "v", "1", "2", "1600000001", "1600000002", "99", "x", '"', "é", "\n", " "]),
        st.text(max_size=4),
    )

    @quick
    @given(st.lists(st.lists(cell, min_size=1, max_size=4), max_size=12), st.booleans())
    def test_every_row_of_any_table_is_accounted_for(self, tmp_path, table, with_catalogue):
        text = io.StringIO()
        csv.writer(text).writerows([["user", "item", "time"], *table])
        report = check(tmp_path, text.getvalue().encode("utf-8", "replace"), ITEMS if with_catalogue else None)
        assert_accounted(report)
        if not any("\r" in cell or "\0" in cell for row in table for cell in row):
            assert report.counts.rows_read == len(table)

    @quick
    @given(st.binary(max_size=200))
    def test_any_bytes_are_reported_or_refused_but_never_crash(self, tmp_path, data):
        for name, head in (("log.csv", b"user,item,time\n"), ("log.jsonl", b'{"user":1,"item":2}\n')):
            path = write(tmp_path / name, head + data)
            try:
                report = check_data(path, None, LENIENT)
            except DataError as error:
                report, message = None, str(error)
            if report is None:
                assert str(path) in message
            else:
                assert_accounted(report)

    scraps = st.sampled_from(["1", ",", ",", '"', '""', "\n", "\r\n", "\r", "\0", "é", " ", "u,1,2\n", '"u","1",2\n'])

    @quick
    @given(st.lists(scraps, max_size=30).map("".join), st.booleans(), st.integers(1, 30))
    def test_the_size_of_a_block_changes_nothing_in_any_file(self, tmp_path, monkeypatch, text, latin, size):
        body = text.encode("latin-1" if latin else "utf-8")
        whole = check(tmp_path, b"user,item,position\n" + body)
        with monkeypatch.context() as patch:
            patch.setattr(data_text, "BLOCK_BYTES", size)
            assert check(tmp_path, b"user,item,position\n" + body) == whole
        assert_accounted(whole)

    texts = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\n") | st.just('"'), max_size=6)

    @quick
    @given(st.lists(texts, min_size=1, max_size=10))
    def test_titles_come_back_as_they_were_written(self, tmp_path, titles):
        text = io.StringIO()
        rows = [[f"i{k}", title] for k, title in enumerate(titles)]
        csv.writer(text, lineterminator="\n").writerows([["item_id", "title"], *rows])
        log = "user,item\nu,i0\n"
        dataset = load(tmp_path, log, text.getvalue())
        assert dataset.catalogue.titles == [title.strip() or f"i{k}" for k, title in enumerate(titles)]


@pytest.mark.beauty
def test_amazon_beauty_has_the_published_counts(beauty):
    dataset = load_dataset(beauty / "interactions.csv.gz", beauty / "items.csv.gz", DataConfig())
    counts = dataset.report.counts
    assert (counts.users, counts.items, counts.items_seen, counts.events) == (22363, 12101, 12101, 198502)
    assert (counts.rows_read, counts.rows_rejected, dataset.times) == (198502, 0, None)
    assert dataset.report.findings == ()
    split = split_users(dataset.users, dataset.times, DataConfig())
    assert (len(split.train), len(split.valid), len(split.test)) == (22363, 22363, 22363)
    assert split.train.lengths.sum() == 198502 - 2 * 22363
