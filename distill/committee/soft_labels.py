"""Soft labels: the committee's top-k items at every training position, written once and read by memory map.

On the path of the data: a trained committee in; rows of (item, probability) out, which the student's losses look up by
the position of their target in the event array. There is one file per block of histories, written atomically, so a run
that is killed at any moment resumes with the first block that is missing.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from pocketrec.distill.config import SoftLabelConfig
from pocketrec.distill.data.batches import Batch, pack
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import TrainingError
from pocketrec.runtime.files.atomic import atomic_file, atomic_write_text, discard_unfinished
from pocketrec.runtime.files.safetensors import read_header

logger = logging.getLogger(__name__)

INDEX = "index.json"
BLOCK = 512  # positions whose logits over all items are held at once
DTYPES = {"F16": "<f2", "I32": "<i4"}  # safetensors files are little-endian


class SoftLabels:
    """The labels in a folder, looked up by event.

    items: int32 [P, M]. probabilities: float16 [P, M], descending. features: float16 [P, blocks, D_teacher], the hidden
    states of the teacher at aligned blocks, if they were written.
    """

    def __init__(self, folder: Path, train: Sequences) -> None:
        """Open the files by memory map.

        :param train: the histories that the labels were written for.
        :raises TrainingError: if files are missing or damaged, or belong to other histories.
        """
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            self._shards = [_map_shard(folder / _shard_name(i)) for i in range(index["shards"])]
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(
                f"the soft labels in {folder} cannot be read ({error}); run the soft-labels stage again"
            ) from error
        events = train.event_positions()
        if index["positions"] != len(events) or sum(len(s["items"]) for s in self._shards) != len(events):
            raise TrainingError(
                f"the soft labels in {folder} are for {index['positions']} positions, but these histories have "
                f"{len(events)}; run the soft-labels stage again"
            )
        self.top = int(index["top"])
        self.features = tuple(index["features"])  # (blocks, D_teacher), or () without features
        self._row = np.full(len(train.items), -1, np.int64)
        self._row[events] = np.arange(len(events))
        self._first = np.cumsum([0] + [len(shard["items"]) for shard in self._shards])

    def __len__(self) -> int:
        """Return the number of labelled positions."""
        return int(self._first[-1])

    def at(self, events: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the labels of the targets at these events: items, int32 [n, M], and probabilities, float32 [n, M].

        :param events: positions in the event array, int64 [n].
        :raises TrainingError: if an event has no label.
        """
        return self._gather(events, "items", np.int32), self._gather(events, "probabilities", np.float32)

    def features_at(self, events: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the teacher's features of the targets at these events, float32 [n, blocks, D_teacher].

        :param events: positions in the event array, int64 [n].
        :raises TrainingError: if the labels were written without features, or an event has no label.
        """
        if not self.features:
            raise TrainingError("these soft labels hold no features; set soft_labels.features and run the stage again")
        return self._gather(events, "features", np.float32)

    def _gather(self, events: NDArray[np.int64], name: str, dtype: type[np.generic]) -> NDArray[Any]:
        rows = self._row[events]
        if len(rows) and rows.min() < 0:
            raise TrainingError(
                f"event {events[rows.argmin()]} has no soft label; run the soft-labels stage again for these histories"
            )
        out = np.empty((len(rows), *self._shards[0][name].shape[1:]), dtype)
        shard = np.searchsorted(self._first, rows, side="right") - 1
        for number in np.unique(shard):
            chosen = shard == number
            out[chosen] = self._shards[number][name][rows[chosen] - self._first[number]]
        return out


def write_soft_labels(
    folder: Path,
    model: Callable[[Batch], Tensor],
    train: Sequences,
    n_items: int,
    max_history: int,
    config: SoftLabelConfig,
    progress: Progress = SILENT,
    shares: tuple[int, int] = (0, 1),
    features: Callable[[Batch], Tensor] | None = None,
    companions: Callable[[Batch], Tensor] | None = None,
) -> dict[str, Any]:
    """Score every training position and write its top `config.top` items.

    Histories longer than `max_history` are cut into windows that overlap by half; each position gets its label from the
    window in which it sees the longest history.

    :param model: batch → logits over all items [n, n_items], as `ItemModel.item_logits`.
    :param shares: (rank, world); with several processes each writes every `world`-th shard.
    :param features: batch → the teacher's hidden states [n, blocks, D_teacher], written beside the labels.
    :param companions: batch → what is added to the student's scores on the device [n, n_items]. The items stay the
        model's best; their probabilities become those whose product with the companions is the model's, of sum 1.
    :returns: positions, top, bytes and seconds; they are logged, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    blocks = _blocks(train, config.shard_rows)
    top = min(config.top, n_items)
    rank, world = shares
    with progress.track("writing soft labels", len(blocks)) as advance:
        for number, block in enumerate(blocks):
            path = folder / _shard_name(number)
            if number % world == rank and not path.exists():
                discard_unfinished(path)
                with atomic_file(path) as temporary:
                    save_file(_label(model, features, companions, train.take(block), max_history, top), temporary)
            advance(1)
    positions = int(train.lengths.sum())
    sizes = sum(p.stat().st_size for p in folder.glob("labels-*.safetensors"))
    seconds = round(time.monotonic() - begun, 1)
    if rank == 0:
        first = _map_shard(folder / _shard_name(0))
        shape = list(first["features"].shape[1:]) if features else []
        index = {"positions": positions, "top": top, "shards": len(blocks), "features": shape}
        discard_unfinished(folder / INDEX)
        atomic_write_text(folder / INDEX, json.dumps(index) + "\n")
    logger.info("soft labels: %d positions, top %d, %d bytes, %.1f s", positions, top, sizes, seconds)
    return {"positions": positions, "top": top, "bytes": sizes, "seconds": seconds}


@torch.inference_mode()
def _label(
    model: Callable[[Batch], Tensor],
    features: Callable[[Batch], Tensor] | None,
    companions: Callable[[Batch], Tensor] | None,
    histories: Sequences,
    max_history: int,
    top: int,
) -> dict[str, NDArray[Any]]:
    """Label every event of some histories, in their order; return arrays with one row per event."""
    rows = np.full(len(histories.items), -1, np.int64)
    events = histories.event_positions()
    rows[events] = np.arange(len(events))
    out: dict[str, NDArray[Any]] = {
        "items": np.zeros((len(events), top), np.int32),
        "probabilities": np.zeros((len(events), top), np.float16),
    }
    for batch in _window_batches(histories, max_history):
        values, items = torch.log_softmax(model(batch).float(), 1).topk(top, 1)
        if companions:
            added = companions(batch).float().to(values.device)
            values, order = (values - added.gather(1, items)).log_softmax(1).sort(stable=True, dim=1, descending=True)
            items = items.gather(1, order)
        at = rows[batch.events.cpu().numpy()]
        out["items"][at] = items.int().cpu().numpy()
        out["probabilities"][at] = values.exp().half().cpu().numpy()
        if features:
            found = features(batch).half().cpu().numpy()
            out.setdefault("features", np.zeros((len(events), *found.shape[1:]), np.float16))[at] = found
    return out


def label_windows(histories: Sequences, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut histories into windows of at most `size` items and a target, overlapping by half.

    :returns: positions in the event array, int64 [w] each: begin; end (the last target is at end - 1); the first target
        that takes its label from this window.
    """
    step = max(1, size // 2)
    lengths = histories.lengths
    pieces = np.maximum(1, -(-(lengths - 1 - size) // step) + 1) * (lengths > 0)
    owner = np.repeat(np.arange(len(lengths)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = number * step
    end = np.minimum(begin + size + 1, lengths[owner])
    first = np.where(number > 0, begin + size - step + 1, 0)
    base = histories.starts[owner]
    return base + begin, base + end, base + first


def _window_batches(histories: Sequences, max_history: int) -> list[Batch]:
    """Pack windows into batches of about `BLOCK` targets; only the targets that a window labels are loss positions."""
    begin, end, first = label_windows(histories, max_history)
    group = np.cumsum(end - first) // BLOCK
    batches = []
    for number in np.unique(group):
        chosen = np.flatnonzero(group == number)
        opens = np.ones(len(chosen), bool)
        batch = pack(histories.items, begin[chosen], end[chosen], opens, max_history + 1, 0)
        labelled = batch.events.numpy() >= np.repeat(first[chosen], end[chosen] - begin[chosen])
        batches.append(batch.only(torch.from_numpy(np.flatnonzero(labelled))))
    return batches


def _blocks(train: Sequences, rows: int) -> list[slice]:
    """Cut the histories into blocks of about `rows` events."""
    lengths = train.lengths
    number = (np.cumsum(lengths) - lengths) // rows
    edges = np.flatnonzero(np.diff(number, prepend=-1))
    return [slice(int(a), int(b)) for a, b in zip(edges, [*edges[1:], len(lengths)], strict=True)]


def _shard_name(number: int) -> str:
    return f"labels-{number:05d}.safetensors"


def _map_shard(path: Path) -> dict[str, NDArray[Any]]:
    """Map the arrays of a shard; the library has no reader that picks rows without reading the whole tensor.

    :raises ValueError: if the file is damaged.
    """
    out: dict[str, NDArray[Any]] = {}
    for name, place in read_header(path).items():
        if place.offset + place.bytes > path.stat().st_size:
            raise ValueError(f"{path.name} is cut short")
        out[name] = np.memmap(path, DTYPES[place.dtype], "r", place.offset, place.shape)
    return out
