"""The student's graph: its pair table, at its limits."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime.recommender import Recommender
from tiny import brute_force, random_rows, tiny_bundle, tiny_student

ITEMS = 40


@pytest.mark.parametrize("engine", ["onnx", "onnx-split"])
@pytest.mark.parametrize("seed", range(3))
def test_items_whose_pair_has_no_row_score_as_the_model_says(tmp_path, engine, seed):
    student, rows = tiny_student(seed), random_rows(ITEMS, seed=50 + seed)
    known = student.pairs.row[rows[:, 0].astype(int), rows[:, 1].astype(int)] > 0
    assert 0 < int(known.sum()) < ITEMS  # the student was made for other items: some pairs are new
    with Recommender.load(tiny_bundle(tmp_path / "b", student, rows, beam=ITEMS), engine) as recommender:
        found = recommender.recommend(["item-0", "item-7"], k=ITEMS, exclude_seen=False)
    truth = brute_force(student, rows[[0, 7]], rows)
    scores = {item.item_id: item.score for item in found}
    np.testing.assert_allclose([scores[f"item-{i}"] for i in range(ITEMS)], truth, atol=1e-4)
