"""Malformed lists and cases that do not fit the catalogue are refused before anything is measured."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from pocketrec.distill.evaluation.protocol import evaluate, hits
from pocketrec.distill.evaluation.ranking import EMPTY, RankingError
from pocketrec.distill.progress import Progress
from pocketrec.runtime.errors import DataError
from simple_rankers import N_ITEMS, SumOfHistory, cases, one_list


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ([2, 3, 2, *range(4, 21)], "item 2 twice"),
        ([2, 3, *range(4, 21), N_ITEMS], f"put {N_ITEMS} at place 19 of list 0"),
        ([-3, *range(4, 23)], "put -3 at place 0"),
        ([2, EMPTY, *range(4, 22)], "empty slot"),
        (list(range(2, 21)), r"int32 \[1, 19\], not int32 \[1, 20\]"),
    ],
)
def test_malformed_lists_are_refused(items, complaint):
    with pytest.raises(RankingError, match=complaint):
        evaluate(one_list(items), cases(([1], 3)), n_items=N_ITEMS, item_counts=None)


def test_lists_of_anything_but_integers_are_refused():
    class Floats:
        def rank(self, histories, k, exclude_seen):
            return np.zeros((len(histories), k))

    with pytest.raises(RankingError, match="float64"):
        evaluate(Floats(), cases(([1], 3)), n_items=N_ITEMS, item_counts=None)


def test_a_seen_item_in_a_list_is_refused_when_seen_items_are_excluded():
    ranker = one_list(list(range(20)))
    apart = cases(([25], 3), ([28, 26], 3))
    assert hits(ranker, apart, n_items=N_ITEMS, exclude_seen=True).tolist() == [3, 3]
    with pytest.raises(RankingError, match="item 7 of the history"):
        hits(ranker, cases(([25], 3), ([7, 26], 3)), n_items=N_ITEMS, exclude_seen=True)


@pytest.mark.parametrize("target", [-1, N_ITEMS])
def test_targets_outside_the_catalogue_are_refused(target):
    with pytest.raises(DataError, match="catalogue"):
        evaluate(SumOfHistory(), cases(([1], target)), n_items=N_ITEMS, item_counts=None)


def test_every_case_is_reported_to_the_progress_bar():
    class Counting(Progress):
        @contextmanager
        def track(self, label, total):
            self.total, self.done = total, 0

            def advance(n=1, note=""):
                self.done += n

            yield advance

    bar = Counting()
    five = cases(*[([i], i) for i in range(5)])
    evaluate(SumOfHistory(), five, n_items=N_ITEMS, item_counts=None, batch_size=2, progress=bar)
    assert (bar.total, bar.done) == (5, 5)
