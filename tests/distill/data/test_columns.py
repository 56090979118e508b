"""Which columns are read, and from which names they are guessed."""

from __future__ import annotations

import pytest

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.load import load_dataset
from pocketrec.runtime.errors import DataError
from small_logs import EXPECTED, LOG, histories, load, write


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
            ("user_id,item_id,time", DataConfig(timestamp="time", position="time"), "remove one of them"),
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
