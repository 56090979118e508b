"""Damaged files are refused in one sentence, or still answer soundly: a short `benchmarks/fuzz_formats.py`."""

from __future__ import annotations

import random

import pytest
from fuzz.mutate import bundle_case, damaged, outcome, trie_case

from pocketrec.runtime.errors import SessionError
from pocketrec.runtime.recommender import Recommender
from tiny import random_rows, tiny_bundle, tiny_student

RUNS = 300


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("fuzz") / "b", tiny_student(), random_rows(40))


def test_a_damaged_trie_is_refused_or_sound(bundle, tmp_path):
    rng = random.Random(0)
    found = [outcome(trie_case(bundle / "trie.safetensors", tmp_path, rng)) for _ in range(RUNS)]
    assert found.count("refused") > RUNS / 2


@pytest.mark.parametrize("engine", ["onnx", "reference"])
def test_a_damaged_bundle_is_refused_or_sound(bundle, tmp_path, engine):
    rng = random.Random(1)
    found = [outcome(bundle_case(bundle, tmp_path, rng, engine)) for _ in range(RUNS)]
    assert found.count("refused") > RUNS / 2


def test_a_damaged_session_is_refused_or_the_same(bundle):
    rng = random.Random(2)
    with Recommender.load(bundle, "reference") as recommender:
        session = recommender.session(["item-1", "item-5"])
        for _ in range(RUNS):
            try:
                again = recommender.restore_session(damaged(session.to_bytes(), rng))
            except SessionError:
                continue
            assert again.history == session.history
