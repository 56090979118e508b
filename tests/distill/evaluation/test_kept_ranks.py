"""Ranks kept by one stage can be compared with those of another."""

from __future__ import annotations

import numpy as np

from pocketrec.distill.evaluation.kept_ranks import KeptRanks
from pocketrec.distill.evaluation.metrics import paired_difference


def test_systems_of_two_files_are_compared_by_pairs(tmp_path):
    rng = np.random.default_rng(0)
    one, other = (rng.integers(-1, 20, 200).astype(np.int32) for _ in range(2))
    first, second = KeptRanks(), KeptRanks()
    first.add("one", "seen kept", one)
    second.add("other", "seen kept", other)
    second.add("nobody", "seen kept", None)
    first.save(tmp_path / "a")
    second.save(tmp_path / "b")
    both = KeptRanks.load(tmp_path / "a", tmp_path / "b", tmp_path / "missing")
    np.testing.assert_array_equal(both.of("one", "seen kept"), one)
    expected = paired_difference(one, other, "recall@10")
    assert both.difference("one", "other", "seen kept", "recall@10") == expected
    assert both.difference("one", "nobody", "seen kept", "recall@10") is None
    assert both.difference("one", "other", "seen excluded", "recall@10") is None


def test_other_cases_are_not_paired():
    kept = KeptRanks({"a/c": np.zeros(3, np.int32), "b/c": np.zeros(2, np.int32)})
    assert kept.difference("a", "b", "c", "recall@10") is None
