"""Training batches: windows of histories, packed side by side into rows of equal width with little padding.

Batches depend only on (seed, epoch): a resumed run gets exactly the batches of an uninterrupted one, and each of
several processes gets its share of the same batches.
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
    """Packed rows of tokens: B rows of T tokens, n loss positions.

    inputs: int64 [B, T], catalogue rows (0 for start tokens and padding). is_start: bool [B, T]. segment: int64 [B, T],
    the window that a token belongs to (-1: padding). position: int64 [B, T], position within the window. loss_at: int64
    [n], flat indices of the tokens whose next item is a target. targets: int64 [n], catalogue rows. events: int64 [n],
    positions of the targets in the event array. total: number of loss positions over all processes.
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
        """Which token may attend to which: bool [B, 1, T, T], causal within a window."""
        same = self.segment.unsqueeze(2) == self.segment.unsqueeze(1)
        length = self.segment.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=same.device).tril()
        return (same & causal).unsqueeze(1)

    def only(self, chosen: Tensor) -> Batch:
        """Return the same rows with only the loss positions at `chosen`, int64 [m]; `total` becomes m."""
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
    """Cuts histories into windows and groups these into batches, in a new order every epoch.

    A window is the start token and up to `max_history` items, as on the device. Long histories become several windows,
    whose boundaries are shifted at random each epoch. Every event is a target once per epoch.
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
        :param rank: number of this process, from 0; `world`: number of processes.
        """
        self.train = train.take(np.flatnonzero(train.lengths > 0))
        self.max_history, self.batch_size, self.seed = max_history, batch_size, seed
        self.accumulate, self.rank, self.world = accumulate, rank, world

    def windows(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return begin and end of each window in `train.items` (targets included), and whether it opens its history."""
        generator = np.random.default_rng((self.seed, epoch))
        size = self.max_history
        lengths = self.train.lengths
        shift = np.where(lengths > size, generator.integers(0, size, len(lengths)), 0)
        pieces = (lengths + shift - 1) // size + 1
        owner = np.repeat(np.arange(len(lengths)), pieces)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        # Window j predicts events (j·size - shift, (j+1)·size - shift], and the first event if it opens the history.
        begin = np.maximum(number * size - shift[owner], 0)
        end = np.minimum((number + 1) * size - shift[owner] + 1, lengths[owner])
        keep = (end - begin > 1) | (number == 0)
        owner, number, begin, end = owner[keep], number[keep], begin[keep], end[keep]
        order = generator.permutation(len(owner))
        base = self.train.starts[owner]
        return (base + begin)[order], (base + end)[order], (begin == 0)[order]

    def __len__(self) -> int:
        """Return the number of batches of the first epoch; later epochs have about as many."""
        return -(-len(self.windows(0)[0]) // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[list[Batch]]:
        """Yield this process's micro-batches for every optimiser step of an epoch."""
        begin, end, opens = self.windows(epoch)
        for first in range(0, len(begin), self.batch_size):
            rows = slice(first, first + self.batch_size)
            total = int((end[rows] - begin[rows]).sum() - (~opens[rows]).sum())
            stop, stride = min(first + self.batch_size, len(begin)), self.world * self.accumulate
            shares = [slice(first + self.rank + self.world * n, stop, stride) for n in range(self.accumulate)]
            yield [pack(self.train.items, begin[s], end[s], opens[s], self.max_history + 1, total) for s in shares]


def window_batches(train: Sequences, max_history: int, settings: TrainConfig) -> Callable[[int, int], WindowBatches]:
    """Return a function (rank, world) -> that process's batches of the training windows, as `fit` takes it."""
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
    """Yield batches of `count` windows, and the index of each window's history, int64 [count].

    As `WindowBatches`, but in the order of the histories and with fixed boundaries; every event is a target once.
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
    """Pack windows into rows of `width` tokens, longest first, each into the first row with room.

    A window of n events takes n tokens: the start token and its first n - 1 items. Its events are the targets, except
    the first one if the window does not open its history.

    :param items: the event array, catalogue rows.
    :param begin: position of each window's first event in it; `end`: position after its last event.
    :param opens: whether a window is the first of its history.
    :param total: `total` of the batch.
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
    """Pack by first-fit decreasing; return row and column of each window, and the number of rows."""
    row, column = np.zeros(len(sizes), np.int64), np.zeros(len(sizes), np.int64)
    by_room: list[list[int]] = [[] for _ in range(width + 1)]  # rows by free tokens
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
