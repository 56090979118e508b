"""Copies of histories: of the same user, of the same events, and the same each time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.data.augment import augment
from pocketrec.distill.data.splits import Sequences


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    copies=st.integers(0, 3),
    drop=st.floats(0, 0.99),
    swap=st.floats(0, 1),
)
def test_a_copy_holds_some_of_its_users_own_events(lengths, copies, drop, swap):
    histories = [list(range(100 * n, 100 * n + length)) for n, length in enumerate(lengths)]
    train = Sequences.from_lists(histories)
    made = augment(train, copies, drop, swap)
    assert len(made) == len(train) * (1 + copies)
    for number, copy in enumerate(made):
        history = histories[number % len(train)]
        assert len(set(copy.tolist())) == len(copy)
        assert set(copy.tolist()) <= set(history)
        assert len(copy) >= min(2, len(history))
        if number < len(train):
            assert copy.tolist() == history


def test_nothing_dropped_and_nothing_swapped_is_the_same_history():
    train = Sequences.from_lists([[1, 2, 3], [4], []])
    made = augment(train, 2, drop=0.0, swap=0.0)
    assert [h.tolist() for h in made] == [[1, 2, 3], [4], []] * 3


def test_swaps_move_an_event_by_one_place():
    history = list(range(50))
    copy = augment(Sequences.from_lists([history]), 1, drop=0.0, swap=0.5)[1]
    assert np.count_nonzero(copy != np.arange(50)) > 0
    assert np.abs(copy - np.arange(50)).max() == 1


def test_about_the_wanted_share_is_dropped_and_copies_differ():
    train = Sequences.from_lists([list(range(2000))])
    made = augment(train, 2, drop=0.3, swap=0.1, seed=1)
    assert abs(len(made[1]) - 1400) < 90
    assert made[1].tolist() != made[2].tolist()
    again = augment(train, 2, drop=0.3, swap=0.1, seed=1)
    assert (made.items == again.items).all()
