"""Vectors that users bring as `.npy` files: one row per item or per row of the catalogue, opened and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.errors import DataError


def open_vectors(path: Path, rows: int, setting: str, row: str) -> NDArray[np.generic]:
    """Open a file of vectors by memory map, [rows, d].

    :param rows: the number of rows that the file must have.
    :param setting: name of the setting that gives the file, for messages.
    :param row: what a row of the file belongs to, for messages.
    :raises DataError: if the file is missing, is not a `.npy` file of numbers, or has another shape.
    """
    if not path.is_file():
        raise DataError(f"{setting}: {path} does not exist")
    try:
        vectors: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{setting}: {path} is not a .npy file of numbers: {error}") from error
    if vectors.ndim != 2 or vectors.shape[0] != rows:
        raise DataError(
            f"{setting}: {path} has shape {vectors.shape}; it needs one vector for each of the {rows} {row}"
        )
    return vectors


def finite_vectors(vectors: NDArray[np.generic], path: Path, setting: str, rows: Sequence[int]) -> NDArray[np.float32]:
    """Return vectors as float32.

    :param vectors: [n, d], rows of a file that `open_vectors` opened.
    :param rows: their row numbers in the file, for messages.
    :raises DataError: if a value is not finite.
    """
    out = np.asarray(vectors, np.float32)
    bad = np.flatnonzero(~np.isfinite(out).all(1))
    if len(bad):
        raise DataError(f"{setting}: {path} has {len(bad)} rows that are not finite, the first is row {rows[bad[0]]}")
    return out
