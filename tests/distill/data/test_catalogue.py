"""What the catalogue promises: items, their titles and their texts."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.load import load_dataset
from pocketrec.runtime.errors import ConfigError, DataError
from small_logs import EXPECTED, ITEMS, LOG, finding, histories, load, rows_of, write


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
