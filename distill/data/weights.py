"""How much each event counts: a column of the log, its type, its age.

On the path of the data: rows get the first two while the log is read (`distill.data.log`), training events the third
after the split (`distill.data.splits`). The crowd's graph and its popularity count by these weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pocketrec.distill.data.values import as_ids, as_numbers

MICROSECONDS_PER_DAY = 86_400_000_000


def row_weights(
    values: pl.Series | None, types: pl.Series | None, by_type: Mapping[str, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the weights of rows: the value of the column, times the weight of the event type.

    :param values: the weight column; None: 1 everywhere.
    :param types: the event column; None: types do not count.
    :param by_type: weights of event types; a type without one has weight 1.
    :return: weights, float32 [n]; which are malformed (no number, negative, infinite; their weight is 0), bool [n];
        which rows have a type without a weight, bool [n].
    """
    n = len(values if values is not None else types if types is not None else ())
    given, unnamed = np.ones(n), np.zeros(n, np.bool_)
    if values is not None:
        given = as_numbers(values)
    if types is not None:
        found = as_ids(types).replace_strict(dict(by_type), default=None, return_dtype=pl.Float64)
        unnamed = found.is_null().to_numpy()
        given = given * found.fill_null(1.0).to_numpy()
    with np.errstate(over="ignore"):
        weights = given.astype(np.float32)
    malformed = ~(np.isfinite(weights) & (weights >= 0))
    return np.where(malformed, np.float32(0), weights), malformed, unnamed


def aged(
    weights: NDArray[np.float32] | None, times: NDArray[np.int64], newest: int, half_life: float
) -> NDArray[np.float32]:
    """Return weights that halve with every `half_life` days before the newest event; newer ones stay as they are.

    :param weights: float32 [n]; None: 1 everywhere.
    :param times: int64 [n], microseconds.
    :param newest: time of the newest event of training.
    """
    days = np.maximum(newest - times, 0) / MICROSECONDS_PER_DAY
    decay = np.exp2(-days / half_life).astype(np.float32)
    return decay if weights is None else weights * decay
