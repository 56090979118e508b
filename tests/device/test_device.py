"""The runtime gives, on any machine, what the model gave where its bundle was made: no torch, stored answers.

`POCKETREC_VECTORS` names the folder that `make_vectors.py` wrote; without it these tests make it themselves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime.bundle import open_bundle
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.recommender import Recommender

NAMES = ("plain", "grouped", "no-pairs", "pruned", "int8", "int4")


@pytest.fixture(scope="session")
def vectors(tmp_path_factory) -> Path:
    if "POCKETREC_VECTORS" in os.environ:
        return Path(os.environ["POCKETREC_VECTORS"])
    pytest.importorskip("torch", reason="makes the vectors; or set POCKETREC_VECTORS")
    folder = tmp_path_factory.mktemp("vectors") / "v"
    subprocess.run([sys.executable, Path(__file__).parent / "make_vectors.py", folder], check=True)
    return folder


@pytest.fixture(scope="session", params=NAMES)
def case(request, vectors):
    return vectors / request.param, json.loads((vectors / f"{request.param}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("engine", ["onnx", "onnx-split", "reference"])
def test_every_item_has_the_score_that_the_model_gave_it(case, engine):
    folder, truth = case
    with Recommender.load(folder, engine) as recommender:
        for wanted in truth:
            items = len(wanted["scores"])
            found = recommender.recommend(wanted["history"], k=items, exclude_seen=False)
            assert sorted(item.item_id for item in found) == sorted(f"item-{i}" for i in range(items))
            scores = np.array([item.score for item in found])
            expected = np.array([wanted["scores"][int(item.item_id[5:])] for item in found])
            np.testing.assert_allclose(scores, expected, atol=1e-4)
            assert (np.diff(scores) <= 1e-6).all()
            assert all(item.title == f"Title {item.item_id[5:]}" for item in found)


def test_the_engines_agree_among_each_other(case):
    folder, truth = case
    history = truth[-1]["history"]
    answers = []
    for engine in ("onnx", "onnx-split", "reference"):
        with Recommender.load(folder, engine) as recommender:
            answers.append(recommender.recommend(history, k=10, beam=60))
    for other in answers[1:]:
        assert [item.item_id for item in other] == [item.item_id for item in answers[0]]
        np.testing.assert_allclose([i.score for i in other], [i.score for i in answers[0]], atol=1e-4)


def test_seen_items_stay_out_and_parts_give_their_items_alone(vectors):
    with Recommender.load(vectors / "plain") as recommender:
        seen = ["item-1", "item-2", "unknown"]
        found = recommender.recommend(seen, k=100)
        assert found.unknown == ("unknown",)
        assert len(found) == 58
        assert not {item.item_id for item in found} & set(seen)
        part = recommender.trie.filter_ids([f"item-{i}" for i in range(0, 60, 7)])
        inside = recommender.recommend(seen, k=100, within=part)
        order = [item.item_id for item in found if int(item.item_id[5:]) % 7 == 0]
        assert [item.item_id for item in inside] == order


def test_calls_from_several_threads_give_what_single_calls_give(vectors):
    with Recommender.load(vectors / "plain") as recommender:
        histories = [[f"item-{(n * k) % 60}" for k in range(n % 6)] for n in range(16)]
        alone = recommender.recommend_batch(histories)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(recommender.recommend, histories)) == alone


def test_a_damaged_bundle_is_refused(vectors, tmp_path):
    for path in (vectors / "plain").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((tmp_path / "trie.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "trie.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match="SHA-256"):
        open_bundle(tmp_path)
