"""A converted Llama's graph: large vocabularies take another path to the same scores."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.export.onnx import llama
from pocketrec.runtime.recommender import Recommender
from tiny_llama import ITEMS, judge, tiny_conversion, tiny_source


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("engine", ["onnx", "onnx-split"])
def test_without_a_table_of_projections_the_scores_are_the_same(tmp_path, monkeypatch, tied, engine):
    model, _, rows = tiny_source(tmp_path, tie_word_embeddings=tied)
    monkeypatch.setattr(llama, "MAX_TABLE_ROWS", 0)
    tiny_conversion(tmp_path)
    with Recommender.load(tmp_path / "bundle", engine) as recommender:
        found = recommender.recommend(["item-4", "item-9"], k=ITEMS, exclude_seen=False, beam=ITEMS)
    truth = judge(model, (), rows[[4, 9]], rows)
    np.testing.assert_allclose([item.score for item in found], np.sort(truth)[::-1], atol=1e-4)
