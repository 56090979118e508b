"""Splits: nothing leaks from a target or its future into training, and no event is lost or invented."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pocketrec.distill.data.splits import Sequences, Split, global_time, leave_one_out
from pocketrec.runtime.errors import DataError

quick = settings(max_examples=200)
# Every event is an item of its own, so that finding an item tells which event was used.
lengths = st.lists(st.integers(0, 7), min_size=1, max_size=12)


def users_of(sizes: list[int]) -> Sequences:
    ends = np.cumsum(sizes).tolist()
    return Sequences.from_lists([list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)])


def as_lists(sequences: Sequences) -> list[list[int]]:
    return [history.tolist() for history in sequences]


@st.composite
def timed_logs(draw):
    """Histories with distinct events, and times in order within each; ties are common."""
    sizes = draw(lengths)
    times = [sorted(draw(st.lists(st.integers(0, 20), min_size=n, max_size=n))) for n in sizes]
    return users_of(sizes), np.array([t for user in times for t in user], np.int64)


class TestSequences:
    @quick
    @given(lengths, st.integers(1, 5))
    def test_last_keeps_the_newest_events(self, sizes, length):
        users = users_of(sizes)
        assert as_lists(users.last(length)) == [history[-length:] for history in as_lists(users)]

    @quick
    @given(lengths, st.data())
    def test_take_and_events_follow_the_chosen_rows(self, sizes, data):
        users = users_of(sizes)
        rows = data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=6))
        taken = users.take(np.array(rows, np.int64))
        expected = [as_lists(users)[row] for row in rows]
        assert as_lists(taken) == expected
        assert taken.events().tolist() == [item for history in expected for item in history]
        assert taken.event_positions().tolist() == taken.events().tolist()  # item k stands at position k

    def test_parts_are_views_not_copies(self):
        users = users_of([5, 3])
        split = leave_one_out(users)
        for part in (split.train, split.valid.histories, split.test.histories):
            assert part.items is users.items

    def test_no_history_at_all_is_fine(self):
        empty = Sequences.from_lists([])
        assert (len(empty), as_lists(empty), empty.events().tolist()) == (0, [], [])


class TestLeaveOneOut:
    def test_last_is_test_and_the_one_before_validation(self):
        split = leave_one_out(Sequences.from_lists([[1, 2, 3, 4], [5, 6], [7, 8, 9]]))
        assert as_lists(split.train) == [[1, 2], [5, 6], [7]]
        assert (as_lists(split.valid.histories), split.valid.targets.tolist()) == ([[1, 2], [7]], [3, 8])
        assert (as_lists(split.test.histories), split.test.targets.tolist()) == ([[1, 2, 3], [7, 8]], [4, 9])

    @quick
    @given(lengths)
    def test_every_event_is_trained_on_or_a_target_exactly_once(self, sizes):
        assume(max(sizes) >= 3)
        users = users_of(sizes)
        split = leave_one_out(users)
        used = [*split.train.events(), *split.valid.targets, *split.test.targets]
        assert sorted(used) == users.events().tolist()

    @quick
    @given(lengths)
    def test_no_target_is_seen_before(self, sizes):
        assume(max(sizes) >= 3)
        split = leave_one_out(users_of(sizes))
        train = set(split.train.events().tolist())
        assert train.isdisjoint(split.valid.targets.tolist())
        assert train.isdisjoint(split.test.targets.tolist())
        assert_histories_end_before_targets(split)

    def test_users_with_fewer_than_three_events_only_train(self):
        split = leave_one_out(users_of([2, 1, 0, 3]))
        assert split.train.lengths.tolist() == [2, 1, 0, 1]
        assert (len(split.valid), len(split.test)) == (1, 1)

    def test_a_log_without_a_case_is_refused(self):
        with pytest.raises(DataError, match="3 events"):
            leave_one_out(users_of([2, 2, 1]))


def assert_histories_end_before_targets(split: Split) -> None:
    """A history is everything of the user up to the target: the target is the next event, which is item + 1 here."""
    for part in (split.valid, split.test):
        for history, target in zip(part.histories, part.targets.tolist(), strict=True):
            assert len(history) > 0
            assert history.tolist() == list(range(target - len(history), target))


def moments(times: np.ndarray, valid_share: float, test_share: float) -> tuple[int, int]:
    ordered, n = np.sort(times), len(times)
    return (
        ordered[min(n - 1, int(n * (1 - valid_share - test_share)))],
        ordered[min(n - 1, int(n * (1 - test_share)))],
    )


class TestGlobalTime:
    def test_two_moments_cut_all_histories(self):
        users = Sequences.from_lists([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
        times = np.array([0, 1, 2, 6, 8, 3, 4, 5, 7, 9])
        split = global_time(users, times, valid_share=0.2, test_share=0.2)  # from 6, from 8
        assert as_lists(split.train) == [[0, 1, 2], [5, 6, 7]]
        assert (as_lists(split.valid.histories), split.valid.targets.tolist()) == ([[0, 1, 2], [5, 6, 7]], [3, 8])
        assert as_lists(split.test.histories) == [[0, 1, 2, 3], [5, 6, 7, 8]]
        assert split.test.targets.tolist() == [4, 9]

    @quick
    @given(timed_logs(), st.sampled_from([0.1, 0.2, 0.3]))
    def test_nothing_is_learned_from_the_future(self, log, share):
        users, times = log
        assume(len(times) > 0)
        first, second = moments(times, share, share)
        try:
            split = global_time(users, times, share, share)
        except DataError:
            assume(False)
        assert_histories_end_before_targets(split)
        for events, begin, end in (
            (split.train.events(), -np.inf, first),
            (split.valid.histories.events(), -np.inf, first),
            (split.valid.targets, first, second),
            (split.test.histories.events(), -np.inf, second),
            (split.test.targets, second, np.inf),
        ):
            assert ((times[events] >= begin) & (times[events] < end)).all()

    @quick
    @given(timed_logs())
    def test_every_event_before_the_first_moment_trains_exactly_once(self, log):
        users, times = log
        assume(len(times) > 0)
        try:
            split = global_time(users, times, 0.25, 0.25)
        except DataError:
            assume(False)
        first, second = moments(times, 0.25, 0.25)
        trained = split.train.events().tolist()
        assert Counter(trained) == Counter(np.flatnonzero(times < first).tolist())
        assert (split.train.lengths > 0).all()
        expected = [
            history[np.searchsorted(times[history], moment)]
            for begin, moment in ((first, first), (second, second))
            for history in users
            if len(history)
            and times[history[0]] < begin
            and (times[history] >= moment).any()
            and (moment == second or times[history[np.searchsorted(times[history], moment)]] < second)
        ]
        assert sorted([*split.valid.targets.tolist(), *split.test.targets.tolist()]) == sorted(expected)

    @pytest.mark.parametrize("times", [[0, 0, 0, 0], [0, 1, 2, 2]])
    def test_a_window_without_a_case_is_refused(self, times):
        with pytest.raises(DataError, match="window"):
            global_time(users_of([4]), np.array(times), 0.25, 0.25)
