"""What the report promises: every row is accounted for, whatever the file."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given, reject
from hypothesis import strategies as st

from pocketrec.distill.data import text as data_text
from pocketrec.distill.data.load import check_data
from pocketrec.runtime.errors import DataError
from small_logs import ITEMS, LENIENT, LOG, assert_accounted, check, finding, load, quick, write


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
        try:
            csv.writer(text).writerows([["user", "item", "time"], *table])
        except csv.Error:  # Python 3.10 cannot write NUL
            reject()
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
