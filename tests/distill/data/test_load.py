"""What reading promises: any usual file gives the same histories."""

from __future__ import annotations

import gzip

import polars as pl
import pytest

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data import files as data_files
from pocketrec.distill.data import text as data_text
from pocketrec.distill.data.load import check_data, load_dataset
from pocketrec.distill.data.splits import split_users
from pocketrec.runtime.errors import DataError
from small_logs import EXPECTED, JSON_LINES, LENIENT, LOG, TYPED, histories, load, rows_of, write


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
