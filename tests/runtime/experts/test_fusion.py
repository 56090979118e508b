"""Fusion: every node's gain, by brute force, and that a leaf's total is exact along its path."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from experts import crowd_of, random_crowd, random_words
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.control import node_bias
from pocketrec.runtime.experts.fusion import LIKE_TENTH, PASSED_TENTH, Experts
from pocketrec.runtime.experts.weights import FusionWeights
from tiny import CODES, random_rows

N = 40
WEIGHTS = FusionWeights(crowd=0.7, words=3.0)


def whole_trie():
    return ItemTrie.from_rows(random_rows(N), [str(i) for i in range(N)], codes_per_level=CODES)


def expected_gains(crowd, words, weights, history):
    """b · log P_crowd + a · words of every item, float64 [n], from the formulas."""
    reached, total = np.zeros(N), 0.0
    items, values = crowd.reached(history, weights.crowd_recency)
    reached[items], total = values, float(values.sum())
    popularity = np.exp(crowd.log_popularity.astype(np.float64))
    probability = weights.popular * popularity + ((1 - weights.popular) * reached / total if total else 0.0)
    out = weights.crowd * np.log(probability)
    items, cosines = words.reached(history[-weights.words_items :], weights.words_recency)
    out[items] += weights.words * cosines
    return out


@given(st.integers(0, 500), st.lists(st.integers(0, N - 1), max_size=9))
def test_a_leaf_has_its_own_gain_and_a_node_the_largest_below(seed, history):
    crowd, words, trie = random_crowd(N, seed), random_words(N, seed), whole_trie()
    experts, history = Experts(crowd, words, WEIGHTS, N), np.array(history, np.int32)
    nodes = experts.node_bias(trie, experts.floor(trie), history)
    expected = expected_gains(crowd, words, WEIGHTS, history)
    np.testing.assert_allclose(nodes[trie.n_internal :], expected[trie.table_rows], atol=1e-4)
    for node in range(1, trie.n_internal):
        below = nodes[trie.first_child[node] : trie.first_child[node + 1]]
        assert nodes[node] == below.max()
    assert nodes[0] == 0


@given(st.integers(0, 100), st.lists(st.integers(0, N - 1), max_size=6))
def test_a_part_of_the_catalogue_has_the_gains_of_the_whole(seed, history):
    crowd, words, trie = random_crowd(N, seed), random_words(N, seed), whole_trie()
    part = trie.filter(np.arange(N) % 3 != 0)
    own = np.random.default_rng(seed).normal(size=len(part)).astype(np.float32)
    experts, history = Experts(crowd, words, WEIGHTS, N), np.array(history, np.int32)
    nodes = experts.node_bias(part, experts.floor(part, own), history)
    expected = expected_gains(crowd, words, WEIGHTS, history)[part.table_rows] + own
    np.testing.assert_allclose(nodes[part.n_internal :], expected, atol=1e-4)


def test_an_expert_without_weight_is_left_out():
    crowd, words = random_crowd(N, 1), random_words(N, 1)
    history = np.arange(5, dtype=np.int32)
    alone = Experts(crowd, words, FusionWeights(crowd=0.0, words=2.0), N)
    items, gains = alone.gains(history)
    reached, cosines = words.reached(history[-3:], 0.5)
    np.testing.assert_array_equal(items, reached)
    np.testing.assert_allclose(gains, 2.0 * cosines, rtol=1e-6)


def test_without_edges_popularity_alone_decides():
    crowd = crowd_of({}, N, np.arange(1, N + 1))
    trie = whole_trie()
    experts = Experts(crowd, None, FusionWeights(crowd=1.0), N)
    nodes = experts.node_bias(trie, experts.floor(trie), np.array([3], np.int32))
    leaves = nodes[trie.n_internal :]
    assert trie.table_rows[np.argmax(leaves)] == N - 1
    assert math.isclose(float(leaves.max()), math.log(0.1 * N / (N * (N + 1) / 2)), rel_tol=1e-4)


def brute_gains(experts, history):
    """Gain of every item without `seen`, float64 [n]."""
    out = experts.floor(whole_trie()).leaves.astype(np.float64)
    items, gains = experts.gains(history)
    out[items] += gains
    return out


@given(
    st.integers(0, 100),
    st.lists(st.integers(0, N - 1), max_size=12),
    st.sampled_from([-1000.0, -2.0, 0.0, 1.5]),
    st.sampled_from([(0.7, 3.0), (0.0, 0.0), (0.0, 2.0)]),
)
def test_an_item_of_the_history_that_may_come_back_gains_seen_once(seed, history, seen, both):
    crowd, words, trie = random_crowd(N, seed), random_words(N, seed), whole_trie()
    experts = Experts(crowd, words, FusionWeights(crowd=both[0], words=both[1], seen=seen), N)
    history = np.array(history, np.int32)
    expected = brute_gains(experts, history)
    expected[np.unique(history)] += seen
    floor = experts.floor(trie)
    nodes = experts.node_bias(trie, floor, history)
    np.testing.assert_allclose(nodes[trie.n_internal :], expected[trie.table_rows], atol=1e-4)
    for node in range(1, trie.n_internal):
        below = nodes[trie.first_child[node] : trie.first_child[node + 1]].max()
        assert nodes[node] >= below
        assert nodes[node] == max(below, floor.nodes[node])


@given(st.integers(0, 100), st.lists(st.integers(0, N - 1), max_size=12), st.sampled_from([-1.0, 0.0, 50.0]))
def test_items_that_are_left_out_lift_no_prefix(seed, history, seen):
    crowd, words, trie = random_crowd(N, seed), random_words(N, seed), whole_trie()
    experts = Experts(crowd, words, FusionWeights(crowd=0.7, words=3.0, seen=seen), N)
    history = np.array(history, np.int32)
    floor = experts.floor(trie)
    nodes = experts.node_bias(trie, floor, history, exclude_seen=True)
    leaves = floor.leaves.copy()
    expected = brute_gains(experts, history)[trie.table_rows]
    others = ~np.isin(trie.table_rows, history)
    leaves[others] = expected[others]
    np.testing.assert_allclose(nodes, node_bias(trie, leaves), atol=1e-4)


@given(st.integers(0, 300), st.lists(st.integers(0, N - 1), max_size=6), st.sets(st.integers(0, N - 1), min_size=1))
def test_cold_items_score_by_words_by_what_resembles_them_and_by_the_crowd(seed, history, cold):
    crowd, words = random_crowd(N, seed), random_words(N, seed)
    weights = FusionWeights(crowd=0.7, words=3.0, tenth=-9.0, tenth_model=-6.0)
    experts, history = Experts(crowd, words, weights, N), np.array(history, np.int32)
    passed = {i: -1.0 - i for i in range(0, N, 3)}  # also to items that are not cold
    given = np.array(list(passed), np.int32), np.array(list(passed.values()), np.float32)
    found, scores = experts.stand_ins(history, np.array(sorted(cold), np.int32), given)
    near, cosines = words.reached(history[-3:], 0.5)
    alike = dict(zip(near.tolist(), cosines.tolist(), strict=True))
    edges = set(crowd.reached(history, 0.5)[0].tolist())
    whole = expected_gains(crowd, words, weights, history)
    truth = {}
    for i in sorted(cold):
        ways = [-9.0 - LIKE_TENTH * 3.0] if i in alike else []
        ways += [passed[i] - 9.0 + PASSED_TENTH] if i in passed else []
        options = [math.log(sum(map(math.exp, ways))) + 3.0 * alike.get(i, 0.0)] if ways else []
        options += [whole[i] - 6.0] if i in edges else []
        if options:
            truth[i] = max(options)
    assert found.tolist() == list(truth)
    np.testing.assert_allclose(scores, list(truth.values()), atol=1e-4)
