"""Joining a newer log with an older one: order, repeats, users, items that come and go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pocketrec.distill.data.newer_log import UserLog, join_logs, user_hashes
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.data.weights import MICROSECONDS_PER_DAY
from pocketrec.runtime.errors import ConfigError


def log(histories, times=None):
    """A log from {user: items}."""
    flat = None if times is None else np.array([t for user in histories for t in times[user]], np.int64)
    return UserLog(user_hashes(histories), Sequences.from_lists(list(histories.values())), flat)


def as_dict(found, names):
    return {name: found.histories[found.users.tolist().index(h)].tolist() for name, h in
            zip(names, user_hashes(names).tolist(), strict=True)}  # fmt: skip


def test_users_of_both_are_one_user():
    found = join_logs(log({"a": [1, 2], "b": [3]}), log({"b": [4, 5], "c": [6]}), True)
    assert as_dict(found, "abc") == {"a": [1, 2], "b": [3, 4, 5], "c": [6]}
    assert len(found.users) == 3


def test_events_are_in_the_order_of_their_times_and_repeats_count_once():
    older = log({"a": [1, 2, 3]}, {"a": [10, 20, 30]})
    newer = log({"a": [9, 2, 2]}, {"a": [15, 20, 40]})
    joined = join_logs(older, newer, True)
    assert as_dict(joined, "a") == {"a": [1, 9, 2, 3, 2]}
    assert joined.times.tolist() == [10, 15, 20, 30, 40]
    assert as_dict(join_logs(older, newer, False), "a") == {"a": [1, 9, 2, 2, 3, 2]}


@pytest.mark.parametrize(
    ("new", "expected"), [([1, 2, 7], [1, 2, 7]), ([1, 7], [1, 2, 1, 7]), ([7], [1, 2, 7]), ([1, 2], [1, 2])]
)
def test_without_times_a_cumulative_log_counts_once(new, expected):
    assert as_dict(join_logs(log({"a": [1, 2]}), log({"a": new}), True), "a") == {"a": expected}


def test_items_move_to_other_rows_and_those_that_are_gone_are_left_out():
    moved = log({"a": [0, 1, 2], "b": [1]}, {"a": [5, 6, 7], "b": [8]}).over(np.array([4, -1, 3]))
    assert as_dict(moved, "ab") == {"a": [4, 3], "b": []}
    assert moved.times.tolist() == [5, 7]


def test_weights_go_with_their_events_and_halve_with_age():
    def weighted(histories, times, weights):
        plain = log(histories, times)
        return replace(plain, histories=replace(plain.histories, weights=np.array(weights, np.float32)))

    day = MICROSECONDS_PER_DAY
    older = weighted({"a": [1, 3]}, {"a": [0, 4 * day]}, [8, 2])
    joined = join_logs(older, log({"a": [2], "b": [4]}, {"a": [2 * day], "b": [4 * day]}), True)
    assert as_dict(joined, "ab") == {"a": [1, 2, 3], "b": [4]}
    for half_life, expected in ((None, {1: 8.0, 2: 1.0, 3: 2.0, 4: 1.0}), (2.0, {1: 2.0, 2: 0.5, 3: 2.0, 4: 1.0})):
        found = joined.aged(half_life)
        assert dict(zip(found.items.tolist(), found.weights.tolist(), strict=True)) == expected
    with pytest.raises(ConfigError, match="half_life"):
        log({"a": [1]}).aged(2.0)


def test_an_empty_log_changes_nothing():
    some, none = log({"a": [1, 2]}), log({})
    for joined in (join_logs(some, none, True), join_logs(none, some, True)):
        assert as_dict(joined, "a") == {"a": [1, 2]}


def test_hashes_of_users_are_the_same_everywhere():
    assert user_hashes(["u1", "ü"]).tolist() == [15378189911849802130, 3976460501203677525]
