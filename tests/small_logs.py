"""Small interaction logs, read and checked; what a report has to say of every row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from hypothesis import HealthCheck, settings

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.load import Dataset, check_data, load_dataset
from pocketrec.distill.data.report import DataReport, Finding

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
