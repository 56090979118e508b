"""Values of columns: ids to numbers, times to microseconds, anything to text.

On the path of the data: between batches of rows (`distill.data.files`) and the events of a log (`distill.data.log`).
Pure functions; an id is the same whether a file contains it as text or as a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pocketrec.runtime.errors import DataError

Unit = Literal["s", "ms", "us", "ns", "calendar", "number"]

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EARLIEST, LATEST = 631_152_000, 4_102_444_800  # 1990 and 2100, in epoch seconds
MISSING = -1
ISO_8601 = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2}(?:[.,]\d{1,9})?)?)?"
    r" ?(Z|z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})?$"
)


def as_ids(values: pl.Series) -> pl.Series:
    """Return ids as text: integers without a decimal point, surrounding white space removed, empty ids as null.

    :raises DataError: if the column contains values that cannot be ids (lists, bytes, objects).
    """
    kind = values.dtype
    if kind.is_nested() or kind in (pl.Binary, pl.Object):
        if values.null_count() < len(values):
            raise DataError(f"column {values.name!r} is {kind}; it must be text or numbers")
        values = pl.Series(values.name, [None] * len(values), dtype=pl.String)
    text = pl.first().cast(pl.String).str.strip_chars()
    if kind.is_float():
        whole = pl.first().cast(pl.Int64, strict=False)
        is_whole = (whole.cast(pl.Float64) == pl.first()).fill_null(False)
        text = pl.when(is_whole).then(whole.cast(pl.String)).when(pl.first().is_not_nan()).then(text)
    elif kind.is_decimal():
        text = text.str.replace(r"\.0+$", "")
    return values.to_frame("id").with_columns(text.alias("id")).select(pl.when(pl.first() != "").then(pl.first()))["id"]


class IdIndex:
    """Numbers ids in order of first appearance, batch by batch; only distinct ids are converted to text."""

    def __init__(self, known: pl.Series | None = None) -> None:
        """Start with known ids: String, distinct, numbered in their order."""
        names = pl.Series("name", [], dtype=pl.String) if known is None else known.rename("name")
        self._table = _numbered(names, 0)

    @property
    def names(self) -> pl.Series:
        """The ids, String [n]; id k has number k."""
        return self._table["name"]

    def __len__(self) -> int:
        """Return the number of ids."""
        return self._table.height

    def numbers(self, ids: pl.Series) -> NDArray[np.int32]:
        """Return each id's number, int32 [n]; new ids get the next numbers, null ids get `MISSING`."""
        if not (ids.dtype.is_integer() or ids.dtype == pl.String):
            ids = as_ids(ids)
        ids = ids.rename("id")
        distinct = ids.unique(maintain_order=True)
        batch = pl.DataFrame({"id": distinct, "name": as_ids(distinct)}).drop_nulls()
        batch = batch.join(self._table, on="name", how="left", maintain_order="left")
        fresh = batch.filter(pl.col("number").is_null())["name"].unique(maintain_order=True)
        if len(fresh):
            added = _numbered(fresh, len(self))
            self._table = pl.concat([self._table, added], rechunk=True)
            batch = batch.join(added, on="name", how="left", suffix="_added")
            batch = batch.with_columns(pl.col("number").fill_null(pl.col("number_added")))
        found = ids.to_frame().join(batch.select("id", "number"), on="id", how="left", maintain_order="left")
        return found["number"].fill_null(MISSING).to_numpy().astype(np.int32, copy=False)


def _numbered(names: pl.Series, first: int) -> pl.DataFrame:
    return pl.DataFrame({"name": names, "number": np.arange(first, first + len(names), dtype=np.int32)})


@dataclass(frozen=True)
class Times:
    """The times of a column. values: int64 [n], microseconds since 1970 UTC, or plain numbers.

    The masks are bool [n]; at most one is set for a row, and the row's value is then undefined.
    """

    values: NDArray[np.int64]
    missing: NDArray[np.bool_]
    malformed: NDArray[np.bool_]
    implausible: NDArray[np.bool_]


def find_unit(values: pl.Series, position: bool = False) -> Unit | None:
    """Return the unit of a column of times, determined from the median value; None if the column is empty.

    Units of epoch numbers differ in magnitude: the ranges from 1990 to 2099 do not overlap. Other numbers only give an
    order ("number"). Dates, datetimes and text that is not a number are "calendar".
    """
    if values.dtype.is_temporal():
        return "calendar"
    given = values.drop_nulls()
    if given.dtype == pl.String:
        given = given.filter(given.str.strip_chars() != "")
    if len(given) == 0:
        return None
    numbers = given.cast(pl.Float64, strict=False).drop_nulls()
    if position:
        return "number"
    if 2 * len(numbers) < len(given):
        return "calendar"
    middle = abs(float(np.median(numbers.to_numpy())))
    for unit, factor in PER_SECOND.items():
        if EARLIEST * factor <= middle < LATEST * factor:
            return unit  # type: ignore[return-value]
    return "number"


def read_times(values: pl.Series, unit: Unit) -> Times:
    """Read times in a known unit. Calendar times without a zone are UTC; plain numbers must be integers.

    :param values: numbers, text of numbers or of ISO 8601 (date, or date and time), or dates and datetimes.
    """
    missing = values.is_null()
    if values.dtype == pl.String:
        missing |= (values.str.strip_chars() == "").fill_null(False)
    if unit == "calendar":
        read = _calendar(values)
        implausible = np.zeros(len(values), np.bool_)
        out = read.fill_null(0).to_numpy()
        malformed = read.is_null().to_numpy()
    else:
        out, malformed, implausible = _numbers(values, unit)
    absent = missing.to_numpy()
    return Times(out, absent, malformed & ~absent, implausible & ~malformed & ~absent)


def _numbers(values: pl.Series, unit: Unit) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    floats = as_numbers(values)
    # Integers keep all their digits; as a float64, nanoseconds since 1970 are exact only to some hundreds.
    exact = values.cast(pl.Int64, strict=False) if not values.dtype.is_float() else None
    if exact is None:
        whole, is_whole = np.zeros(len(values), np.int64), np.zeros(len(values), np.bool_)
    else:
        whole, is_whole = exact.fill_null(0).to_numpy(), exact.is_not_null().to_numpy()
    malformed = ~np.isfinite(floats)
    if unit == "number":
        fits = np.abs(floats) < 2.0**53
        malformed |= ~(is_whole | (fits & (floats == np.floor(floats))))
        rounded = np.where(malformed | is_whole, 0, floats).astype(np.int64)
        return np.where(is_whole, whole, rounded), malformed, np.zeros(len(values), np.bool_)
    factor = PER_SECOND[unit]
    implausible = ~malformed & ~((floats >= EARLIEST * factor) & (floats < LATEST * factor))
    good = ~malformed & ~implausible
    whole = np.where(good & is_whole, whole, 0)
    micros = whole * (10**6 // factor) if factor <= 10**6 else whole // (factor // 10**6)
    rough = np.rint(np.where(good & ~is_whole, floats, 0.0) * (10**6 / factor)).astype(np.int64)
    return np.where(is_whole, micros, rough), malformed, implausible


def _calendar(values: pl.Series) -> pl.Series:
    """Return microseconds since 1970 UTC, Int64, null where a value is not a calendar time."""
    if values.dtype.is_temporal():
        if values.dtype in (pl.Time, pl.Duration):
            raise DataError(f"column {values.name!r} is {values.dtype}; a timestamp needs a date")
        return pl.Series(values.cast(pl.Datetime("us")).cast(pl.Int64))
    text = pl.first().cast(pl.String).str.strip_chars()
    parts = text.str.extract_groups(ISO_8601).struct
    clock = pl.concat_str(
        parts[0], pl.lit("T"), parts[1].fill_null("00:00"), parts[2].str.replace(",", ".").fill_null(":00")
    )
    local = clock.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False).cast(pl.Int64)
    sign = pl.when(parts[3].str.starts_with("-")).then(-1).otherwise(1)
    hours = parts[3].str.extract(r"^[+-](\d{2})").cast(pl.Int64).fill_null(0)
    minutes = parts[3].str.extract(r"^[+-]\d{2}:?(\d{2})$").cast(pl.Int64).fill_null(0)
    return values.to_frame().select(local - sign * (hours * 3600 + minutes * 60) * 10**6).to_series()


def as_numbers(values: pl.Series) -> NDArray[np.float64]:
    """Return numbers, or text of numbers, as float64 [n]; NaN for other values."""
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    return np.asarray(values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy(), np.float64)


def as_text(values: pl.Series) -> pl.Series:
    """Return any column as text, String; lists are joined with commas, empty values are null.

    :raises DataError: if the column contains objects or bytes.
    """
    if isinstance(values.dtype, (pl.List, pl.Array)):
        joined = pl.first().cast(pl.List(pl.String)).list.drop_nulls().list.join(", ")
        values = values.to_frame().select(joined).to_series()
    return as_ids(values)


def is_text(values: pl.Series) -> bool:
    """Return whether most values of a text column contain a letter and are not web addresses."""
    given = values.drop_nulls()
    words = given.str.contains(r"\p{L}") & ~given.str.contains(r"^https?://")
    return len(given) > 0 and 2 * int(words.sum()) > len(given)
