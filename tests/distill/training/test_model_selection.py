"""Windows of validations are compared, and runs end early only late in the schedule."""

from __future__ import annotations

import pytest

from pocketrec.distill.training.model_selection import may_end, newest_is_best, smoothed, window_size


@pytest.mark.parametrize(("planned", "size"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (40, 3)])
def test_a_window_has_three_validations_where_there_are_enough(planned, size):
    assert window_size(planned) == size


def kept(scores, size):
    """The validation whose weights are kept after all of them."""
    return [end for end in range(1, len(scores) + 1) if newest_is_best(scores[:end], size)][-1]


def test_the_last_validation_of_the_best_window_is_kept():
    assert kept([0.1, 0.5, 0.4, 0.3], 1) == 2
    assert kept([0.9, 0.1, 0.2, 0.3, 0.4, 0.3], 3) == 3  # an outlier counts by its window
    assert kept([0.4, 0.1, 0.2, 0.3, 0.4, 0.3], 3) == 6
    assert kept([0.3, 0.3, 0.3, 0.3], 3) == 3  # of equal windows the first


def test_until_a_window_is_full_the_newest_is_kept():
    assert kept([0.9, 0.1], 3) == 2
    assert kept([0.9, 0.1, 0.1], 3) == 3


def test_scores_are_means_of_the_newest():
    assert smoothed([9.0, 1.0, 2.0, 3.0], 3) == 2.0
    assert smoothed([1.0, 2.0], 3) == 1.5


def test_a_run_may_end_where_the_rate_is_low_or_never_falls():
    assert not may_end("cosine", 0.3, warming_up=False)
    assert may_end("cosine", 0.2, warming_up=False)
    assert may_end("constant", 1.0, warming_up=False)
    assert not may_end("cosine", 0.1, warming_up=True)
    assert not may_end("constant", 0.1, warming_up=True)
