"""The interaction log: every row is checked, and the valid rows become events of numbers.

On the path of the data: between the files and cleaning (`distill.data.clean`). Every row is valid or is rejected for
exactly one reason. An event takes 16 bytes: two numbers for its ids, and a time; its weight, if it has one, takes 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.columns import LogColumns, given_column
from pocketrec.distill.data.files import TableFile, read_batches
from pocketrec.distill.data.parse import RowBatch
from pocketrec.distill.data.report import ColumnChoice, FindingLog, Places, Row
from pocketrec.distill.data.values import MISSING, IdIndex, Unit, as_ids, as_numbers, find_unit, read_times
from pocketrec.distill.data.weights import row_weights
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import DataError


@dataclass(frozen=True)
class Events:
    """The valid rows, in file order. users, items: int32 [n], numbers of ids; times: int64 [n], or None.

    weights: float32 [n], at least 0; None if the configuration gives events none.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64] | None
    weights: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class LogSummary:
    """Facts about the log besides its events.

    user_ids: String, user k at index k. places: places of the events, in file order. clock: whether their times are
    timestamps, not positions. dated: whether these are points in time, not plain numbers.
    """

    user_ids: pl.Series
    places: Places
    clock: bool
    dated: bool
    rows_read: int
    rows_rejected: int
    rows_filtered: int


# Why a row is not an event; the first reason found counts. Damaged rows are counted where they are parsed.
VALID, DAMAGED, WRONG_EVENT, LOW_RATING, UNKNOWN_ITEM = 0, 1, 2, 3, 4
BAD_ROWS = {5: "D301", 6: "D302", 7: "D303", 8: "D304", 9: "D305", 10: "D306", 11: "D315"}
NO_USER, NO_ITEM, NO_TIME, MALFORMED_TIME, IMPLAUSIBLE_TIME, NO_RATING, NO_WEIGHT = BAD_ROWS


def read_log(
    tables: Sequence[TableFile],
    columns: LogColumns | None,
    config: DataConfig,
    findings: FindingLog,
    items: IdIndex,
    known: int | None,
    progress: Progress = SILENT,
) -> tuple[Events, LogSummary]:
    """Read a log, file by file.

    :param columns: the columns to read, the same in every file; None if no file has any.
    :param findings: records every row that is rejected or filtered.
    :param items: the numbers of items; begins with those of the catalogue.
    :param known: number of items in the catalogue, other items being unknown; None: no item is unknown.
    :raises DataError: if a file cannot be read, lacks a column, or has another kind of time than the others.
    """
    collector = _Collector(columns, config, findings, items, known)
    with progress.track("reading the log", len(tables)) as advance:
        for table in tables:
            before = collector.rows_read
            for batch in collector.batches(table):
                collector.add(str(table.path), batch)
                advance(0, note=f"{collector.rows_read:,} rows")
            if collector.rows_read == before:
                findings.add("D101", 1, "nothing read", rows=[Row(str(table.path), 1)])
            advance(1)
    return collector.events(), collector.summary()


class _Collector:
    """Checks batches of rows, records what is wrong as findings, and collects the valid rows."""

    def __init__(
        self,
        columns: LogColumns | None,
        config: DataConfig,
        findings: FindingLog,
        items: IdIndex,
        known: int | None,
    ) -> None:
        self.columns, self.config, self.findings, self.items, self.known = (
            columns,
            config,
            findings,
            items,
            known,
        )
        self.users, self.places, self.units = IdIndex(), Places(), dict[str, Unit]()
        self.rows_read = self.rows_rejected = self.rows_filtered = 0
        self.kept_users, self.kept_items = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        self.kept_times, self.kept_weights = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        self.by_type = config.type_weights
        self.weighted = bool(config.weight or self.by_type)

    def batches(self, table: TableFile) -> Iterator[RowBatch]:
        if self.columns is None or not table.columns:
            return
        for choice in self.columns.chosen:
            given_column(table, "interactions", choice.role, choice.column, f"data.{choice.role}")
        yield from read_batches(table, self.columns.names, self.findings, self.config.bad_rows)

    def add(self, file: str, batch: RowBatch) -> None:
        columns = self.columns
        if columns is None:
            return
        reasons = batch.damaged.astype(np.uint8)  # True is DAMAGED
        users = self.users.numbers(batch.frame[columns.user.column])
        items = self.items.numbers(batch.frame[columns.item.column])
        _mark(reasons, NO_USER, users == MISSING)
        _mark(reasons, NO_ITEM, items == MISSING)
        times = self._times(file, batch.frame, columns.order, reasons)
        self._filter(batch.frame, columns, reasons)
        weights, unnamed = self._weights(batch.frame, columns, reasons)
        if self.known is not None:
            _mark(reasons, UNKNOWN_ITEM, items >= self.known)
        self._count(file, batch, reasons)
        valid = reasons == VALID
        self.kept_users.append(users[valid])
        self.kept_items.append(items[valid])
        if columns.order is not None:
            self.kept_times.append(times[valid])
        if self.weighted:
            self.kept_weights.append(weights[valid])
            self._note_unnamed(file, batch, unnamed & valid)
        self.places.add(file, batch.rows if valid.all() else batch.row_numbers()[valid])

    def _times(
        self, file: str, frame: pl.DataFrame, order: ColumnChoice | None, reasons: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        """Return a batch's times, int64 [n], or [0] if the log has none."""
        if order is None:
            return np.zeros(0, np.int64)
        values = frame[order.column]
        unit = self.units.get(file) or find_unit(values, order.role == "position")
        if unit is not None:
            self.units[file] = unit
        times = read_times(values, unit or "number")
        _mark(reasons, NO_TIME, times.missing)
        _mark(reasons, MALFORMED_TIME, times.malformed)
        _mark(reasons, IMPLAUSIBLE_TIME, times.implausible)
        return times.values

    def _filter(self, frame: pl.DataFrame, columns: LogColumns, reasons: NDArray[np.uint8]) -> None:
        if columns.event is not None and self.config.keep_events:
            kept = as_ids(frame[columns.event.column]).is_in(list(self.config.keep_events)).fill_null(False)
            _mark(reasons, WRONG_EVENT, ~kept.to_numpy())
        if columns.rating is not None and self.config.min_rating is not None:
            ratings = as_numbers(frame[columns.rating.column])
            _mark(reasons, NO_RATING, ~np.isfinite(ratings))
            _mark(reasons, LOW_RATING, ratings < self.config.min_rating)

    def _weights(
        self, frame: pl.DataFrame, columns: LogColumns, reasons: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return a batch's weights and which rows have a type without one; both [0] if events have no weights."""
        weights, malformed, unnamed = row_weights(
            frame[columns.weight.column] if columns.weight else None,
            frame[columns.event.column] if columns.event and self.by_type else None,
            self.by_type,
        )
        if self.weighted:
            _mark(reasons, NO_WEIGHT, malformed)
        return weights, unnamed

    def _note_unnamed(self, file: str, batch: RowBatch, rows: NDArray[np.bool_]) -> None:
        places = Places()
        places.add(file, batch.rows)
        found = np.flatnonzero(rows)
        self.findings.add("D316", len(found), "kept, with weight 1", rows=places.rows(found))

    def _count(self, file: str, batch: RowBatch, reasons: NDArray[np.uint8]) -> None:
        places = Places()
        places.add(file, batch.rows)
        for reason, code in BAD_ROWS.items():
            self.findings.reject(code, reasons == reason, self.config.bad_rows, "bad_rows", places)
        self.findings.reject("D307", reasons == UNKNOWN_ITEM, self.config.unknown_items, "unknown_items", places)
        for reason, code, option in (
            (WRONG_EVENT, "D308", "keep_events"),
            (LOW_RATING, "D309", "min_rating"),
        ):
            rows = np.flatnonzero(reasons == reason)
            self.findings.add(code, len(rows), f"left out ({option})", "ok", places.rows(rows))
        filtered = int(np.isin(reasons, (WRONG_EVENT, LOW_RATING)).sum())
        self.rows_read += len(reasons)
        self.rows_filtered += filtered
        self.rows_rejected += int(np.count_nonzero(reasons)) - filtered

    def events(self) -> Events:
        """Concatenate the valid rows, one column at a time, so that at most one is in memory twice."""
        ordered = self.columns is not None and self.columns.order is not None
        users = np.concatenate(self.kept_users)
        self.kept_users.clear()
        items = np.concatenate(self.kept_items)
        self.kept_items.clear()
        times = np.concatenate(self.kept_times) if ordered else None
        self.kept_times.clear()
        weights = np.concatenate(self.kept_weights) if self.weighted else None
        self.kept_weights.clear()
        return Events(users, items, times, weights)

    def summary(self) -> LogSummary:
        """Return the facts about the log.

        :raises DataError: if the files have different kinds of time.
        """
        read = (self.rows_read, self.rows_rejected, self.rows_filtered)
        clock = self._settle_clock()
        dated = clock and "number" not in self.units.values()
        return LogSummary(self.users.names, self.places, clock, dated, *read)

    def _settle_clock(self) -> bool:
        """Return whether times are timestamps; numbers that are not points in time are recorded as a finding.

        :raises DataError: if some files have points in time and others have plain numbers.
        """
        if self.columns is None or self.columns.order is None or self.columns.order.role == "position":
            return False
        numbers = [file for file, unit in self.units.items() if unit == "number"]
        if numbers and len(numbers) < len(self.units):
            dated = next(file for file in self.units if file not in numbers)
            raise DataError(
                f"{numbers[0]} has plain numbers in column {self.columns.order.column!r}, {dated} has points in time; "
                "use one kind of time in all files (epoch seconds or ISO 8601)"
            )
        self.findings.add("D313", len(numbers), "kept", rows=[Row(file, 1) for file in numbers])
        return True


def _mark(reasons: NDArray[np.uint8], reason: int, rows: NDArray[np.bool_]) -> None:
    """Set the reason of those rows that have none yet."""
    reasons[rows & (reasons == VALID)] = reason
