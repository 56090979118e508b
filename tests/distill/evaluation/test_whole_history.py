"""Seen items are excluded by the whole history, also those that a model no longer reads, by every ranker."""

from __future__ import annotations

import numpy as np
import pytest

from experts import random_crowd, random_words
from pocketrec.distill.committee.committee import Committee, CommitteeWeights
from pocketrec.distill.committee.rankings import COMMITTEE, SharedLists, SharedRanker
from pocketrec.distill.config import SasrecConfig
from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.evaluation.baselines import CoOccurrence, Popularity, TransitionGraph
from pocketrec.distill.evaluation.protocol import hits
from pocketrec.distill.evaluation.ranking import ranked_lists
from pocketrec.distill.evaluation.student_ranker import StudentRanker
from pocketrec.distill.evaluation.word_graph import GraphAndWords
from pocketrec.distill.models.item_model import ItemRanker
from pocketrec.distill.models.sasrec import Sasrec, SasrecRanker
from pocketrec.distill.models.teacher import TeacherRanker
from pocketrec.export.measure import BundleRanker
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.recommender import Recommender
from tiny import random_rows, tiny_bundle, tiny_student
from tiny_teacher import teacher

N_ITEMS, LONG = 100, 60
ROWS = random_rows(N_ITEMS)
LOG = Sequences.from_lists([np.random.default_rng(n).integers(0, N_ITEMS, 12).tolist() for n in range(40)])
TEXTS = [f"odd{i % 2} third{i % 3} fifth{i % 5}" for i in range(N_ITEMS)]
VALID = EvalSet(LOG, np.arange(len(LOG), dtype=np.int32))


def sasrec():
    return Sasrec(SasrecConfig(dim=8, layers=1, heads=2), N_ITEMS, max_history=6).eval()


def committee():
    weights = CommitteeWeights("geometric", {"a": 0.7, "b": 0.4}, {"a": 0.5, "b": 0.5}, -1.0)
    return Committee({"a": sasrec(), "b": sasrec()}, weights)


def bundle(folder, fused):
    recommender = Recommender.load(tiny_bundle(folder / "bundle", tiny_student(), ROWS))
    if fused:
        experts = Experts(random_crowd(N_ITEMS), random_words(N_ITEMS), FusionWeights(crowd=1, words=1), N_ITEMS)
        recommender = Recommender(recommender.engine, recommender.trie, recommender.manifest, None, experts)
    return BundleRanker(recommender, [f"item-{i}" for i in range(N_ITEMS)])


RANKERS = {
    "popularity": lambda folder: Popularity.fit(LOG, N_ITEMS),
    "co-occurrence": lambda folder: CoOccurrence.fit(LOG, N_ITEMS),
    "transition graph": lambda folder: TransitionGraph.fit(LOG, N_ITEMS),
    "graph and words": lambda folder: GraphAndWords.fit(LOG, N_ITEMS, TEXTS, VALID),
    "SASRec": lambda folder: SasrecRanker(sasrec()),
    "teacher LLM": lambda folder: TeacherRanker(teacher(n_items=N_ITEMS)),
    "committee": lambda folder: ItemRanker(committee(), 6),
    "committee, shared lists": lambda folder: SharedRanker(SharedLists(committee(), ["a"], 6), COMMITTEE),
    "member, shared lists": lambda folder: SharedRanker(SharedLists(committee(), ["a"], 6), "a"),
    "student": lambda folder: StudentRanker(tiny_student(), ROWS),
    "student, narrow beam": lambda folder: StudentRanker(tiny_student(), ROWS, beam=1),
    "bundle": lambda folder: bundle(folder, fused=False),
    "fused bundle": lambda folder: bundle(folder, fused=True),
}


@pytest.mark.parametrize("name", RANKERS)
def test_the_best_item_is_not_listed_if_it_was_taken_long_ago(name, tmp_path):
    ranker = RANKERS[name](tmp_path)
    newest = np.random.default_rng(1).permutation(N_ITEMS)[:25].tolist()
    found = ranker.rank(Sequences.from_lists([newest]), 20, exclude_seen=False)[0].tolist()
    best = next(item for item in found if item not in newest)
    others = [item for item in range(N_ITEMS) if item not in (best, *newest)]
    history = [best, *others[: LONG - 26], *newest]
    assert len(history) == LONG
    case = EvalSet(Sequences.from_lists([history, newest]), np.array([best, best], np.int32))
    ranks = hits(ranker, case, n_items=N_ITEMS, exclude_seen=True)
    assert ranks.tolist() == [-1, 0]


@pytest.mark.parametrize("name", RANKERS)
def test_a_list_is_full_however_many_items_are_excluded(name, tmp_path):
    chance = np.random.default_rng(2)
    histories = [chance.permutation(N_ITEMS)[:n].tolist() * times for n, times in [(60, 1), (95, 1), (3, 1), (90, 3)]]
    case = EvalSet(Sequences.from_lists(histories), np.zeros(4, np.int32))
    lists = ranked_lists(RANKERS[name](tmp_path), case, n_items=N_ITEMS, exclude_seen=True, list_length=20)
    assert (lists >= 0).sum(1).tolist() == [20, 5, 20, 10]
