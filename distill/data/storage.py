"""A cleaned dataset on disk: written by the data stage, read by the stages after it.

`events.safetensors`: items int32, starts, ends int64, times int64 (absent where there is no clock),
weights float32 (absent where all events count alike; age is not in them), users uint64 (hashes of the ids of the
histories' users, so that a newer log can be joined).
`catalogue.json`: ids, titles and texts in catalogue order. `report.json`: what cleaning found. `images.npy` if given.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.catalogue import Catalogue
from pocketrec.distill.data.load import Dataset
from pocketrec.distill.data.newer_log import UserLog, user_hashes
from pocketrec.distill.data.splits import Sequences, Split, split_users

EVENTS_FILE = "events.safetensors"


def save_dataset(dataset: Dataset, folder: Path) -> None:
    """Write the files of a dataset to a folder."""
    users = dataset.users
    arrays: dict[str, NDArray[Any]] = {"items": users.items, "starts": users.starts, "ends": users.ends}
    arrays["users"] = user_hashes(dataset.user_ids)
    if dataset.times is not None:
        arrays["times"] = dataset.times
    if users.weights is not None:
        arrays["weights"] = users.weights
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / EVENTS_FILE)
    catalogue = dataset.catalogue
    names = {
        "item_ids": list(catalogue.item_ids),
        "titles": list(catalogue.titles),
        "texts": list(catalogue.texts),
    }
    (folder / "catalogue.json").write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
    report = json.dumps(dataset.report.to_dict(), ensure_ascii=False, indent=1)
    (folder / "report.json").write_text(report, encoding="utf-8")
    if catalogue.images is not None:
        np.save(folder / "images.npy", catalogue.images)


def load_catalogue(folder: Path) -> Catalogue:
    """Read the catalogue that `save_dataset` wrote, without its images (`images.npy`)."""
    return Catalogue(**json.loads((folder / "catalogue.json").read_text(encoding="utf-8")))


def load_split(folder: Path, config: DataConfig) -> Split:
    """Read the events that `save_dataset` wrote and split them by the configured rule."""
    arrays = load_file(folder / EVENTS_FILE)
    return split_users(_histories(arrays), arrays.get("times"), config)


def load_histories(folder: Path) -> Sequences:
    """Read the histories that `save_dataset` wrote, whole."""
    return _histories(load_file(folder / EVENTS_FILE))


def load_user_log(folder: Path) -> UserLog | None:
    """Read all events that `save_dataset` wrote, by user; None if an older pocketrec wrote them without users."""
    arrays = load_file(folder / EVENTS_FILE)
    if "users" not in arrays:
        return None
    return UserLog(arrays["users"], _histories(arrays), arrays.get("times"))


def _histories(arrays: dict[str, NDArray[Any]]) -> Sequences:
    return Sequences(arrays["items"], arrays["starts"], arrays["ends"], arrays.get("weights"))
