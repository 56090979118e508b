"""From an interaction log and a catalogue to clean histories (first working form)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pocketrec.distill.config import DataConfig
from pocketrec.distill.splits import Sequences, Split, global_time, leave_one_out
from pocketrec.runtime.errors import DataError


@dataclass(frozen=True)
class Catalogue:
    """Row i is item i everywhere."""

    item_ids: list[str]
    titles: list[str]
    texts: list[str]
    images: NDArray[np.float32] | None


@dataclass(frozen=True)
class Dataset:
    """Clean histories and the catalogue they point into."""

    catalogue: Catalogue
    user_ids: pl.Series
    users: Sequences
    times: NDArray[np.int64] | None
    report: Any


def load_dataset(interactions: Path | Sequence[Path], items: Path | None, config: DataConfig) -> Dataset:
    """Read and clean."""
    log = pl.read_csv(interactions, infer_schema=False)
    table = pl.read_csv(items, infer_schema=False)
    rest = [c for c in table.columns if c not in ("item_id", "title")]
    titles = table["title"].fill_null("").to_list()
    texts = table.select(pl.concat_str(["title", *rest], separator=". ", ignore_nulls=True)).to_series().to_list()
    catalogue = Catalogue(table["item_id"].to_list(), titles, texts, None)
    rows = pl.DataFrame({"item_id": table["item_id"], "row": np.arange(len(table), dtype=np.int32)})
    log = log.join(rows, on="item_id", how="inner", maintain_order="left")
    names = log["user_id"].unique(maintain_order=True)
    codes = pl.DataFrame({"user_id": names, "user": np.arange(len(names), dtype=np.int32)})
    log = log.join(codes, on="user_id", maintain_order="left").with_columns(pl.col("position").cast(pl.Int64))
    log = log.sort(["user", "position"], maintain_order=True)
    ends = np.cumsum(np.bincount(log["user"].to_numpy(), minlength=len(names))).astype(np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
    users = Sequences(log["row"].to_numpy().astype(np.int32), starts, ends)
    return Dataset(catalogue, names, users, None, None)


def split_dataset(dataset: Dataset, config: DataConfig) -> Split:
    """Split as the configuration says."""
    if config.split == "leave-one-out":
        return leave_one_out(dataset.users)
    if dataset.times is None:
        raise DataError("the global-time split needs a timestamp column")
    return global_time(dataset.users, dataset.times, config.valid_share, config.test_share)
