"""The interaction log: rows judged one by one, the sound ones kept as numbers.

On the path of the data: between the files and `distill.data_clean`, which sorts and thins what is kept here. Every
row read is sound or has exactly one reason against it. An event takes 16 bytes: two numbers for its ids, and a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data_columns import LogColumns, given_column, log_columns
from pocketrec.distill.data_files import RowBatch, TableFile, read_batches
from pocketrec.distill.data_report import ColumnChoice, FindingLog, Places, Row
from pocketrec.distill.data_values import MISSING, IdIndex, Unit, as_ids, find_unit, read_times
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import DataError


@dataclass(frozen=True)
class Events:
    """Sound rows, in file order. users, items: int32 [n], numbers in the indices; times: int64 [n], or None.

    clock: whether the times are timestamps and not mere positions. user_ids: String, user k at k.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64] | None
    clock: bool
    user_ids: pl.Series
    places: Places
    columns: tuple[ColumnChoice, ...]
    rows_read: int
    rows_rejected: int
    rows_filtered: int


# Why a row is no event, in the order in which reasons are looked for; 0 where there is none.
DAMAGED, WRONG_TYPE, LOW_RATING, UNKNOWN_ITEM = 1, 8, 9, 10
REASONS = {2: "D301", 3: "D302", 4: "D303", 5: "D304", 6: "D305", 7: "D306"}


def read_log(
    tables: Sequence[TableFile],
    config: DataConfig,
    findings: FindingLog,
    items: IdIndex,
    known: int | None,
    progress: Progress = SILENT,
) -> Events:
    """Read a log, file by file.

    :param items: numbers the items; starts with the catalogue's.
    :param known: how many items the catalogue has, others being unknown; None: every item is welcome.
    :param findings: told about every row that is rejected or left out.
    :raises DataError: if a file cannot be read, a column is missing or ambiguous, or files disagree about time.
    """
    first = next((table for table in tables if table.columns), None)
    columns = None if first is None else log_columns(first, config)
    collector = _Collector(columns, config, findings, items, known)
    with progress.track("reading the log", len(tables)) as advance:
        for table in tables:
            before = collector.read
            for batch in collector.batches(table):
                collector.add(table, batch)
                advance(0, note=f"{collector.read:,} rows")
            if collector.read == before:
                findings.add("D101", 1, "nothing read", rows=[Row(str(table.path), 1)])
            advance(1)
    return collector.events()


class _Collector:
    """Judges batches and keeps what is sound."""

    def __init__(
        self, columns: LogColumns | None, config: DataConfig, findings: FindingLog, items: IdIndex, known: int | None
    ) -> None:
        self.columns, self.config, self.findings, self.items, self.known = columns, config, findings, items, known
        self.users, self.places = IdIndex(), Places()
        self.units: dict[TableFile, Unit] = {}
        self.read = self.rejected = self.filtered = 0
        self._users, self._items = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        self._times = [np.zeros(0, np.int64)]

    def batches(self, table: TableFile) -> Iterator[RowBatch]:
        if self.columns is None or not table.columns:
            return iter(())
        for choice in self.columns.chosen:
            given_column(table, "interactions", choice.role, choice.column, f"data.{choice.role}")
        return read_batches(table, self.columns.names, self.findings, self.config.bad_rows)

    def add(self, table: TableFile, batch: RowBatch) -> None:
        """Judge a batch, count what is wrong with it, keep the rest."""
        if self.columns is None:
            return
        frame, reasons = batch.frame, batch.damaged.astype(np.uint8)

        def mark(reason: int, rows: NDArray[np.bool_]) -> None:
            reasons[(reasons == 0) & rows] = reason

        users = self.users.numbers(frame[self.columns.user.column])
        items = self.items.numbers(frame[self.columns.item.column])
        mark(2, users == MISSING)
        mark(3, items == MISSING)
