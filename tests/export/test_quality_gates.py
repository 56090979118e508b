"""Gates compare what the files recommend, and refuse a loss by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.export.quality_gates import QualityGate, agreement, measure_quality_gates, refuse_losses
from pocketrec.runtime.errors import ExportError
from tiny import random_rows, tiny_bundle, tiny_student

ITEMS = 40
IDS = [f"item-{i}" for i in range(ITEMS)]


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("gates"), random_rows(ITEMS)
    good, bad = tiny_student(), tiny_student()
    with torch.no_grad():
        bad.decoder.out[0].weight.neg_()
        bad.decoder.out[0].bias.neg_()
    same, worse = tiny_bundle(folder / "same", good, rows), tiny_bundle(folder / "worse", bad, rows)
    generator = np.random.default_rng(0)
    histories = Sequences.from_lists([generator.integers(0, ITEMS, n % 5 + 1).tolist() for n in range(60)])
    questions = EvalSet(histories, generator.integers(0, ITEMS, 60).astype(np.int32))
    return measure_quality_gates([("first", same), ("again", same), ("worse", worse)], ids_of(same), questions)


def ids_of(folder):
    from pocketrec.runtime.recommender import Recommender

    with Recommender.load(folder) as recommender:
        return recommender.trie.table.ids(range(ITEMS))


def test_the_same_files_agree_and_others_do_not(gates):
    first, again, worse = gates
    assert (again.agreement, again.ndcg, again.bytes) == (1.0, first.ndcg, first.bytes)
    assert worse.agreement < 0.9
    assert first.peak_mb > 10
    assert first.p50_ms > 0


def test_rows_have_their_published_names(gates):
    assert set(gates[0].to_dict()) == {
        "artifact", "bytes", "recall@10", "ndcg@10", "agreement@10", "p50_ms", "peak_mb",
    }  # fmt: skip


def test_agreement_is_the_share_of_shared_items_in_any_order():
    first = np.array([[1, 2, 3, 4], [5, 6, -1, -1], [-1, -1, -1, -1]], np.int32)
    other = np.array([[4, 3, 9, 8], [6, 7, 5, 1], [1, 2, 3, 4]], np.int32)
    assert agreement(first, other) == pytest.approx((0.5 + 1.0 + 1.0) / 3)


def test_a_loss_is_refused_with_the_row_that_failed():
    first = QualityGate("onnx float32", 10, 0.1, 0.05, 1.0, 1.0, 50.0)
    close, far = (dataclasses.replace(first, artifact=name, ndcg=n) for name, n in (("int8", 0.0495), ("int4", 0.04)))
    refuse_losses([first, close], 0.02)
    with pytest.raises(ExportError, match=r"int4 has ndcg@10 0\.0400, 20\.0% below onnx float32 \(0\.0500\)"):
        refuse_losses([first, close, far], 0.02)
    refuse_losses([first, far], 0.25)
