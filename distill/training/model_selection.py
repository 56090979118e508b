"""Which weights of a training run are kept, and when it may end early: rules on the scores of its validations.

A single validation is noisy: its score moves by more than an epoch gains. Windows of consecutive validations are
compared instead, by their means, and the weights of the last validation in the best window are kept. While the learning
rate is high, scores say little about those at the end of the schedule, so a run may end early only when it is low.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

WINDOW: Final = 3  # validations whose mean is compared
LOW_RATE: Final = 0.25  # of the peak learning rate; below, validations without a better score count as patience does


def window_size(planned: int) -> int:
    """Return how many validations are averaged in a run that plans `planned` of them: at most half, at least 1."""
    return max(1, min(WINDOW, planned // 2))


def smoothed(scores: Sequence[float], size: int) -> float:
    """Return the mean of the newest `size` scores, or of all while there are fewer."""
    newest = scores[-size:]
    return sum(newest) / len(newest)


def newest_is_best(scores: Sequence[float], size: int) -> bool:
    """Tell whether the window that the newest score ends is better than every earlier one.

    Windows that are not full cannot be compared; until one is, the newest validation counts as the best.
    """
    if len(scores) <= size:
        return True
    return smoothed(scores, size) > max(smoothed(scores[:end], size) for end in range(size, len(scores)))


def may_end(schedule: str, rate: float, warming_up: bool) -> bool:
    """Tell whether validations without a better score may end a run now.

    :param schedule: of the learning rate; a constant one never gets low, so all its steps after the warm-up count.
    :param rate: learning rate as a share of its peak.
    """
    return not warming_up and (schedule == "constant" or rate < LOW_RATE)
