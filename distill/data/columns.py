"""Which column is the user, the item, the time …: the one that a setting names, or the one with a usual name.

On the path of the data: decided before any row is read. A column is guessed only if it is the only one with a usual
name for its role; otherwise the error names the columns and the setting.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.files import TableFile
from pocketrec.distill.data.report import ColumnChoice
from pocketrec.runtime.errors import DataError

Table = Literal["interactions", "items"]

# Compared without case, spaces and punctuation: "userId", "user_id" and "User ID" are the same name.
USUAL = {
    "user": "user userid uid customer customerid reviewerid visitorid memberid accountid clientid sessionid",
    "item": "item itemid iid movieid asin product productid sku articleid trackid songid bookid newsid",
    "timestamp": "timestamp time ts date datetime createdat eventtime unixreviewtime epoch tdat",
    "position": "position pos seq sequence step",
    "event": "event eventtype action behavior behaviour",
    "rating": "rating ratings overall stars score",
    "title": "title name itemname itemtitle productname producttitle prodname movietitle headline trackname",
}


@dataclass(frozen=True)
class LogColumns:
    """The columns of the log; `order` is a timestamp or a position, or None for file order."""

    user: ColumnChoice
    item: ColumnChoice
    order: ColumnChoice | None
    event: ColumnChoice | None
    rating: ColumnChoice | None
    weight: ColumnChoice | None = None

    @property
    def chosen(self) -> tuple[ColumnChoice, ...]:
        """Return the columns that are read."""
        every = (self.user, self.item, self.order, self.event, self.rating, self.weight)
        return tuple(choice for choice in every if choice is not None)

    @property
    def names(self) -> list[str]:
        """Return the names of the columns to read, without repetition."""
        return list(dict.fromkeys(c.column for c in self.chosen))


def log_columns(table: TableFile, config: DataConfig) -> LogColumns:
    """Choose the log's columns; those of events, ratings and weights only if a setting needs them.

    :raises DataError: if a column is missing or ambiguous.
    """
    if config.timestamp and config.position:
        raise DataError("data.timestamp and data.position are both set; remove one of them")
    return LogColumns(
        _required(table, "interactions", "user", config.user, "data.user"),
        _required(table, "interactions", "item", config.item, "data.item"),
        _order(table, config),
        _required(table, "interactions", "event", config.event, "data.event")
        if config.keep_events or config.type_weights
        else None,
        _required(table, "interactions", "rating", config.rating, "data.rating")
        if config.min_rating is not None
        else None,
        None if config.weight is None else given_column(table, "interactions", "weight", config.weight, "data.weight"),
    )


def id_column(table: TableFile, config: DataConfig, log_item: str | None) -> ColumnChoice:
    """Choose the catalogue's id column: the one given, one named as the log's item column, a usual name, or `id`.

    :param log_item: the name of the log's item column, the best guess if the catalogue has it, too.
    :raises DataError: if no column qualifies, or several do.
    """
    if config.item_id is None:
        for name in (log_item, None if _usual(table, "item") else _find_id(table)):
            if name is not None and table.columns.count(name) == 1:
                return ColumnChoice("items", "item_id", name, "guessed")
    choice = _required(table, "items", "item", config.item_id, "data.item_id")
    return ColumnChoice("items", "item_id", choice.column, choice.how)


def title_column(table: TableFile, config: DataConfig) -> ColumnChoice | None:
    """Choose the catalogue's title column, if it has one.

    :raises DataError: if the given column is missing, or several have usual names.
    """
    return _optional(table, "items", "title", config.title, "data.title")


def given_column(table: TableFile, kind: Table, role: str, name: str, option: str) -> ColumnChoice:
    """Return the choice of a column that a setting names.

    :raises DataError: if the file has no column of this name, or several.
    """
    if table.columns.count(name) == 1:
        return ColumnChoice(kind, role, name, "given")
    many = "several columns" if name in table.columns else "no column"
    raise DataError(f"{table.path}: {many} named {name!r} ({option}); it has: {', '.join(table.columns)}")


def _find_id(table: TableFile) -> str | None:
    return next((name for name in table.columns if _normalised(name) == "id"), None)


def _order(table: TableFile, config: DataConfig) -> ColumnChoice | None:
    if config.position:
        return given_column(table, "interactions", "position", config.position, "data.position")
    return _optional(table, "interactions", "timestamp", config.timestamp, "data.timestamp") or _optional(
        table, "interactions", "position", None, "data.position"
    )


def _normalised(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _usual(table: TableFile, role: str) -> Sequence[str]:
    usual = USUAL[role].split()
    return [name for name in table.columns if _normalised(name) in usual]


def _optional(table: TableFile, kind: Table, role: str, given: str | None, option: str) -> ColumnChoice | None:
    if given is not None:
        return given_column(table, kind, role, given, option)
    found = _usual(table, role)
    if len(found) > 1:
        raise DataError(f"{table.path}: {' and '.join(found)} could each be the {role} column; set {option} to one")
    return ColumnChoice(kind, role, found[0], "guessed") if found else None


def _required(table: TableFile, kind: Table, role: str, given: str | None, option: str) -> ColumnChoice:
    choice = _optional(table, kind, role, given, option)
    if choice is None:
        raise DataError(
            f"{table.path}: no column has a usual name for the {role}; "
            f"set {option} to one of: {', '.join(table.columns)}"
        )
    return choice
