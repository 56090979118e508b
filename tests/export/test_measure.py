"""A bundle is measured through the runtime, on its own files, in the caller's rows."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.export.measure import BundleRanker, bundle_bytes, evaluate_bundle, evaluate_log
from pocketrec.runtime.recommender import Recommender
from tiny import brute_force, random_rows, tiny_bundle, tiny_student

ROWS = random_rows(30)
IDS = [f"item-{i}" for i in range(30)]


@pytest.fixture(scope="module")
def student():
    return tiny_student()


@pytest.fixture(scope="module")
def recommender(student, tmp_path_factory):
    return Recommender.load(tiny_bundle(tmp_path_factory.mktemp("b") / "b", student, ROWS, beam=30))


def expected_order(student, history):
    return np.argsort(-brute_force(student, ROWS[history].astype(np.int64), ROWS), kind="stable").tolist()


def test_the_bundle_ranks_as_brute_force_does_in_any_order_of_the_catalogue(recommender, student):
    shuffled = np.random.default_rng(0).permutation(30)
    place = np.argsort(shuffled)  # where each of our items stands in the caller's catalogue
    ranker = BundleRanker(recommender, [IDS[i] for i in shuffled])
    history = [3, 8, 1]
    ranked = ranker.rank(Sequences.from_lists([[int(place[i]) for i in history]]), 30, exclude_seen=False)
    assert [int(shuffled[i]) for i in ranked[0]] == expected_order(student, history)


def test_metrics_are_those_of_the_brute_force_ranks(recommender, student):
    histories = [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10, 11], [12, 13, 14]]
    questions = leave_one_out(Sequences.from_lists(histories)).test
    measured = evaluate_bundle(recommender, IDS, questions)
    ranks = [expected_order(student, h[:-1]).index(h[-1]) for h in histories]
    assert measured["recall@10"] == pytest.approx(np.mean([r < 10 for r in ranks]))
    gains = [1 / np.log2(r + 2) if r < 10 else 0 for r in ranks]
    assert measured["ndcg@10"] == pytest.approx(np.mean(gains))
    assert measured["invalid"] == 0
    assert 0 < measured["p50_ms"] <= measured["p95_ms"]


def test_a_log_with_items_the_bundle_lacks_counts_them_as_misses(recommender, tmp_path):
    log = tmp_path / "log.csv"
    rows = [(u, i, t) for u in range(5) for t, i in enumerate(("item-1", "strange", "item-2", "item-3"))]
    rows += [("lost", i, t) for t, i in enumerate(("item-1", "item-2", "elsewhere"))]
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{1_600_000_000 + t}\n" for u, i, t in rows))
    folder = tmp_path  # only weighed
    measured = evaluate_log(recommender, folder, log, DataConfig())
    assert measured["users"] == 6
    assert measured["recall@10"] <= 5 / 6
    assert measured["parameters"] == recommender.manifest.model.parameters


def test_every_file_is_weighed(tmp_path, student):
    folder = tiny_bundle(tmp_path / "b", student, ROWS)
    assert bundle_bytes(folder) == {p.name: p.stat().st_size for p in folder.iterdir()}
    assert {"manifest.json", "model.safetensors", "recommender.onnx", "trie.safetensors"} <= bundle_bytes(folder).keys()
