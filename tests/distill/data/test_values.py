"""What ids and times promise, in whatever form a file has them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.load import load_dataset
from pocketrec.distill.data.splits import split_users
from pocketrec.distill.data.values import IdIndex, find_unit, read_times
from pocketrec.runtime.errors import ConfigError, DataError
from small_logs import EXPECTED, ITEMS, LOG, TYPED, finding, histories, load, quick, write


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
