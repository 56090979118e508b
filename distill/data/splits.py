"""Histories as views into one event array, and their split into training, validation and test.

On the path of the data: after the log is cleaned, before training and evaluation. A split does not copy events: each
part is a pair of (start, end) arrays into the same `items` array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.weights import aged
from pocketrec.runtime.errors import ConfigError, DataError


@dataclass(frozen=True)
class Sequences:
    """Item histories, oldest first. Row i is `items[starts[i]:ends[i]]`.

    items: int32 [n_events], catalogue rows; starts, ends: int64 [n_sequences].
    weights: float32 [n_events], aligned with `items`: how much an event counts, at least 0; None: all alike.
    """

    items: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.starts)

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Return one history, int32 [length], as a view."""
        return self.items[self.starts[index] : self.ends[index]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        """Yield each history in turn."""
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events per sequence, int64 [n_sequences]."""
        return self.ends - self.starts

    def take(self, rows: NDArray[np.integer] | slice) -> Sequences:
        """Return the chosen sequences, still views into the same events."""
        return replace(self, starts=self.starts[rows], ends=self.ends[rows])

    def last(self, length: int) -> Sequences:
        """Return each history cut to its newest `length` events."""
        return replace(self, starts=np.maximum(self.starts, self.ends - length))

    def events(self) -> NDArray[np.int32]:
        """Return the events of all sequences, concatenated, int32 [sum of lengths] (a copy)."""
        return self.items[self.event_positions()]

    def event_weights(self) -> NDArray[np.float32] | None:
        """Return the weights of the events of `events`, float32 [sum of lengths], None where all count alike."""
        return None if self.weights is None else self.weights[self.event_positions()]

    def event_positions(self) -> NDArray[np.int64]:
        """Return the position in `items` of every event of every sequence, int64 [sum of lengths]."""
        lengths = self.lengths
        first = np.repeat(self.starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
        return first + np.arange(lengths.sum())

    def padded(self) -> NDArray[np.int32]:
        """Return the sequences left-aligned, int32 [n_sequences, longest], -1 after the end."""
        lengths = self.lengths
        out = np.full((len(self), int(lengths.max(initial=0))), -1, np.int32)
        out[np.arange(out.shape[1])[None] < lengths[:, None]] = self.events()
        return out

    @staticmethod
    def from_lists(histories: list[list[int]]) -> Sequences:
        """Build from lists of catalogue rows."""
        ends = np.cumsum([len(h) for h in histories], dtype=np.int64)
        starts = np.concatenate((np.zeros(1, np.int64), ends[:-1])) if len(ends) else ends
        return Sequences(np.array([i for h in histories for i in h], np.int32), starts, ends)


@dataclass(frozen=True)
class EvalSet:
    """Evaluation cases: after `histories[i]`, the user took item `targets[i]` (int32 [n], catalogue rows)."""

    histories: Sequences
    targets: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.targets)

    def take(self, rows: NDArray[np.integer] | slice) -> EvalSet:
        """Return the chosen cases."""
        return EvalSet(self.histories.take(rows), self.targets[rows])


@dataclass(frozen=True)
class Split:
    """Training histories, validation and test cases, and a description of the rule that made them."""

    train: Sequences
    valid: EvalSet
    test: EvalSet
    rule: str


def split_users(users: Sequences, times: NDArray[np.int64] | None, config: DataConfig) -> Split:
    """Split histories by the configured rule; with `data.half_life`, training events lose weight with their age.

    :param times: int64 [n_events], aligned with `users.items`; None where the log has only an order.
    :raises ConfigError: if the rule is "global-time" and the log has no times.
    :raises DataError: if there would be no validation or no test case.
    """
    if config.split == "leave-one-out":
        return _with_age(leave_one_out(users), times, config.half_life)
    if times is None:
        raise ConfigError(
            "data.split = 'global-time' needs timestamps, and this log has none; set data.timestamp, "
            "or data.split = 'leave-one-out'"
        )
    return _with_age(global_time(users, times, config.valid_share, config.test_share), times, config.half_life)


def _with_age(split: Split, times: NDArray[np.int64] | None, half_life: float | None) -> Split:
    """Let the weights of training events halve with every `half_life` days of their age."""
    if half_life is None:
        return split
    if times is None:
        raise ConfigError("data.half_life needs timestamps, and this log has none; set data.timestamp")
    train = split.train
    newest = int(times[train.event_positions()].max())
    return replace(split, train=replace(train, weights=aged(train.weights, times, newest, half_life)))


def leave_one_out(users: Sequences) -> Split:
    """Split each user's history: the last item for test, the one before it for validation, the rest for training.

    Users with fewer than three events are used for training only.

    :param users: every user's full history.
    :raises DataError: if no user has three events or more.
    """
    evaluated = users.take(np.flatnonzero(users.lengths >= 3))
    if len(evaluated) == 0:
        raise DataError("no user has 3 events or more; leave-one-out needs one each for training, validation and test")
    held = np.where(users.lengths >= 3, 2, 0)
    return Split(
        train=replace(users, ends=users.ends - held),
        valid=_cases(evaluated, 2),
        test=_cases(evaluated, 1),
        rule="leave-one-out: last item test, the one before it validation, the rest training",
    )


def _cases(users: Sequences, from_end: int) -> EvalSet:
    """Return one case per user: the target is the `from_end`-th item from the end."""
    cut = users.ends - from_end
    return EvalSet(replace(users, ends=cut), users.items[cut])


def global_time(users: Sequences, times: NDArray[np.int64], valid_share: float = 0.1, test_share: float = 0.1) -> Split:
    """Split at two points in time, so that nothing is learned from the future.

    Events before the first point are for training. The windows after it are for validation and for test. A user with
    earlier events and an event in a window gives one case: the history is everything before the window, the target is
    the first event in it.

    :param users: every user's full history, in time order.
    :param times: int64 [n_events], aligned with `users.items`.
    :param valid_share: share of events between the two points.
    :param test_share: share of events after the second point.
    :raises DataError: if a window has no case.
    """
    ordered = np.sort(times[users.event_positions()])
    n = len(ordered)
    first = ordered[min(n - 1, int(n * (1 - valid_share - test_share)))]
    second = ordered[min(n - 1, int(n * (1 - test_share)))]
    before_valid = _count_before(users, times, int(first))
    before_test = _count_before(users, times, int(second))
    valid = _window(users, before_valid, before_test)
    test = _window(users, before_test, users.lengths)
    for name, part in (("validation", valid), ("test", test)):
        if len(part) == 0:
            raise DataError(
                f"no user has events both in the {name} window of the global-time split and before it; raise "
                "data.valid_share or data.test_share, or set data.split = 'leave-one-out'"
            )
    train = replace(users, ends=users.starts + before_valid)
    rule = f"global time: training before {first}, validation from there to {second}, test after"
    return Split(train.take(np.flatnonzero(train.lengths > 0)), valid, test, rule)


def _count_before(users: Sequences, times: NDArray[np.int64], moment: int) -> NDArray[np.int64]:
    early = np.concatenate(([0], np.cumsum(times < moment)))
    return np.asarray(early[users.ends] - early[users.starts], np.int64)


def _window(users: Sequences, begin: NDArray[np.int64], end: NDArray[np.int64]) -> EvalSet:
    rows = np.flatnonzero((begin > 0) & (end > begin))
    cut = users.starts[rows] + begin[rows]
    return EvalSet(replace(users, starts=users.starts[rows], ends=cut), users.items[cut])
