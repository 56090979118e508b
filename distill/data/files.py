"""Files in, batches of rows out: CSV, TSV, JSON lines (each also gzipped) and Parquet, a block at a time.

On the path of the data: the first step of reading a log or a catalogue. Only the needed columns are returned, and no
file is held in memory as a whole. Every record becomes exactly one row; a record that cannot be parsed is a row of
nulls marked `damaged`, counted and listed with its line number.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from pocketrec.distill.data.parse import RowBatch, csv_batches, json_batches, json_columns
from pocketrec.distill.data.report import Action, FindingLog
from pocketrec.distill.data.text import MARK, LineNotes, blocks, decode, open_bytes, readable
from pocketrec.runtime.errors import DataError

PARQUET_ROWS = 1 << 20

Kind = Literal["csv", "jsonl", "parquet"]
KINDS: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True)
class TableFile:
    """A file and the names of its columns; a file of zero bytes has none."""

    path: Path
    kind: Kind
    columns: tuple[str, ...]
    separator: str = ","


def find_files(paths: Path | Sequence[Path]) -> list[Path]:
    """Return the files of a path, several paths, or folders.

    The files of a folder are sorted by path; hidden files and files of unknown kinds are left out.

    :raises DataError: if a path does not exist or a folder holds no file of a known kind.
    """
    found: list[Path] = []
    for path in [paths] if isinstance(paths, Path) else list(paths):
        if path.is_dir():
            parts = sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] not in "._" and _suffix(p) in KINDS)
            if not parts:
                raise DataError(f"{path}: the folder contains no file of a known kind ({', '.join(KINDS)})")
            found += parts
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist")
    if not found:
        raise DataError("no file to read was given")
    return found


def open_table(path: Path) -> TableFile:
    """Read the names of a file's columns, from the header, the first JSON lines, or the Parquet schema.

    :raises DataError: if the kind of file is unknown, or its beginning cannot be read.
    """
    kind = KINDS.get(_suffix(path))
    if kind is None:
        raise DataError(f"{path}: unknown kind of file; supported are {', '.join(KINDS)}, text files also with .gz")
    if path.stat().st_size == 0:
        return TableFile(path, kind, ())
    if kind == "parquet":
        with readable(path):
            return TableFile(path, kind, tuple(pl.scan_parquet(path).collect_schema().names()))
    if kind == "jsonl":
        with open_bytes(path) as stream:
            return TableFile(path, kind, json_columns(str(path), stream))
    with open_bytes(path) as stream:
        header = stream.readline()
        if not header:
            return TableFile(path, kind, ())
    return _parse_header(path, header)


def read_batches(table: TableFile, needed: Sequence[str], findings: FindingLog, action: Action) -> Iterator[RowBatch]:
    """Yield every record of a file, in order.

    :param needed: the columns to read, as in `table.columns`.
    :param findings: records damaged rows and lines that are not UTF-8.
    :param action: what such rows lead to: they are dropped, or the data is refused.
    :raises DataError: if the file as a whole cannot be read (truncated gzip or Parquet, not text).
    """
    if not table.columns:
        return
    if table.kind == "parquet":
        yield from _parquet_batches(table, needed)
        return
    notes = LineNotes(str(table.path), findings, action)
    with open_bytes(table.path) as stream:
        if table.kind == "jsonl":
            notes.byte_order_mark(stream.read(3))
            stream.seek(0)
            yield from json_batches(blocks(stream), needed, notes)
        else:
            notes.byte_order_mark(stream.readline())
            yield from csv_batches(blocks(stream), table.columns, table.separator, needed, notes)


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _parse_header(path: Path, header: bytes) -> TableFile:
    text = decode(header.removeprefix(MARK).replace(b"\0", b"")).rstrip("\r\n")
    if "\r" in text:
        raise DataError(f"{path}: lines end in a bare carriage return; save it with \\n or \\r\\n as line end")
    separator = "\t" if _suffix(path) in (".tsv", ".tab") else max(",\t;|", key=text.count)
    names = next(csv.reader([text], delimiter=separator), [])
    columns = tuple(name.strip() for name in names)
    if not any(columns):
        raise DataError(f"{path}: the first line is blank; it must contain the names of the columns")
    return TableFile(path, "csv", columns, separator)


def _parquet_batches(table: TableFile, needed: Sequence[str]) -> Iterator[RowBatch]:
    with readable(table.path):
        lazy = pl.scan_parquet(table.path).select(list(needed))
        total = int(lazy.select(pl.len()).collect().item())
        for first in range(0, total, PARQUET_ROWS):
            frame = lazy.slice(first, PARQUET_ROWS).collect()
            rows = range(first, first + frame.height)
            yield RowBatch(frame, rows, np.zeros(frame.height, np.bool_))
