"""The catalogue: every item that can be recommended, once, in file order, with title and text.

On the path of the data: read before the interaction log, whose items are looked up in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.columns import given_column, id_column, title_column
from pocketrec.distill.data.files import TableFile, find_files, open_table, read_batches
from pocketrec.distill.data.report import ColumnChoice, FindingLog, Places, Row
from pocketrec.distill.data.values import as_ids, as_text, is_text
from pocketrec.distill.data.vectors import finite_vectors, open_vectors

ID = "\0id"  # not the name of any column, since NUL bytes are removed from headers


@dataclass(frozen=True)
class Catalogue:
    """Item ids, titles and texts; row i is item i everywhere.

    item_ids, titles, texts: one per item; a text is the title and the other text columns joined, "" if all are empty.
    images: float32 [n_items, d], or None.
    """

    item_ids: list[str]
    titles: list[str]
    texts: list[str]
    images: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.item_ids)


@dataclass(frozen=True)
class CatalogueRead:
    """A catalogue, the files and columns that it was read from, and the number of rows read and rejected."""

    catalogue: Catalogue
    files: tuple[str, ...]
    columns: tuple[ColumnChoice, ...]
    rows_read: int
    rows_rejected: int


def read_catalogue(
    items: Path | Sequence[Path], config: DataConfig, findings: FindingLog, log_item: str | None = None
) -> CatalogueRead:
    """Read and clean a catalogue: rows without an id are dropped; of rows with the same id the first is kept.

    :param findings: records every rejected row, and items without text or title.
    :param log_item: name of the log's item column, a hint for the id column.
    :raises DataError: if a file cannot be read, a column is missing or ambiguous, or the images do not fit.
    """
    tables = [open_table(path) for path in find_files(items)]
    first = next((table for table in tables if table.columns), None)
    columns = () if first is None else _choose(first, config, log_item)
    rows = _read_rows(tables, columns, config, findings)
    keep = np.flatnonzero(_sound(rows, config, findings))
    read, rejected = len(rows.damaged), len(rows.damaged) - len(keep)
    if rejected > config.max_bad_share * read:
        rule = f"refused (max_bad_share = {config.max_bad_share:g}; {rejected / read:.1%} of {read:,} rows)"
        findings.add("D206", rejected, rule, "error")
    if len(keep) == 0:
        findings.add("D207", 1, "refused", "error")
    columns = tuple(c for c in columns if c.role != "text" or c.how == "given" or is_text(rows.frame[c.column]))
    catalogue = _compose(rows.frame[keep], columns, _read_images(config.images, read, keep))
    _note_missing(catalogue, rows, keep, findings)
    return CatalogueRead(catalogue, tuple(str(t.path) for t in tables), columns, read, rejected)


@dataclass(frozen=True)
class _Rows:
    """All rows of all files. frame: the chosen columns as text, and the ids in column `ID`; damaged: bool [n]."""

    frame: pl.DataFrame
    places: Places
    damaged: NDArray[np.bool_]


def _choose(table: TableFile, config: DataConfig, log_item: str | None) -> tuple[ColumnChoice, ...]:
    ids, title = id_column(table, config, log_item), title_column(table, config)
    used = [ids, *([title] if title else [])]
    if config.text:
        texts = [given_column(table, "items", "text", name, "data.text") for name in config.text]
    else:
        others = dict.fromkeys(name for name in table.columns if name not in {c.column for c in used})
        texts = [ColumnChoice("items", "text", name, "guessed") for name in others]
    return (*used, *texts)


def _read_rows(
    tables: Sequence[TableFile], columns: Sequence[ColumnChoice], config: DataConfig, findings: FindingLog
) -> _Rows:
    schema = dict.fromkeys([ID, *(c.column for c in columns)], pl.String)
    frames, places, damaged = [pl.DataFrame(schema=schema)], Places(), [np.zeros(0, np.bool_)]
    for table in tables:
        before = len(places)
        if table.columns:
            given_column(table, "items", "item_id", columns[0].column, "data.item_id")
        chosen = [c for c in columns if c.column in table.columns]
        for batch in read_batches(table, [c.column for c in chosen], findings, config.bad_rows):
            texts = {c.column: _column_text(batch.frame[c.column], c) for c in chosen}
            frames.append(pl.DataFrame({ID: as_ids(batch.frame[columns[0].column]), **texts}))
            damaged.append(batch.damaged)
            places.add(str(table.path), batch.rows)
        if len(places) == before:
            findings.add("D101", 1, "nothing read", rows=[Row(str(table.path), 1)])
    return _Rows(pl.concat(frames, how="diagonal"), places, np.concatenate(damaged))


def _column_text(values: pl.Series, choice: ColumnChoice) -> pl.Series:
    """Return a column as text; a guessed column of objects or bytes counts as empty."""
    if choice.how == "guessed" and isinstance(values.dtype, (pl.Struct, pl.Binary, pl.Object)):
        return pl.Series([None] * len(values), dtype=pl.String)
    return as_text(values)


def _sound(rows: _Rows, config: DataConfig, findings: FindingLog) -> NDArray[np.bool_]:
    """Return which rows are kept, bool [n], and record the others as findings."""
    ids = rows.frame[ID]
    missing = ids.is_null().to_numpy() & ~rows.damaged
    findings.reject("D201", missing, config.bad_rows, "bad_rows", rows.places)
    given = ids.is_not_null().to_numpy() & ~rows.damaged
    repeated = given & ~(ids.is_first_distinct().to_numpy())
    findings.reject("D202", repeated, config.bad_rows, "bad_rows", rows.places)
    return np.asarray(given & ~repeated, np.bool_)


def _compose(frame: pl.DataFrame, columns: Sequence[ColumnChoice], images: NDArray[np.float32] | None) -> Catalogue:
    titles = next((frame[c.column] for c in columns if c.role == "title"), None)
    named = [c.column for c in columns if c.role in ("title", "text")]
    joined = pl.concat_str(named, separator=". ", ignore_nulls=True) if named else pl.lit("")
    ids = frame[ID].to_list()
    texts = frame.select(pl.col(ID), joined.alias("text"))["text"].fill_null("").to_list()
    shown = ids if titles is None else [title or id_ for title, id_ in zip(titles.to_list(), ids, strict=True)]
    return Catalogue(ids, shown, texts, images)


def _note_missing(catalogue: Catalogue, rows: _Rows, keep: NDArray[np.int64], findings: FindingLog) -> None:
    """Record the items without text or title as findings."""
    textless = keep[[not text for text in catalogue.texts]]
    findings.add("D203", len(textless), "kept, with an empty text", rows=rows.places.rows(textless))
    untitled = np.array([title == id_ for title, id_ in zip(catalogue.titles, catalogue.item_ids, strict=True)], bool)
    findings.add("D204", int(untitled.sum()), "kept", rows=rows.places.rows(keep[untitled]))


def _read_images(images: str | None, rows_read: int, keep: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Read the image vectors of the rows that are kept; the file has one for every row read, also for rejected rows."""
    if images is None:
        return None
    path = Path(images)
    vectors = open_vectors(path, rows_read, "data.images", "rows of the catalogue")
    return finite_vectors(vectors[keep], path, "data.images", keep.tolist())
