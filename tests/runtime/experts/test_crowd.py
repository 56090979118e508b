"""The crowd's graph: what arrives over edges, its file, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts import crowd_of, random_crowd
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.experts.crowd import FORMAT, VERSION, Crowd
from pocketrec.runtime.files.safetensors import write_tensors


def arrived(crowd, history, recency):
    """Brute force: every edge of every item of the history, one by one."""
    total = {}
    for age, item in enumerate(reversed(history)):
        for edge in range(crowd.first[item], crowd.first[item + 1]):
            to = int(crowd.neighbours[edge])
            total[to] = total.get(to, 0.0) + recency**age * float(crowd.weights[edge])
    return total


@given(st.integers(0, 1000), st.lists(st.integers(0, 19), max_size=8))
def test_what_arrives_is_the_sum_over_edges(seed, history):
    crowd = random_crowd(20, seed)
    items, values = crowd.reached(np.array(history, np.int32), 0.5)
    expected = arrived(crowd, history, 0.5)
    assert items.tolist() == sorted(expected)
    np.testing.assert_allclose(values, [expected[i] for i in items.tolist()], rtol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 20, 70_000])
def test_a_file_gives_back_what_was_saved_to_8_bits(tmp_path, n):
    crowd = random_crowd(n, 1)
    crowd.save(tmp_path / "graph.safetensors")
    again = Crowd.load(tmp_path / "graph.safetensors", n)
    np.testing.assert_array_equal(again.first, crowd.first)
    np.testing.assert_array_equal(again.neighbours, crowd.neighbours)
    strongest = np.zeros(n)
    np.maximum.at(strongest, np.repeat(np.arange(n), np.diff(crowd.first)), crowd.weights)
    allowed = np.repeat(strongest, np.diff(crowd.first)) / 255  # the least weight kept is one step
    assert (np.abs(again.weights - crowd.weights) <= allowed + 1e-6).all()
    np.testing.assert_allclose(again.log_popularity, crowd.log_popularity, atol=0.02)


def test_equal_crowds_give_equal_bytes(tmp_path):
    random_crowd(30, 2).save(tmp_path / "a")
    random_crowd(30, 2).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


GOOD = {
    "scales": np.array([1.0, 0.0, 2.0], np.float32),
    "popularity_range": np.array([-3.0, 0.01], np.float32),
    "neighbours": np.array([1, 2, 0], np.uint16),
    "counts": np.array([2, 0, 1], np.uint8),
    "weights": np.array([255, 10, 255], np.uint8),
    "popularity": np.array([0, 1, 2], np.uint8),
}
FAULTS = {
    "another catalogue": ({}, 4, "it has 3 items, the catalogue 4"),
    "a neighbour outside": ({"neighbours": np.array([1, 3, 0], np.uint16)}, 3, "no item of the catalogue"),
    "counts that do not fit": ({"counts": np.array([1, 0, 1], np.uint8)}, 3, "do not fit each other"),
    "weights that do not fit": ({"weights": np.array([255, 10], np.uint8)}, 3, "do not fit each other"),
    "a scale that is NaN": ({"scales": np.array([np.nan, 0, 1], np.float32)}, 3, "no positive number"),
    "an edge without weight": ({"weights": np.array([255, 0, 9], np.uint8)}, 3, "an edge without weight"),
    "edges without a scale": ({"scales": np.array([0, 0, 1], np.float32)}, 3, "an edge without weight"),
    "popularity above one": ({"popularity_range": np.array([0.0, 0.1], np.float32)}, 3, "no probabilities"),
    "a missing tensor": ({"weights": None}, 3, "needs exactly the tensors"),
    "another type": ({"counts": np.array([2, 0, 1], np.uint16)}, 3, "counts of U16"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_file_is_refused_in_one_sentence(tmp_path, fault):
    change, n, message = FAULTS[fault]
    tensors = {name: tensor for name, tensor in {**GOOD, **change}.items() if tensor is not None}
    write_tensors(tmp_path / "graph.safetensors", {"format": FORMAT, "version": VERSION}, tensors)
    with pytest.raises(BundleError, match=message):
        Crowd.load(tmp_path / "graph.safetensors", n)


def test_another_version_is_refused(tmp_path):
    write_tensors(tmp_path / "graph.safetensors", {"format": FORMAT, "version": "2"}, GOOD)
    with pytest.raises(BundleError, match="version '2'"):
        Crowd.load(tmp_path / "graph.safetensors", 3)


def test_the_good_file_of_these_cases_is_good(tmp_path):
    write_tensors(tmp_path / "graph.safetensors", {"format": FORMAT, "version": VERSION}, GOOD)
    crowd = Crowd.load(tmp_path / "graph.safetensors", 3)
    assert crowd.neighbours.tolist() == [1, 2, 0]
    np.testing.assert_allclose(crowd.weights, [1.0, 10 / 255, 2.0], rtol=1e-6)


def test_nothing_arrives_from_an_empty_history():
    items, values = crowd_of({0: {1: 1.0}}, 2).reached(np.empty(0, np.int32), 0.5)
    assert len(items) == len(values) == 0
