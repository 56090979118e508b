"""Findings of reading and cleaning: rejected, repaired and unusual rows are counted, and their places are listed.

On the path of the data: a `FindingLog` is filled while files are read; `pocketrec data check` shows the `DataReport` of
it. Each kind of finding has a code that can be searched for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Severity = Literal["ok", "warning", "error"]
Action = Literal["drop", "refuse"]

# D1: files and lines. D2: the catalogue. D3: rows of the log. D4: the result of filters and split.
CODES: Mapping[str, str] = {
    "D101": "files without rows",
    "D102": "files that start with a UTF-8 byte order mark",
    "D103": "lines that are not UTF-8, read as Windows-1252",
    "D104": "rows with NUL bytes",
    "D105": "rows with more or fewer fields than the header",
    "D106": "rows with an unclosed or misplaced quote",
    "D107": "lines that are not a JSON object",
    "D201": "catalogue rows without an item id",
    "D202": "catalogue rows that repeat an item id",
    "D203": "items without any text",
    "D204": "items without a title; their id is used as the title",
    "D205": "missing catalogue; the items of the log are the catalogue, their ids are the titles",
    "D206": "catalogue rows rejected, above the limit",
    "D207": "catalogue without any valid item",
    "D301": "rows without a user",
    "D302": "rows without an item",
    "D303": "rows without a timestamp or position",
    "D304": "rows with a malformed timestamp or position",
    "D305": "rows with an implausible timestamp: epoch time, but before 1990 or after 2099",
    "D306": "rows with a missing or malformed rating",
    "D307": "rows whose item is not in the catalogue",
    "D308": "rows of an event type that is not kept",
    "D309": "rows below the minimum rating",
    "D310": "rows that repeat an event: same user, item and time",
    "D311": "events at the same time as another event of the same user; they keep file order",
    "D312": "log without a timestamp or position column; events are in file order",
    "D313": "files whose timestamps are plain numbers, not epoch times; they only give the order",
    "D314": "log rows rejected, above the limit",
    "D315": "rows whose weight is no number of at least 0",
    "D316": "rows of an event type that event_weights does not name",
    "D317": "log without points in time, which half_life needs",
    "D401": "users dropped, with fewer events than the larger of user_core and min_history",
    "D402": "items dropped from the log, with fewer events than item_core",
    "D403": "events dropped with those users and items",
    "D404": "users with fewer than 3 events; leave-one-out uses them for training only",
    "D405": "catalogue items without an event; they can be recommended all the same",
    "D406": "log without any valid event",
    "D407": "log whose events all have weight 0",
}


@dataclass(frozen=True)
class Row:
    """A place in an input file. row: line number of a text file, from 1 with the header; of Parquet, from 0."""

    file: str
    row: int

    def __str__(self) -> str:
        """Return `file:row`, as compilers write it."""
        return f"{self.file}:{self.row}"


class Places:
    """The places of many rows, file after file; a batch of consecutive rows takes no memory per row."""

    def __init__(self) -> None:
        """Start empty."""
        self._starts: list[int] = []
        self._batches: list[tuple[str, range | NDArray[np.int64]]] = []
        self._length = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._length

    def add(self, file: str, rows: range | NDArray[np.int64]) -> None:
        """Append rows of a file."""
        self._starts.append(self._length)
        self._batches.append((file, rows))
        self._length += len(rows)

    def rows(self, indices: NDArray[np.int64]) -> Iterator[Row]:
        """Yield the places of rows, each looked up when it is requested."""
        for index in indices:
            batch = bisect_right(self._starts, int(index)) - 1
            file, rows = self._batches[batch]
            yield Row(file, int(rows[int(index) - self._starts[batch]]))


@dataclass(frozen=True)
class Finding:
    """One kind of finding: code, count, description, the rule that was applied, and the first places."""

    code: str
    severity: Severity
    count: int
    what: str
    rule: str
    examples: tuple[Row, ...] = ()

    def __str__(self) -> str:
        """Return one line: code, count, description, rule and the first places."""
        places = f" ({', '.join(map(str, self.examples[:3]))})" if self.examples else ""
        return f"[{self.code}] {self.count:,} {self.what}: {self.rule}{places}"


@dataclass(frozen=True)
class ColumnChoice:
    """The column of a role (user, item, timestamp, …), and whether it was given or guessed by its name."""

    table: Literal["interactions", "items"]
    role: str
    column: str
    how: Literal["given", "guessed"]


@dataclass(frozen=True)
class DataCounts:
    """Numbers of rows, events, users and items.

    rows_read = rows_rejected + rows_filtered + rows_duplicate + rows_below_core + events.
    rejected: damaged, incomplete, malformed, or of an unknown item. filtered: by event type or rating. items: in the
    catalogue; items_seen: with an event. density: events / (users · items). history: quantiles of events per user.
    """

    rows_read: int = 0
    rows_rejected: int = 0
    rows_filtered: int = 0
    rows_duplicate: int = 0
    rows_below_core: int = 0
    events: int = 0
    users: int = 0
    items: int = 0
    items_seen: int = 0
    density: float = 0.0
    history: Mapping[str, float] = field(default_factory=dict)
    catalogue_rows_read: int = 0
    catalogue_rows_rejected: int = 0


@dataclass(frozen=True)
class DataReport:
    """The files read, the columns chosen, the counts, and the findings in the order of their codes."""

    files: tuple[str, ...]
    columns: tuple[ColumnChoice, ...]
    counts: DataCounts
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that refuse the data."""
        return tuple(f for f in self.findings if f.severity == "error")

    def to_dict(self) -> dict[str, Any]:
        """Return dictionaries and lists for JSON: the counts, then files, columns and findings."""
        counts = asdict(self.counts)
        return counts | {
            "files": list(self.files),
            "columns": [asdict(c) for c in self.columns],
            "findings": [asdict(f) | {"examples": [asdict(r) for r in f.examples]} for f in self.findings],
        }


class FindingLog:
    """Collects findings while data is read; additions with the same code and rule become one finding."""

    def __init__(self, listed: int = 20) -> None:
        """Start empty.

        :param listed: number of places to keep per finding.
        """
        self.listed = listed
        self._counts: Counter[tuple[str, str, Severity]] = Counter()
        self._rows: dict[tuple[str, str, Severity], list[Row]] = {}

    def add(self, code: str, count: int, rule: str, severity: Severity = "warning", rows: Iterable[Row] = ()) -> None:
        """Count a finding; a count of 0 adds nothing.

        :param code: a key of `CODES`.
        :param rule: what was done with the rows, in words.
        :param rows: their places, in order; the first `listed` of all additions are kept.
        """
        if count == 0:
            return
        key = (code, rule, severity)
        self._counts[key] += count
        places = self._rows.setdefault(key, [])
        places.extend(islice(rows, self.listed - len(places)))

    def reject(self, code: str, rejected: NDArray[np.bool_], action: Action, option: str, places: Places) -> None:
        """Count rejected rows, which a setting either drops or lets refuse the data.

        :param rejected: bool [n], over the rows of `places`.
        :param option: name of the setting, for the rule.
        """
        rows = places.rows(np.flatnonzero(rejected))
        count = int(np.count_nonzero(rejected))
        if action == "refuse":
            self.add(code, count, f"refused ({option} = refuse)", "error", rows)
        else:
            self.add(code, count, f"dropped ({option} = drop)", "warning", rows)

    def findings(self) -> tuple[Finding, ...]:
        """Return all findings, in the order of their codes."""
        return tuple(
            Finding(code, severity, count, CODES[code], rule, tuple(self._rows[code, rule, severity]))
            for (code, rule, severity), count in sorted(self._counts.items())
        )
