"""Weights of crowd and words: what the record says is what the runtime gives, and never worse than the student."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experts import random_crowd, random_words
from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.evaluation.metrics import gains
from pocketrec.distill.evaluation.protocol import hits
from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle
from pocketrec.export.experts import BundleExperts
from pocketrec.export.fusion import FittedFusion, fit_fusion
from pocketrec.export.measure import BundleRanker
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.recommender import Recommender
from tiny import CODES, SPACE, random_rows, tiny_student

N = 40
IDS = [f"item-{i}" for i in range(N)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fusion") / "b"
    write_bundle(folder, tiny_student(), BundleItems(random_rows(N), IDS, None, SPACE), BundleSettings(N, CODES))
    with Recommender.load(folder) as recommender:
        yield recommender


def ring_crowd():
    """One edge an item, to the next one."""
    return Crowd(
        np.arange(N + 1, dtype=np.int64), ((np.arange(N) + 1) % N).astype(np.int32), np.ones(N, np.float32),
        np.full(N, -np.log(N), np.float32),
    )  # fmt: skip


def histories(n=120, length=4, seed=0):
    chance = np.random.default_rng(seed)
    return [chance.choice(N, length, replace=False).tolist() for _ in range(n)]


def of_crowd(lists, right=0.6, seed=1):
    """Mostly the next item of the ring; else any item that is not in the history."""
    chance = np.random.default_rng(seed)
    targets = []
    for history in lists:
        following = (history[-1] + 1) % N
        others = [i for i in range(N) if i not in history]
        targets.append(following if chance.random() < right and following in others else chance.choice(others))
    return EvalSet(Sequences.from_lists(lists), np.array(targets, np.int32))


def measured(alone, experts, weights, cases, exclude_seen):
    """The ndcg@10 of the fused lists through the runtime."""
    crowd, words = experts.in_order_of(alone.trie, IDS)
    fused = Recommender(alone.engine, alone.trie, alone.manifest, None, Experts(crowd, words, weights, N))
    found = hits(BundleRanker(fused, IDS, beam=N), cases, n_items=N, exclude_seen=exclude_seen)
    return gains(found, "ndcg@10").mean()


@pytest.mark.parametrize("crowd", [ring_crowd(), random_crowd(N, 3)], ids=["knows", "knows nothing"])
def test_the_record_is_what_the_runtime_gives_and_not_worse_than_the_student(alone, crowd):
    experts, cases = BundleExperts(crowd, random_words(N, 3)), of_crowd(histories())
    fitted = fit_fusion(alone, experts, IDS, cases)
    assert fitted.convention == "seen excluded"
    assert fitted.ndcg["fused"] >= fitted.ndcg["student"]
    off = replace(fitted.weights, crowd=0.0, words=0.0)
    assert measured(alone, experts, fitted.weights, cases, True) == pytest.approx(fitted.ndcg["fused"], abs=0.01)
    assert measured(alone, experts, off, cases, True) == pytest.approx(fitted.ndcg["student"], abs=0.01)


def test_an_expert_that_knows_nothing_is_left_out_and_the_record_says_why(alone):
    lists = histories()
    best = [alone.recommend([IDS[i] for i in history], k=1)[0].item_id for history in lists]
    cases = EvalSet(Sequences.from_lists(lists), np.array([IDS.index(name) for name in best], np.int32))
    fitted = fit_fusion(alone, BundleExperts(random_crowd(N, 3), None), IDS, cases)
    assert (fitted.weights.crowd, fitted.weights.words) == (0, 0)
    record = fitted.record()
    assert record["left_out"]["words"] == "the catalogue has no texts"
    assert "not better" in record["left_out"]["crowd"]


def test_an_expert_that_is_better_alone_is_named():
    ndcg = {"student": 0.05, "crowd": 0.08, "words": 0.02, "crowd and words": 0.09, "fused": 0.07}
    (note,) = FittedFusion(FusionWeights(), ndcg, "seen excluded").notes
    assert note.startswith("Without the student, crowd and words would have an ndcg@10 of 0.0900")
    assert FittedFusion(FusionWeights(), {**ndcg, "fused": 0.09}, "seen excluded").notes == []


def test_seen_items_are_held_back_where_nobody_returns(alone):
    experts, cases = BundleExperts(ring_crowd(), random_words(N, 3)), of_crowd(histories())
    fitted = fit_fusion(alone, experts, IDS, cases)
    assert fitted.weights.seen < 0
    off = replace(fitted.weights, seen=0.0)
    assert measured(alone, experts, fitted.weights, cases, False) > measured(alone, experts, off, cases, False)


def test_seen_items_are_lifted_where_people_return(alone):
    lists = histories()
    cases = EvalSet(Sequences.from_lists(lists), np.array([history[1] for history in lists], np.int32))
    experts = BundleExperts(ring_crowd(), random_words(N, 3))
    fitted = fit_fusion(alone, experts, IDS, cases)
    assert fitted.convention == "seen kept"
    assert fitted.weights.seen > 0
    assert measured(alone, experts, fitted.weights, cases, False) == pytest.approx(fitted.ndcg["fused"], abs=0.02)
