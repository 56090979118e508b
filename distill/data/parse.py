"""Lines in, batches of rows out: CSV (any separator) and JSON lines.

On the path of the data: between clean text (`distill.data.text`) and tables (`distill.data.files`). Every record
becomes exactly one row; a record that cannot be parsed is a row of nulls marked `damaged`, never a shifted or merged
row.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pocketrec.distill.data.text import MARK, LineNotes, decode
from pocketrec.runtime.errors import DataError

BATCH_ROWS = 1 << 16
SAMPLE_LINES = 1000


@dataclass(frozen=True)
class RowBatch:
    """Rows in file order.

    frame: the needed columns, [n]; all String if from text files. rows: each row's place in the file, [n]: the line
    number, from 1 with the header included, or the row index of a Parquet file, from 0. damaged: bool [n], records that
    could not be parsed.
    """

    frame: pl.DataFrame
    rows: range | NDArray[np.int64]
    damaged: NDArray[np.bool_]

    def row_numbers(self) -> NDArray[np.int64]:
        """Return the rows as an array, int64 [n]."""
        return np.arange(self.rows.start, self.rows.stop) if isinstance(self.rows, range) else self.rows


def csv_batches(
    blocks: Iterator[bytes], columns: Sequence[str], separator: str, needed: Sequence[str], notes: LineNotes
) -> Iterator[RowBatch]:
    """Parse the lines after a header line.

    polars parses blocks without quotes. From the first quote on, Python's csv module parses: it finds the end of a
    record whose fields contain line ends, and a record that violates RFC 4180 costs only its own first line.

    :param blocks: whole lines, without the header.
    :param columns: the names in the header; every record must have as many fields.
    """
    where = [columns.index(name) for name in needed]
    line = 2
    for block in blocks:
        if b'"' in block:
            quoted = _QuotedLines(chain([block], blocks), line, notes)
            yield from _quoted_batches(quoted, len(columns), separator, where, needed, notes)
            return
        lines = block.count(b"\n")
        batch = _unquoted_batch(block, line, len(columns), separator, where, needed, notes)
        if len(batch.rows):
            yield batch
        line += lines


def _unquoted_batch(
    block: bytes,
    first: int,
    width: int,
    separator: str,
    where: list[int],
    needed: Sequence[str],
    notes: LineNotes,
) -> RowBatch:
    block, nul = notes.clean(block, first)
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    separators = np.flatnonzero(data == ord(separator))
    fields = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
    damaged = np.zeros(len(ends), np.bool_)
    damaged[np.array(nul, np.int64) - first] = True
    blank = (np.diff(ends, prepend=-1) == 1) & ~damaged
    ragged = (fields != width) & ~blank & ~damaged
    rows: range | NDArray[np.int64] = range(first, first + len(ends))
    notes.damaged("D104", nul)
    notes.damaged("D105", first + np.flatnonzero(ragged))
    damaged |= ragged
    if blank.any() or damaged.any():
        lines = block.split(b"\n")
        nulls = separator.encode() * (width - 1)
        kept = np.flatnonzero(~blank)
        block = b"".join((nulls if damaged[i] else lines[i]) + b"\n" for i in kept.tolist())
        rows, damaged = first + kept, damaged[kept]
    return RowBatch(_parse_unquoted(block, len(rows), separator, where, needed), rows, damaged)


def _parse_unquoted(block: bytes, height: int, separator: str, where: list[int], needed: Sequence[str]) -> pl.DataFrame:
    if height == 0:
        return pl.DataFrame(schema=dict.fromkeys(needed, pl.String))
    frame = pl.read_csv(
        block,
        has_header=False,
        columns=sorted(where),
        infer_schema=False,
        quote_char=None,
        separator=separator,
    )
    if frame.height != height:
        raise DataError(f"the CSV parser returned {frame.height} rows for {height} lines; please report this file")
    # The names of columns without a header depend on the version of polars; their order does not.
    frame.columns = [needed[where.index(i)] for i in sorted(where)]
    return frame.select(needed)


class _QuotedLines:
    """Lines as text for the csv parser; after a bad record, all its lines but the first can be given back."""

    def __init__(self, blocks: Iterator[bytes], first: int, notes: LineNotes) -> None:
        self.number = first  # of the next line
        self.record: list[str] = []  # lines returned since `begin`
        self.nul: set[int] = set()
        self._notes, self._ahead = notes, deque[str]()
        self._fresh = self._read(blocks, first)

    def _read(self, blocks: Iterator[bytes], number: int) -> Iterator[str]:
        for block in blocks:
            clean, nul = self._notes.clean(block, number)
            self.nul.update(nul)
            lines = clean.decode().split("\n")[:-1]
            number += len(lines)
            yield from (line + "\n" for line in lines)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._fresh)
        self.record.append(line)
        self.number += 1
        return line

    def begin(self) -> int:
        """Start a record; return its line number."""
        self.record.clear()
        return self.number

    def give_back(self) -> None:
        """Return all lines of the record but the first again."""
        self._ahead.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1


def _quoted_batches(
    lines: _QuotedLines, width: int, separator: str, where: list[int], needed: Sequence[str], notes: LineNotes
) -> Iterator[RowBatch]:
    reader = csv.reader(lines, delimiter=separator, strict=True)
    empty: list[str] = [""] * width
    while True:
        values: list[list[str]] = []
        rows: list[int] = []
        faults: dict[str, list[int]] = {"D104": [], "D105": [], "D106": []}
        for first, fields in _records(reader, lines):
            fault = _fault(fields, width, first, lines)
            if fault:
                faults[fault].append(first)
            elif not fields:
                continue  # a blank line
            values.append(fields if fields and not fault else empty)
            rows.append(first)
            if len(rows) == BATCH_ROWS:
                break
        for code, numbers in faults.items():
            notes.damaged(code, numbers)
        if not rows:
            return
        frame = pl.DataFrame(
            {
                name: pl.Series([v[i] or None for v in values], dtype=pl.String)
                for name, i in zip(needed, where, strict=True)
            }
        )
        yield RowBatch(frame, np.array(rows), np.isin(rows, list(chain(*faults.values()))))


def _fault(fields: list[str] | None, width: int, first: int, lines: _QuotedLines) -> str | None:
    if lines.nul and not lines.nul.isdisjoint(range(first, lines.number)):
        return "D104"
    if fields is None:
        return "D106"
    return "D105" if fields and len(fields) != width else None


def _records(reader: Iterator[list[str]], lines: _QuotedLines) -> Iterator[tuple[int, list[str] | None]]:
    """Yield the first line number and the fields of each record; None instead of fields if its quotes are broken."""
    while True:
        first = lines.begin()
        try:
            yield first, next(reader)
        except StopIteration:
            return
        except csv.Error:
            lines.give_back()
            yield first, None


def json_columns(file: str, stream: IO[bytes]) -> tuple[str, ...]:
    """Return the keys of the objects in the first lines, in order of appearance; none if there are no lines.

    :raises DataError: if none of these lines is a JSON object.
    """
    names: dict[str, None] = {}
    lines = list(islice(stream, SAMPLE_LINES))
    for line in lines:
        try:
            names |= dict.fromkeys(msgspec.json.decode(decode(line.removeprefix(MARK)), type=dict[str, Any]))
        except msgspec.DecodeError:
            continue
    if lines and not names:
        raise DataError(
            f"{file}: none of the first {SAMPLE_LINES} lines is a JSON object; write one object on each line"
        )
    return tuple(names)


def json_batches(blocks: Iterator[bytes], needed: Sequence[str], notes: LineNotes) -> Iterator[RowBatch]:
    """Parse lines of one JSON object each; every value is returned as text, lists joined with commas.

    :param blocks: whole lines.
    """
    fields = [(f"f{i}", Any, None) for i in range(len(needed))]
    names = {f"f{i}": name for i, name in enumerate(needed)}
    decoder = msgspec.json.Decoder(msgspec.defstruct("JsonRow", fields, rename=names))
    line = 1
    for block in blocks:
        clean, nul = notes.clean(block.removeprefix(MARK) if line == 1 else block, line)
        lines = clean.split(b"\n")[:-1]
        yield _json_batch(lines, line, decoder, needed, set(nul), notes)
        line += len(lines)


def _json_batch(
    lines: list[bytes],
    first: int,
    decoder: msgspec.json.Decoder[Any],
    needed: Sequence[str],
    nul: set[int],
    notes: LineNotes,
) -> RowBatch:
    columns: list[list[str | None]] = [[] for _ in needed]
    rows: list[int] = []
    malformed: list[int] = []
    for number, line in enumerate(lines, first):
        record = None
        if number not in nul:
            if not line.strip():
                continue
            try:
                record = decoder.decode(line)
            except msgspec.DecodeError:
                malformed.append(number)
        rows.append(number)
        for i, column in enumerate(columns):
            column.append(None if record is None else json_text(getattr(record, f"f{i}")))
    notes.damaged("D104", sorted(nul))
    notes.damaged("D107", malformed)
    frame = pl.DataFrame({name: pl.Series(c, dtype=pl.String) for name, c in zip(needed, columns, strict=True)})
    return RowBatch(frame, np.array(rows, np.int64), np.isin(rows, [*malformed, *nul]))


def json_text(value: Any) -> str | None:
    """Return a JSON value as text: integers without a decimal point, lists and objects joined with commas."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return ", ".join(part for part in map(json_text, value) if part) or None
    return str(value)
