"""A newer log over a catalogue that changes: events by the items of today, joined with the log of training.

On the path of the data: after cleaning, before the crowd is built again (`pocketrec.run.refresh`). Users are matched by
hashes of their ids, which the data stage keeps beside the events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.data.weights import aged
from pocketrec.runtime.errors import ConfigError


@dataclass(frozen=True)
class UserLog:
    """Histories whose users are known.

    users: uint64 [n_histories], hashes of the users' ids, each once. histories: rows of any catalogue, with the weights
    of events where the log has them. times: int64, aligned with `histories.items`; None if the log has only an order.
    """

    users: NDArray[np.uint64]
    histories: Sequences
    times: NDArray[np.int64] | None

    def over(self, row_of: NDArray[np.integer]) -> UserLog:
        """Return the same events by other rows; events of items that have none are left out.

        :param row_of: [n_items], the new row of each row, negative: none.
        """
        histories = self.histories
        at = histories.event_positions()
        owner = np.repeat(np.arange(len(histories)), histories.lengths)
        rows = np.asarray(row_of)[histories.items[at]]
        kept = rows >= 0
        return self._of(owner[kept], at[kept], rows[kept])

    def _of(self, owner: NDArray[np.int64], at: NDArray[np.int64], rows: NDArray[np.integer]) -> UserLog:
        """Return a log of events that are grouped by owner; at: their positions in this log."""
        ends = np.cumsum(np.bincount(owner, minlength=len(self.users)), dtype=np.int64)
        starts = np.concatenate((np.zeros(1, np.int64), ends[:-1])) if len(ends) else ends
        times = None if self.times is None else self.times[at]
        weights = None if self.histories.weights is None else self.histories.weights[at]
        return UserLog(self.users, Sequences(rows.astype(np.int32), starts, ends, weights), times)

    def aged(self, half_life: float | None) -> Sequences:
        """Return the histories; the weight of an event halves with every `half_life` days before the newest event.

        :raises ConfigError: if a half-life is given and the log has no times.
        """
        if half_life is None:
            return self.histories
        if self.times is None:
            raise ConfigError("data.half_life needs timestamps in both logs, and one has none; set data.timestamp")
        newest = int(self.times.max(initial=0))
        return replace(self.histories, weights=aged(self.histories.weights, self.times, newest, half_life))


def user_hashes(user_ids: Iterable[str]) -> NDArray[np.uint64]:
    """Hash user ids to 64 bits each (BLAKE2b), the same on every machine."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in user_ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def join_logs(older: UserLog, newer: UserLog, drop_repeats: bool) -> UserLog:
    """Join two logs over the same catalogue: each user's events of both, oldest first.

    Where both have times, events are sorted by them, those of the older log first where times are equal. Otherwise the
    events of the newer log follow those of the older one; if a user's newer events begin with all of the older ones,
    the log is cumulative and the older ones are not counted twice.

    :param drop_repeats: drop an event of the same user, item and time as an earlier one (where both have times).
    """
    users, owner_of = np.unique(np.concatenate((older.users, newer.users)), return_inverse=True)
    owners = owner_of[: len(older.users)], owner_of[len(older.users) :]
    if older.times is None or newer.times is None:
        older = _without_repeated(older, newer)
    logs = older, newer
    owner = np.concatenate([np.repeat(o, log.histories.lengths) for o, log in zip(owners, logs, strict=True)])
    items, times, weights = _events(older, newer)
    order = np.argsort(owner, kind="stable") if times is None else np.lexsort((times, owner))
    if times is not None and drop_repeats:
        order = order[_first_of_each(owner[order], items[order], times[order])]
    nothing = np.zeros(0, np.int64)
    every = UserLog(users, Sequences(items, nothing, nothing, weights), times)
    return every._of(owner[order], order, items[order])


def _events(
    older: UserLog, newer: UserLog
) -> tuple[NDArray[np.int32], NDArray[np.int64] | None, NDArray[np.float32] | None]:
    """Return items, times and weights of the events of both logs; None where both (times: one of them) have none."""
    logs = older, newer
    items = np.concatenate([log.histories.events() for log in logs])
    times = [log.times[log.histories.event_positions()] for log in logs if log.times is not None]
    weights = [log.histories.event_weights() for log in logs]
    if all(some is None for some in weights):
        return items, np.concatenate(times) if len(times) == 2 else None, None
    given = [
        np.ones(int(log.histories.lengths.sum()), np.float32) if some is None else some
        for log, some in zip(logs, weights, strict=True)
    ]
    return items, np.concatenate(times) if len(times) == 2 else None, np.concatenate(given)


def _first_of_each(owner: NDArray[np.int64], items: NDArray[np.int32], times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which events are the first of their user, item and time, bool [n]."""
    order = np.lexsort((items, times, owner))
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for column in (owner, items, times):
        same &= np.diff(column[order]) == 0
    first = np.ones(len(order), np.bool_)
    first[order[1:]] = ~same
    return first


def _without_repeated(older: UserLog, newer: UserLog) -> UserLog:
    """Empty the older histories that are the beginning of the same user's newer one."""
    _, a, b = np.intersect1d(older.users, newer.users, assume_unique=True, return_indices=True)
    ends = older.histories.ends.copy()
    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        before, after = older.histories[i], newer.histories[j]
        if np.array_equal(after[: len(before)], before):
            ends[i] = older.histories.starts[i]
    return replace(older, histories=replace(older.histories, ends=ends))
