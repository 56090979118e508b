"""Damaged files are refused in one sentence, or still answer soundly: a short `benchmarks/fuzz_formats.py`."""

from __future__ import annotations

import random

import pytest
from fuzz.mutate import bundle_case, outcome, session_case, trie_case

from device_engines import DEVICE_ENGINES
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


@pytest.mark.parametrize("engine", DEVICE_ENGINES)
def test_a_damaged_bundle_is_refused_or_sound(bundle, tmp_path, engine):
    rng = random.Random(1)
    found = [outcome(bundle_case(bundle, tmp_path, rng, engine)) for _ in range(RUNS)]
    assert found.count("refused") > RUNS / 2


def test_a_damaged_gguf_bundle_is_refused_or_sound(tmp_path):
    pytest.importorskip("llama_cpp", reason="GGUF runs on llama-cpp-python: pip install 'pocketrec[gguf]'")
    rng = random.Random(3)
    good = tiny_bundle(tmp_path / "good", tiny_student(), random_rows(40), format="gguf")
    found = [outcome(bundle_case(good, tmp_path, rng, "gguf")) for _ in range(RUNS)]
    assert found.count("refused") > RUNS / 2


def test_a_damaged_session_is_refused_or_the_same(bundle):
    rng = random.Random(2)
    with Recommender.load(bundle, "reference") as recommender:
        found = [outcome(session_case(recommender, rng)) for _ in range(RUNS)]
    assert found.count("refused") > RUNS / 2
