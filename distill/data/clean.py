"""From valid events to histories: sorted, without duplicates, cut to the k-core.

On the path of the data: after the log is read (`distill.data.log`), before it is split. Pure numpy; every event that is
dropped is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.log import Events
from pocketrec.distill.data.report import FindingLog, Places, Row


@dataclass(frozen=True)
class SortedEvents:
    """Events sorted by user, then time, ties in file order. users, items: int32 [n]; times: int64 [n], or None.

    origin: int32 or int64 [n], each event's index before sorting. weights: float32 [n], or None.
    duplicates, below_core: numbers of dropped events.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64] | None
    origin: NDArray[np.integer]
    weights: NDArray[np.float32] | None = None
    duplicates: int = 0
    below_core: int = 0

    def keep(self, rows: NDArray[np.bool_]) -> SortedEvents:
        """Return the chosen events."""
        if rows.all():
            return self
        times = None if self.times is None else self.times[rows]
        weights = None if self.weights is None else self.weights[rows]
        return replace(
            self, users=self.users[rows], items=self.items[rows], times=times, origin=self.origin[rows], weights=weights
        )

    def places(self, rows: NDArray[np.int64], places: Places) -> Iterator[Row]:
        """Yield the places of chosen events, in file order."""
        return places.rows(np.sort(self.origin[rows]).astype(np.int64))


def sort_events(events: Events) -> SortedEvents:
    """Sort by user and time; events at the same time, or without times, keep file order."""
    users, times, weights = events.users, events.times, events.weights
    small = np.int32 if len(users) <= np.iinfo(np.int32).max else np.int64
    same = users[1:] == users[:-1]
    rising = (users[1:] > users[:-1]) | (same if times is None else same & (times[1:] >= times[:-1]))
    if rising.all():
        return SortedEvents(users, events.items, times, np.arange(len(users), dtype=small), weights)
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    origin = order.astype(small)
    del order
    times = None if times is None else times[origin]
    weights = None if weights is None else weights[origin]
    return SortedEvents(users[origin], events.items[origin], times, origin, weights)


def clean(events: SortedEvents, places: Places, config: DataConfig, findings: FindingLog) -> SortedEvents:
    """Drop duplicates, then users and items with too few events, repeatedly, until all have enough.

    :param places: the events' places in the files, in the order before sorting.
    :param findings: records duplicates, ties, and the users, items and events that are dropped.
    """
    return _cut_to_core(_drop_duplicates(events, places, config, findings), places, config, findings)


def _drop_duplicates(events: SortedEvents, places: Places, config: DataConfig, findings: FindingLog) -> SortedEvents:
    users, items, times = events.users, events.items, events.times
    if times is None:
        return events
    tied = tied_before = np.flatnonzero(ties(users, times))
    repeated = repeats(users[tied], items[tied], times[tied])
    rows = tied[repeated]
    rule = f"{'the first is kept' if config.duplicates == 'drop' else 'kept'} (duplicates = {config.duplicates})"
    findings.add("D310", len(rows), rule, rows=events.places(rows, places))
    if config.duplicates == "drop":
        tied = tied[~repeated]
        tied = tied[ties(users[tied], times[tied])]
    findings.add("D311", len(tied), "kept", "ok", events.places(tied, places))
    if config.duplicates == "keep" or len(rows) == 0:
        return events
    stay = np.ones(len(users), np.bool_)
    stay[rows] = False
    events = _with_heaviest(events, tied_before)
    return replace(events.keep(stay), duplicates=len(rows))


def _with_heaviest(events: SortedEvents, tied: NDArray[np.int64]) -> SortedEvents:
    """Give repeats of an event, of the same user, item and time, the largest of their weights.

    :param tied: which events have the same user and time as another.
    """
    if events.weights is None or events.times is None or len(tied) == 0:
        return events
    key = np.stack((events.items[tied], events.times[tied], events.users[tied]))
    order = np.lexsort(key)
    first = np.flatnonzero((np.diff(key[:, order], axis=1, prepend=-1) != 0).any(0))  # of each event with its repeats
    sizes = np.diff(np.append(first, len(order)))
    weights = events.weights.copy()
    weights[tied[order]] = np.repeat(np.maximum.reduceat(weights[tied[order]], first), sizes)
    return replace(events, weights=weights)


def ties(users: NDArray[np.int32], times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of sorted events have the same user and time as another, bool [n]."""
    same = np.zeros(len(users) + 1, np.bool_)
    same[1:-1] = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return np.asarray(same[1:] | same[:-1], np.bool_)


def repeats(users: NDArray[np.int32], items: NDArray[np.int32], times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of sorted events repeat an earlier one with the same user, item and time, bool [n]."""
    # Among events at the same time, equal items need not be adjacent: sort by item, earlier events first.
    order = np.lexsort((items, times, users))
    before, after = order[:-1], order[1:]
    again = (users[after] == users[before]) & (times[after] == times[before]) & (items[after] == items[before])
    out = np.zeros(len(users), np.bool_)
    out[after[again]] = True
    return out


def core(users: NDArray[np.int32], items: NDArray[np.int32], user_core: int, item_core: int) -> NDArray[np.bool_]:
    """Return which events remain, bool [n], after repeatedly dropping users and items with too few events."""
    stay = np.ones(len(users), np.bool_)
    per_user, per_item = np.bincount(users), np.bincount(items)
    while True:
        dropped = np.flatnonzero(stay & ((per_user < user_core)[users] | (per_item < item_core)[items]))
        if len(dropped) == 0:
            return stay
        stay[dropped] = False
        per_user -= np.bincount(users[dropped], minlength=len(per_user))
        per_item -= np.bincount(items[dropped], minlength=len(per_item))


def _cut_to_core(events: SortedEvents, places: Places, config: DataConfig, findings: FindingLog) -> SortedEvents:
    user_core, item_core = max(config.user_core, config.min_history), config.item_core
    if user_core <= 1 and item_core <= 1:
        return events
    stay = core(events.users, events.items, user_core, item_core)
    kept = replace(events.keep(stay), below_core=int((~stay).sum()))
    limits = f"user_core = {config.user_core}, min_history = {config.min_history}, item_core = {item_core}"
    for code, before, after in (("D401", events.users, kept.users), ("D402", events.items, kept.items)):
        gone = np.count_nonzero(np.bincount(before)) - np.count_nonzero(np.bincount(after))
        findings.add(code, int(gone), f"dropped ({limits})", "ok")
    rows = events.places(np.flatnonzero(~stay), places)
    findings.add("D403", kept.below_core, f"dropped ({limits})", "ok", rows)
    return kept
