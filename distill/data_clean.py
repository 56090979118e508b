"""From sound rows to histories: sorted, without repeats, cut to the k-core.

On the path of the data: after `distill.data_log`, the last step before `distill.data` hands out histories.
Pure numpy; nothing is dropped without being counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pocketrec.distill.config import DataConfig
from pocketrec.distill.data_log import Events
from pocketrec.distill.data_report import FindingLog


@dataclass(frozen=True)
class SortedEvents:
    """Events by user, then time, ties in file order. users, items: int32 [n]; times: int64 [n], or None.

    origin: int64 [n], each event's number in the `Events` it came from. duplicates, below_core: events
    dropped.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64] | None
    origin: NDArray[np.int64]
    duplicates: int = 0
    below_core: int = 0

    def keep(self, rows: NDArray[np.bool_]) -> SortedEvents:
        """Return the chosen events."""
        if rows.all():
            return self
        times = None if self.times is None else self.times[rows]
        return replace(
            self, users=self.users[rows], items=self.items[rows], times=times, origin=self.origin[rows]
        )


def clean(events: Events, config: DataConfig, findings: FindingLog) -> SortedEvents:
    """Sort, drop repeats, then users and items with too few events until none is left.

    :param findings: told about repeats, ties, and the users, items and events that went.
    """
    ordered = sort_events(events)
    if ordered.times is not None:
        repeated = repeats(ordered.users, ordered.items, ordered.times)
        count, rows = int(repeated.sum()), events.places.rows(np.sort(ordered.origin[repeated]))
        dropped = config.duplicates == "drop"
        rule = "the first is kept, the others dropped" if dropped else "kept"
        findings.add("D310", count, f"{rule} (duplicates = {config.duplicates})", rows=rows)
        if dropped:
            ordered = replace(ordered.keep(~repeated), duplicates=count)
        tied = ties(ordered.users, ordered.times)
        findings.add("D311", int(tied.sum()), "kept", "ok", events.places.rows(np.sort(ordered.origin[tied])))
    return _cut_to_core(ordered, events, config, findings)


def sort_events(events: Events) -> SortedEvents:
    """Sort by user and time; events at the same time, and all where there is no time, keep file order."""
    users, times = events.users, events.times
    same = users[1:] == users[:-1]
    rising = (users[1:] > users[:-1]) | (same if times is None else same & (times[1:] >= times[:-1]))
    if rising.all():
        return SortedEvents(users, events.items, times, np.arange(len(users)))
    origin = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    return SortedEvents(users[origin], events.items[origin], None if times is None else times[origin], origin)


def ties(users: NDArray[np.int32], times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which of sorted events share user and time with another, bool [n]."""
    same = np.zeros(len(users) + 1, np.bool_)
    same[1:-1] = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return np.asarray(same[1:] | same[:-1], np.bool_)


def repeats(
    users: NDArray[np.int32], items: NDArray[np.int32], times: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which of sorted events repeat an earlier one: same user, item and time, bool [n]."""
    tied = np.flatnonzero(ties(users, times))
    # A run of ties need not have its repeats side by side: sort by item within it, earlier rows first.
    order = tied[np.lexsort((items[tied], times[tied], users[tied]))]
    before, after = order[:-1], order[1:]
    again = (
        (users[after] == users[before]) & (times[after] == times[before]) & (items[after] == items[before])
    )
    out = np.zeros(len(users), np.bool_)
    out[after[again]] = True
    return out


def core(
    users: NDArray[np.int32], items: NDArray[np.int32], user_core: int, item_core: int
) -> NDArray[np.bool_]:
    """Tell which events stay, bool [n], when users and items with too few events go, again and again."""
    stay = np.ones(len(users), np.bool_)
    while True:
        per_user, per_item = np.bincount(users[stay]), np.bincount(items[stay])
        alive = np.flatnonzero(stay)
        fall = alive[(per_user[users[alive]] < user_core) | (per_item[items[alive]] < item_core)]
        if len(fall) == 0:
            return stay
        stay[fall] = False


def _cut_to_core(
    ordered: SortedEvents, events: Events, config: DataConfig, findings: FindingLog
) -> SortedEvents:
    user_core, item_core = max(config.user_core, config.min_history), config.item_core
    if user_core <= 1 and item_core <= 1:
        return ordered
    stay = core(ordered.users, ordered.items, user_core, item_core)
    kept = replace(ordered.keep(stay), below_core=int((~stay).sum()))
    limits = f"user_core = {config.user_core}, min_history = {config.min_history}, item_core = {item_core}"
    rule = f"dropped ({limits})"
    for code, before, after in (("D401", ordered.users, kept.users), ("D402", ordered.items, kept.items)):
        findings.add(code, len(np.unique(before)) - len(np.unique(after)), rule, "ok")
    places = events.places.rows(np.sort(ordered.origin[~stay]))
    findings.add("D403", kept.below_core, rule, "ok", places)
    return kept
