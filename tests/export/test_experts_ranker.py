"""Each expert alone: lists by brute force, and the measures of a bundle's parts."""

from __future__ import annotations

import numpy as np
import pytest

from experts import random_crowd, random_words
from pocketrec.distill.config import EvaluationConfig
from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.distill.evaluation.kept_ranks import KeptRanks
from pocketrec.distill.evaluation.metrics import metrics_from_ranks
from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle
from pocketrec.export.experts import BundleExperts
from pocketrec.export.experts_ranker import ExpertsRanker
from pocketrec.export.measure import measure_bundle
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.recommender import Recommender
from tiny import CODES, SPACE, brute_force, random_rows, tiny_student

N = 40
ROWS = random_rows(N)
IDS = [f"item-{i}" for i in range(N)]
HISTORIES = [[3, 8, 1], [7], [], [5, 5, 9, 30, 2, 7, 8, 11]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    experts = BundleExperts(random_crowd(N, 3), random_words(N, 3), FusionWeights(crowd=0.6, words=2.0, seen=-1.0))
    place = tmp_path_factory.mktemp("ranker") / "b"
    write_bundle(place, tiny_student(), BundleItems(ROWS, IDS, None, SPACE), BundleSettings(N, CODES), experts=experts)
    return place


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_lists_are_those_of_the_terms_in_order(folder, exclude_seen):
    with Recommender.load(folder) as recommender:
        experts, trie = recommender.retriever.experts, recommender.trie
        popularity = experts.crowd.log_popularity
        for one in experts.single().values():
            found = ExpertsRanker(one, trie, IDS, popularity).rank(Sequences.from_lists(HISTORIES), N, exclude_seen)
            for history, ranked in zip(HISTORIES, found, strict=True):
                rows = trie.table.find([IDS[i] for i in history])
                key = {
                    i: (round(one.term(rows, row), 4), round(float(popularity[row]), 3))
                    for i, row in enumerate(trie.table.find(IDS).tolist())
                    if not (exclude_seen and i in history)
                }
                kept = ranked[ranked >= 0].tolist()
                assert sorted(kept) == sorted(key)
                assert [key[i] for i in kept] == sorted(key.values(), reverse=True)


def test_a_bundle_is_measured_with_its_parts_on_the_same_users(folder):
    histories = Sequences.from_lists([[i % N, (3 * i + 1) % N, (7 * i + 2) % N, (i + 5) % N] for i in range(30)])
    split, kept = leave_one_out(histories), KeptRanks()
    found = measure_bundle(folder, IDS, split, EvaluationConfig(), kept=kept)
    assert set(found) == {"seen kept", "seen excluded", "alone"}
    assert set(found["alone"]) == {"student", "crowd", "words"}
    ranks = []
    for history, target in zip(split.test.histories, split.test.targets.tolist(), strict=True):
        order = np.argsort(-brute_force(tiny_student(), ROWS[history], ROWS), kind="stable").tolist()
        ranks.append(order.index(target) if order.index(target) < 20 else -1)
    measured = metrics_from_ranks(np.array(ranks, np.int32)).to_dict()
    assert {name: found["alone"]["student"]["seen kept"][name] for name in measured} == pytest.approx(measured)
    for name, by_convention in {"bundle": found, **found["alone"]}.items():
        for convention in ("seen kept", "seen excluded"):
            own = metrics_from_ranks(kept.of(name, convention)).to_dict()
            assert {key: by_convention[convention][key] for key in own} == own


def test_a_bundle_without_experts_has_no_parts(tmp_path):
    write_bundle(tmp_path / "b", tiny_student(), BundleItems(ROWS, IDS, None, SPACE), BundleSettings(N, CODES))
    split = leave_one_out(Sequences.from_lists([[1, 2, 3, 4], [5, 6, 7, 8]]))
    assert set(measure_bundle(tmp_path / "b", IDS, split, EvaluationConfig())) == {"seen kept", "seen excluded"}
