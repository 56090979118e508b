"""The baseline "graph and words": its scores are those of plain loops, its weights those that rank validation best."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.evaluation import word_graph
from pocketrec.distill.evaluation.baselines import TransitionGraph
from pocketrec.distill.evaluation.protocol import hits
from pocketrec.distill.evaluation.word_graph import (
    POPULAR,
    SEEN_WEIGHTS,
    WORD_WEIGHTS,
    GraphAndWords,
    word_neighbours,
)
from pocketrec.distill.experts.words import build_words
from simple_rankers import cases

N_ITEMS = 8
WORDS = ["red", "blue", "shoe", "hat", "wool"]
items = st.integers(0, N_ITEMS - 1)
logs = st.lists(st.lists(items, max_size=7), min_size=1, max_size=8)
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join), min_size=N_ITEMS, max_size=N_ITEMS)


def cosine(words, i, j):
    def vector(item):
        return {t: words.idf[t] for t in words.terms[words.first[item] : words.first[item + 1]].tolist()}

    first, second = vector(i), vector(j)
    dot = sum(first[t] * second[t] for t in first.keys() & second.keys())
    size = math.sqrt(sum(v * v for v in first.values()) * sum(v * v for v in second.values()))
    return dot / size if size else 0.0


@settings(max_examples=40)
@given(texts)
def test_neighbours_have_the_cosines_of_all_pairs(texts):
    words = build_words(texts, 255)
    expected = [[cosine(words, i, j) if i != j else 0.0 for j in range(N_ITEMS)] for i in range(N_ITEMS)]
    np.testing.assert_allclose(word_neighbours(words).toarray(), expected, atol=1e-6)


def test_the_strongest_neighbours_alone_are_kept(monkeypatch):
    monkeypatch.setattr(word_graph, "NEIGHBOURS", 2)
    monkeypatch.setattr(word_graph, "BLOCK", 3)
    near = word_neighbours(build_words(["a b", "a b", "a", "b c", "c a b", "a"], 255))
    assert np.diff(near.indptr).tolist() == [2] * 6
    assert near[[0], [1]].item() == pytest.approx(1.0)


@settings(max_examples=40)
@given(logs, texts, st.lists(items, max_size=6), st.sampled_from([0.0, 2.0]), st.sampled_from([0.0, -4.0]))
def test_scores_are_those_of_the_formula(log, texts, history, weight, seen):
    train, words = Sequences.from_lists(log), build_words(texts, 255)
    graph = TransitionGraph.fit(train, N_ITEMS)
    counts = np.bincount(train.events(), minlength=N_ITEMS) + 1.0
    floor = np.log(POPULAR * counts / counts.sum()).astype(np.float32)
    baseline = GraphAndWords(graph.edges, graph.recency, floor, 20, word_neighbours(words), weight, seen)
    reached = np.zeros(N_ITEMS)
    for age, item in enumerate(reversed(history)):
        reached += 0.5**age * graph.edges.toarray()[item]
    share = reached / reached.sum() if reached.any() else reached
    expected = np.log((1 - POPULAR) * share + POPULAR * counts / counts.sum())
    for age, item in enumerate(list(reversed(history))[:3]):
        expected += weight * 0.5**age * np.array([cosine(words, item, j) if j != item else 0 for j in range(N_ITEMS)])
    expected[list(set(history))] += seen
    got = baseline.scores(Sequences.from_lists([[], history]))[1]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def like_words(n=60):
    """Every item has a twin with the same rare word; people take the twin next, and no two the same item."""
    texts = [f"word{i // 2} thing" for i in range(n)]
    return texts, cases(*[([i], i ^ 1) for i in range(n)])


def test_words_get_a_weight_where_they_tell_the_next_item():
    texts, valid = like_words()
    train = Sequences.from_lists([[i, (i + 7) % 60] for i in range(60)])
    baseline = GraphAndWords.fit(train, 60, texts, valid)
    assert baseline.weight > 0
    assert (hits(baseline, valid, n_items=60, exclude_seen=True) == 0).all()
    graph = hits(TransitionGraph.fit(train, 60), valid, n_items=60, exclude_seen=True)
    assert (graph != 0).all()


def test_words_get_no_weight_where_they_mislead():
    texts, _ = like_words()
    train = Sequences.from_lists([[i, (i + 7) % 60] for i in range(60)])
    valid = cases(*[([i], (i + 7) % 60) for i in range(60)])
    baseline = GraphAndWords.fit(train, 60, texts, valid)
    assert baseline.weight == 0.0
    assert WORD_WEIGHTS[0] == SEEN_WEIGHTS[0] == 0.0  # of equal weights the first one, which changes nothing, is taken


@pytest.mark.parametrize(("again", "sign"), [(True, 1), (False, -1)])
def test_seen_items_rise_where_people_come_back_and_fall_where_they_do_not(again, sign):
    chance = np.random.default_rng(0)
    log = [chance.permutation(30)[:6].tolist() for _ in range(60)]
    targets = [history[0] if again else next(i for i in range(30) if i not in history) for history in log]
    valid = EvalSet(Sequences.from_lists(log), np.array(targets, np.int32))
    baseline = GraphAndWords.fit(Sequences.from_lists(log), 30, ["a word"] * 30, valid)
    assert np.sign(baseline.seen) == sign
