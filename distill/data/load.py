"""From an interaction log and a catalogue to clean histories, with a report of everything that was rejected.

The first step on the path of the data. Promises: each row is an event or is in exactly one count of the report;
histories are oldest first, ties in file order; row i of the catalogue is item i everywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.catalogue import Catalogue, CatalogueRead, read_catalogue
from pocketrec.distill.data.clean import SortedEvents, clean, sort_events
from pocketrec.distill.data.columns import LogColumns, log_columns
from pocketrec.distill.data.files import find_files, open_table
from pocketrec.distill.data.log import LogSummary, read_log
from pocketrec.distill.data.report import DataCounts, DataReport, FindingLog
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.data.values import IdIndex
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

__all__ = ["Catalogue", "DataReport", "Dataset", "check_data", "load_dataset"]

QUANTILES = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True)
class Dataset:
    """Clean histories and the catalogue whose rows they contain.

    user_ids: String [n_users], ids of the rows of `users`. users: every history, oldest first, catalogue rows; with
    weights of events where the configuration gives any (`half_life` is not in them yet: training decides it). times:
    int64 [n_events], aligned with `users.items`, microseconds since 1970 UTC, or the log's own numbers if these are not
    points in time; None if the log has only positions or file order.
    """

    catalogue: Catalogue
    user_ids: pl.Series
    users: Sequences
    times: NDArray[np.int64] | None
    report: DataReport


def load_dataset(
    interactions: Path | Sequence[Path],
    items: Path | Sequence[Path] | None,
    config: DataConfig,
    progress: Progress = SILENT,
) -> Dataset:
    """Read, clean and sort a log and its catalogue.

    :param interactions: the log: CSV, TSV, JSON lines (each also as .gz) or Parquet; a file, several files, or folders.
    :param items: the catalogue, of the same kinds; None: the items of the log, with their ids as titles.
    :param config: columns, filters, and what invalid rows lead to.
    :param progress: told about every file and batch.
    :raises DataError: if a file cannot be read, a column is missing or ambiguous, or the data is refused by a finding.
    """
    dataset = _prepare(interactions, items, config, FindingLog(), progress, strict=True)
    counts = dataset.report.counts
    logger.info("%d users, %d items, %d events", counts.users, counts.items, counts.events)
    return dataset


def check_data(
    interactions: Path | Sequence[Path],
    items: Path | Sequence[Path] | None,
    config: DataConfig,
    listed: int = 20,
    progress: Progress = SILENT,
) -> DataReport:
    """Read and clean as `load_dataset` does, and return the report, also if the data would be refused.

    :param listed: number of places to list for each finding.
    :raises DataError: if a file cannot be read, or a column is missing or ambiguous.
    """
    return _prepare(interactions, items, config, FindingLog(listed), progress, strict=False).report


def load_items(items: Path | Sequence[Path], config: DataConfig) -> Catalogue:
    """Read and clean a catalogue without a log; parameters and errors as for `load_dataset`."""
    findings = FindingLog()
    read = read_catalogue(items, config, findings)
    _refuse(findings)
    return read.catalogue


def _prepare(
    interactions: Path | Sequence[Path],
    items: Path | Sequence[Path] | None,
    config: DataConfig,
    findings: FindingLog,
    progress: Progress,
    strict: bool,
) -> Dataset:
    """Read, clean and report. With `strict`, raise as soon as a finding refuses the data."""
    tables = [open_table(path) for path in find_files(interactions)]
    first = next((table for table in tables if table.columns), None)
    columns = None if first is None else log_columns(first, config)
    read = _read_catalogue(items, config, columns, findings)
    if strict:
        _refuse(findings)
    index = IdIndex(None if read is None else pl.Series(read.catalogue.item_ids, dtype=pl.String))
    known = None if read is None else len(index)
    events, log = read_log(tables, columns, config, findings, index, known, progress)
    _judge_log(log, columns, config, findings)
    ordered = sort_events(events)
    del events  # as large as the sorted events
    ordered = clean(ordered, log.places, config, findings)
    catalogue, items_of_events = _number_items(read, index, ordered.items)
    starts = np.flatnonzero(np.diff(ordered.users, prepend=-1)).astype(np.int64)
    ends = np.append(starts[1:], len(ordered.users)).astype(np.int64)[: len(starts)]
    users = Sequences(items_of_events, starts, ends, ordered.weights)
    _judge_histories(users, catalogue, config, findings)
    if strict:
        _refuse(findings)
    chosen = (*(columns.chosen if columns else ()), *(read.columns if read else ()))
    files = (*(str(table.path) for table in tables), *(read.files if read else ()))
    counts = _count(log, ordered, users, catalogue, read)
    report = DataReport(files, chosen, counts, findings.findings())
    times = ordered.times if log.clock else None
    return Dataset(catalogue, log.user_ids[ordered.users[starts]], users, times, report)


def _read_catalogue(
    items: Path | Sequence[Path] | None, config: DataConfig, columns: LogColumns | None, findings: FindingLog
) -> CatalogueRead | None:
    if items is not None:
        return read_catalogue(items, config, findings, columns.item.column if columns else None)
    if config.images is not None:
        raise ConfigError("data.images needs a catalogue (--items), since there is one vector per row of the catalogue")
    findings.add("D205", 1, "kept", "ok")
    return None


def _judge_log(log: LogSummary, columns: LogColumns | None, config: DataConfig, findings: FindingLog) -> None:
    if columns is not None and columns.order is None:
        findings.add("D312", 1, "kept; set data.timestamp or data.position if there is one")
    if log.rows_rejected > config.max_bad_share * log.rows_read:
        share = f"{log.rows_rejected / log.rows_read:.1%} of {log.rows_read:,} rows"
        rule = f"refused (max_bad_share = {config.max_bad_share:g}; {share})"
        findings.add("D314", log.rows_rejected, rule, "error")
    if config.half_life is not None and not log.dated:
        findings.add("D317", 1, "refused; set data.timestamp to a column of dates or epoch times", "error")


def _number_items(
    read: CatalogueRead | None, index: IdIndex, items: NDArray[np.int32]
) -> tuple[Catalogue, NDArray[np.int32]]:
    """Return the catalogue and each event's row in it; if none was read, the items with events are the catalogue."""
    if read is not None:
        return read.catalogue, items
    used = np.bincount(items, minlength=len(index)) > 0
    ids = index.names.filter(pl.Series(used)).to_list()
    row = np.cumsum(used, dtype=np.int32) - np.int32(1)
    return Catalogue(ids, list(ids), [""] * len(ids)), row[items]


def _judge_histories(users: Sequences, catalogue: Catalogue, config: DataConfig, findings: FindingLog) -> None:
    if len(users) == 0:
        findings.add("D406", 1, "refused", "error")
    elif users.weights is not None and not users.weights.any():
        findings.add("D407", 1, "refused", "error")
    if config.split == "leave-one-out":
        findings.add("D404", int((users.lengths < 3).sum()), "kept for training")
    findings.add("D405", len(catalogue) - _distinct(users.items), "kept", "ok")


def _count(
    log: LogSummary, ordered: SortedEvents, users: Sequences, catalogue: Catalogue, read: CatalogueRead | None
) -> DataCounts:
    pairs = len(users) * len(catalogue)
    history = np.quantile(users.lengths, list(QUANTILES.values())) if len(users) else np.zeros(len(QUANTILES))
    return DataCounts(
        rows_read=log.rows_read,
        rows_rejected=log.rows_rejected,
        rows_filtered=log.rows_filtered,
        rows_duplicate=ordered.duplicates,
        rows_below_core=ordered.below_core,
        events=len(users.items),
        users=len(users),
        items=len(catalogue),
        items_seen=_distinct(users.items),
        density=len(users.items) / pairs if pairs else 0.0,
        history={name: float(value) for name, value in zip(QUANTILES, history, strict=True)},
        catalogue_rows_read=read.rows_read if read else 0,
        catalogue_rows_rejected=read.rows_rejected if read else 0,
    )


def _distinct(items: NDArray[np.int32]) -> int:
    return int(np.count_nonzero(np.bincount(items)))


def _refuse(findings: FindingLog) -> None:
    """Raise if a finding refuses the data; for too many rejected rows, list the reasons, too."""
    found = findings.findings()
    lines = [str(finding) for finding in found if finding.severity == "error"]
    if not lines:
        return
    if any(finding.code in ("D206", "D314") for finding in found):
        lines += [str(finding) for finding in found if finding.rule.startswith("dropped (") and finding.examples]
    raise DataError("\n  ".join(["the data is refused:", *lines, "`pocketrec data check` lists every finding"]))
