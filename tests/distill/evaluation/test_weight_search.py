"""The search for weights: ranks by brute force, ties against the target, never worse than the start."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.distill.evaluation.weight_search import Candidates, halves, unique_candidates


def random_candidates(n=200, count=30, features=3, seed=0):
    chance = np.random.default_rng(seed)
    values = chance.normal(size=(features, n, count)).astype(np.float32)
    values[0, :, 0] += 1.0
    values[1, :, 0] += 0.5
    return Candidates(values, chance.random((n, count)) < 0.1)


def test_the_gain_is_that_of_the_targets_rank():
    candidates, weights = random_candidates(), [1.0, 0.3, 0.0]
    for case in range(len(candidates)):
        scores = sum(w * f[case] for w, f in zip(weights, candidates.features, strict=True))
        listed = [c for c in np.argsort(-scores, kind="stable") if not candidates.absent[case, c]]
        rank = listed.index(0) if 0 in listed else 99
        expected = 1 / np.log2(rank + 2) if rank < 10 else 0
        assert candidates.gains(weights)[case] == pytest.approx(expected)


def test_the_target_comes_last_of_equal_scores():
    flat = Candidates(np.zeros((1, 1, 20), np.float32), np.zeros((1, 20), bool))
    assert flat.ndcg([1.0]) == 0


def test_the_search_finds_what_helps_and_is_never_worse_than_its_start():
    candidates = random_candidates()
    for start in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.2, 0.2, 5.0]):
        found = candidates.climb(start)
        assert candidates.ndcg(found) >= candidates.ndcg(start)
        assert abs(found[2]) < found[0]
    assert candidates.ndcg(candidates.climb([1.0, 0.0, 0.0])) > candidates.ndcg([1.0, 0.0, 0.0])
    assert candidates.climb([1.0, 0.0, 0.0], free=[0, 2])[1] == 0


def test_a_signed_weight_may_turn_negative():
    base = random_candidates()
    worse = Candidates(-base.features[:1], base.absent, signed=(0,))
    assert worse.climb([0.5])[0] < 0


def test_candidates_count_once_and_the_first_one_stays():
    rows, absent = unique_candidates(np.array([[4, 2, 4, -1, 7, 2]]), 7)
    assert absent.tolist() == [[False, False, True, True, True, True]]
    assert rows[0, :2].tolist() == [4, 2]


def test_halves_have_every_case_once():
    first, second = halves(11, seed=3)
    assert sorted([*first, *second]) == list(range(11))
    assert abs(len(first) - len(second)) == 1
