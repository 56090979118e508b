"""Training batches: windows of histories packed side by side into rows of one width, nothing wasted on padding.

Deterministic in (seed, epoch): a resumed run sees exactly the batches that an uninterrupted one would have seen,
and with several processes each takes its share of the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketrec.distill.config import TrainConfig
from pocketrec.distill.data.splits import Sequences


@dataclass(frozen=True)
class Batch:
    """Packed token rows. B rows of T tokens; n loss positions.

    inputs: int64 [B, T], catalogue rows (0 where start or padding). is_start: bool [B, T]. segment: int64 [B, T],
    which history a token belongs to (-1: padding). position: int64 [B, T], place within it. loss_at: int64 [n],
    flat positions with a target. targets: int64 [n], catalogue rows. events: int64 [n], where each target stands in the
    event array. total: loss positions over all processes.
    """

    inputs: Tensor
    is_start: Tensor
    segment: Tensor
    position: Tensor
    loss_at: Tensor
    targets: Tensor
    events: Tensor
    total: int

    @property
    def mask(self) -> Tensor:
        """Which token may look at which: bool [B, 1, T, T], causal within a history."""
        same = self.segment.unsqueeze(2) == self.segment.unsqueeze(1)
        length = self.segment.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=same.device).tril()
        return (same & causal).unsqueeze(1)

    def only(self, chosen: Tensor) -> Batch:
        """Return the same rows with some of the loss positions, int64 [m] into them; the total is then their number."""
        return replace(
            self,
            loss_at=self.loss_at[chosen],
            targets=self.targets[chosen],
            events=self.events[chosen],
            total=len(chosen),
        )

    def to(self, device: torch.device) -> Batch:
        """Return a copy on a device."""
        return Batch(
            inputs=self.inputs.to(device),
            is_start=self.is_start.to(device),
            segment=self.segment.to(device),
            position=self.position.to(device),
            loss_at=self.loss_at.to(device),
            targets=self.targets.to(device),
            events=self.events.to(device),
            total=self.total,
        )


class WindowBatches:
    """Cuts histories into windows and deals them into batches, anew every epoch.

    Each window is the start token and up to `max_history` items, as on the device. Long histories become several
    windows, their cuts shifted at random each epoch; every event is a target once an epoch.
    """

    def __init__(
        self,
        train: Sequences,
        max_history: int,
        batch_size: int,
        seed: int,
        *,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Prepare.

        :param train: training histories.
        :param batch_size: windows per optimiser step, over all processes.
        :param accumulate: micro-batches per step.
        :param rank: this process; `world`: how many there are.
        """
        self.train = train.take(np.flatnonzero(train.lengths > 0))
        self.max_history, self.batch_size, self.seed = max_history, batch_size, seed
        self.accumulate, self.rank, self.world = accumulate, rank, world

    def windows(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Begin and end of each window in `train.items` (targets included), and whether it opens its history."""
        generator = np.random.default_rng((self.seed, epoch))
        size = self.max_history
        lengths = self.train.lengths
        shift = np.where(lengths > size, generator.integers(0, size, len(lengths)), 0)
        pieces = (lengths + shift - 1) // size + 1
        owner = np.repeat(np.arange(len(lengths)), pieces)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        # Window j predicts events [j·size - shift, (j+1)·size - shift], the first only if it opens the history.
        begin = np.maximum(number * size - shift[owner], 0)
        end = np.minimum((number + 1) * size - shift[owner] + 1, lengths[owner])
        keep = (end - begin > 1) | (number == 0)
        owner, number, begin, end = owner[keep], number[keep], begin[keep], end[keep]
        order = generator.permutation(len(owner))
        base = self.train.starts[owner]
        return (base + begin)[order], (base + end)[order], (begin == 0)[order]

    def __len__(self) -> int:
        """Batches of the first epoch (later ones differ by their cuts, by few)."""
        return -(-len(self.windows(0)[0]) // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[list[Batch]]:
        """Yield this process's micro-batches of every optimiser step of an epoch."""
        begin, end, opens = self.windows(epoch)
        for first in range(0, len(begin), self.batch_size):
            rows = slice(first, first + self.batch_size)
            total = int((end[rows] - begin[rows]).sum() - (~opens[rows]).sum())
            stop, stride = min(first + self.batch_size, len(begin)), self.world * self.accumulate
            shares = [slice(first + self.rank + self.world * n, stop, stride) for n in range(self.accumulate)]
            yield [pack(self.train.items, begin[s], end[s], opens[s], self.max_history + 1, total) for s in shares]


def window_batches(train: Sequences, max_history: int, settings: TrainConfig) -> Callable[[int, int], WindowBatches]:
    """Return what the trainer's `fit` takes: (rank, world) -> that process's share of the training windows."""
    return lambda rank, world: WindowBatches(
        train,
        max_history,
        settings.batch_size,
        settings.seed,
        accumulate=settings.accumulate,
        rank=rank,
        world=world,
    )


def fixed_window_batches(train: Sequences, size: int, count: int) -> Iterator[tuple[Batch, NDArray[np.int64]]]:
    """Yield batches of `count` windows that make every event a target once, and each window's history, int64 [count].

    Windows are cut as the trainer cuts them, but in order and always at the same places.
    """
    lengths = train.lengths
    pieces = np.maximum(1, -(-(lengths - 1) // size)) * (lengths > 0)
    owner = np.repeat(np.arange(len(lengths)), pieces)
    begin = (np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * size
    end = np.minimum(begin + size + 1, lengths[owner])
    base = train.starts[owner]
    for first in range(0, len(owner), count):
        s = slice(first, first + count)
        opens = begin[s] == 0
        total = int((end[s] - begin[s]).sum() - (~opens).sum())
        yield pack(train.items, (base + begin)[s], (base + end)[s], opens, size + 1, total), owner[s]


def pack(
    items: NDArray[np.int32],
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    opens: NDArray[np.bool_],
    width: int,
    total: int,
) -> Batch:
    """Lay windows into rows of `width` tokens, longest first into the first row with room.

    A window of n events takes n tokens: start and its first n - 1 items; its events are the targets, the first
    one only where the window opens its history.
    """
    sizes = np.minimum(end - begin, width)
    row, column, rows = _first_fit(sizes, width)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    flat = np.repeat(row * width + column, sizes) + within
    at = np.repeat(begin, sizes) + within
    event = items[at]
    shape = (rows, width)
    inputs, segment, position = (np.full(rows * width, fill, np.int64) for fill in (0, -1, 0))
    is_start = np.zeros(rows * width, bool)
    inputs[flat[within > 0]] = event[np.flatnonzero(within > 0) - 1]
    is_start[flat[within == 0]] = True
    segment[flat] = np.repeat(np.arange(len(sizes)), sizes)
    position[flat] = within
    counted = (within > 0) | np.repeat(opens, sizes)
    return Batch(
        inputs=torch.from_numpy(inputs.reshape(shape)),
        is_start=torch.from_numpy(is_start.reshape(shape)),
        segment=torch.from_numpy(segment.reshape(shape)),
        position=torch.from_numpy(position.reshape(shape)),
        loss_at=torch.from_numpy(flat[counted]),
        targets=torch.from_numpy(event[counted].astype(np.int64)),
        events=torch.from_numpy(at[counted]),
        total=total,
    )


def _first_fit(sizes: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """First-fit decreasing, by counts of free room: row and column of each window, and the number of rows."""
    row, column = np.zeros(len(sizes), np.int64), np.zeros(len(sizes), np.int64)
    by_room: list[list[int]] = [[] for _ in range(width + 1)]  # rows by the room left in them
    rows = 0
    for window in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[window])
        room = next((r for r in range(size, width + 1) if by_room[r]), None)
        if room is None:
            by_room[width].append(rows)
            rows, room = rows + 1, width
        chosen = by_room[room].pop()
        row[window], column[window] = chosen, width - room
        by_room[room - size].append(chosen)
    return row, column, rows
