"""Every engine of this runtime gives the stored vectors: lists, sessions, swaps, explanations, refusals.

No torch here, so that these run wherever the device install is: another architecture, a small machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from device_engines import DEVICE_ENGINES, NEEDS_NATIVE
from pocketrec.runtime import errors
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.sync.live import LiveRecommender

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "vectors.json").read_text(encoding="utf-8"))
TOLERANCE = VECTORS["tolerance"]


def cases(kind):
    return pytest.mark.parametrize("case", VECTORS[kind], ids=lambda case: case["name"])


@pytest.fixture(scope="module", params=DEVICE_ENGINES)
def load(request):
    """Open a stored bundle, each once for an engine."""
    opened = {}

    def get(name):
        if name not in opened:
            opened[name] = Recommender.load(HERE / "bundles" / name, request.param)
        return opened[name]

    yield get
    for recommender in opened.values():
        recommender.close()


def same(found, expected):
    assert [item.item_id for item in found] == [item["id"] for item in expected]
    assert [item.title for item in found] == [item["title"] for item in expected]
    assert [item.score for item in found] == pytest.approx([item["score"] for item in expected], abs=TOLERANCE)


def recommend(recommender, call):
    within = None if call.get("within") is None else recommender.trie.filter_ids(call["within"])
    control = call.get("control")
    if control is not None:
        control, within = recommender.control(within=within, **control), None
    k, seen = call.get("k", 10), call.get("exclude_seen", True)
    beam = call.get("beam")
    if beam is None and recommender.retriever.experts is None:
        beam = recommender.manifest.model.beam  # not widened: other runtimes do not yet
    return recommender.recommend(call["history"], k, seen, within, beam, control)


@cases("answers")
def test_answers(case, load):
    found = recommend(load(case["bundle"]), case)
    same(found, case["expected"])
    assert list(found.unknown) == case["unknown"]


@cases("fused")
def test_fused_answers(case, load):
    recommender = load(case["bundle"])
    found = recommend(recommender, case)
    same(found, case["expected"])
    assert list(found.unknown) == case["unknown"]
    if case["within"] is None and case["control"] is None:
        session = recommender.session(case["history"][:2])
        for item in case["history"][2:]:
            session.recommend()
            session.observe(item)
        same(session.recommend(case["k"], case["exclude_seen"]), case["expected"])
        batch = recommender.recommend_batch([case["history"]] * 2, case["k"], exclude_seen=case["exclude_seen"])
        for found in batch:
            same(found, case["expected"])
        rows, scores = recommender.recommend_rows(
            recommender.trie.table.find(case["history"]), case["k"], exclude_seen=case["exclude_seen"]
        )
        assert recommender.trie.table.ids(rows) == [item["id"] for item in case["expected"]]
        assert scores.tolist() == pytest.approx([item["score"] for item in case["expected"]], abs=TOLERANCE)


@cases("sessions")
def test_sessions(case, load):
    recommender = load(case["bundle"])
    session = recommender.session()
    for step in case["steps"]:
        if "observe" in step:
            assert session.observe(step["observe"]) == step["known"]
        else:
            call = step["recommend"]
            within = None if call["within"] is None else recommender.trie.filter_ids(call["within"])
            beam = recommender.manifest.model.beam
            same(session.recommend(call["k"], call["exclude_seen"], within, beam), step["expected"])
    assert session.to_bytes().decode() == case["saved"]
    restored = recommender.restore_session(case["saved"].encode())
    assert restored.history == session.history
    assert not restored.renewed
    same(restored.recommend(5), [{"id": i.item_id, "score": i.score, "title": i.title} for i in session.recommend(5)])


@cases("swaps")
def test_swaps(case):
    bundles = HERE / "bundles"
    with LiveRecommender(case["from"], Recommender.load(bundles / case["from"]), Recommender.load) as live:
        session = live.session(case["history"])
        with live.using() as current:
            beam = current.manifest.model.beam
        for found in (live.recommend(case["history"], beam=beam), session.recommend(beam=beam)):
            same(found, case["before"])
        assert list(live.recommend(case["history"]).unknown) == case["unknown_before"]
        live.swap(case["to"], bundles / case["to"])
        with live.using() as current:
            beam = current.manifest.model.beam
        for found in (live.recommend(case["history"], beam=beam), session.recommend(beam=beam)):
            same(found, case["after"])
        assert list(live.recommend(case["history"]).unknown) == case["unknown_after"]


@cases("explanations")
def test_explanations(case, load):
    why = load(case["bundle"]).explain(case["history"], case["item"])
    assert why.score == pytest.approx(case["score"], abs=TOLERANCE)
    assert [name for name, _ in why.history] == [name for name, _ in case["history_changes"]]
    changes = [change for _, change in case["history_changes"]]
    assert [change for _, change in why.history] == pytest.approx(changes, abs=2 * TOLERANCE)


@cases("refusals")
def test_refusals(case, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(HERE / "bundles" / case["bundle"], bundle)
    if case["overlay"]:
        shutil.copytree(HERE / case["overlay"], bundle, dirs_exist_ok=True)
    for name in case["remove"]:
        (bundle / name).unlink()
    with pytest.raises(getattr(errors, case["error"])) as caught, Recommender.load(bundle, "onnx") as recommender:
        recommender.recommend([])
    assert case["says"] in str(caught.value)


@NEEDS_NATIVE
@pytest.mark.parametrize("name", ["plain", "wide", "int8", "tokens"])
def test_products_of_whole_numbers_give_about_the_same(name):
    folder = HERE / "bundles" / name
    with Recommender.load(folder, "native") as exact, Recommender.load(folder, "native-int8") as rounded:
        if not rounded.engine.kernels.endswith("int8"):
            pytest.skip("this processor has no int8 instructions")
        history = exact.trie.table.ids([2, 0, 3])
        truth = {item.item_id: item.score for item in exact.recommend(history, len(exact.trie))}
        found = {item.item_id: item.score for item in rounded.recommend(history, len(exact.trie))}
    assert found.keys() == truth.keys()
    assert found != truth
    assert np.corrcoef([found[item] for item in truth], list(truth.values()))[0, 1] > 0.98


@cases("session_refusals")
def test_session_refusals(case, load):
    with pytest.raises(getattr(errors, case["error"])) as caught:
        load(case["bundle"]).restore_session(case["saved"].encode())
    assert case["says"] in str(caught.value)


@cases("argument_refusals")
def test_argument_refusals(case, load):
    with pytest.raises(getattr(errors, case["error"])) as caught:
        recommend(load(case["bundle"]), case["call"])
    assert case["says"] in str(caught.value)


def test_calls_from_several_threads_give_what_single_calls_give(load):
    recommender = load("plain")
    histories = [[f"item-{(n * k) % 60}" for k in range(n % 6)] for n in range(16)]
    alone = recommender.recommend_batch(histories)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(recommender.recommend, histories)) == alone


def test_the_stored_vectors_are_those_that_the_script_makes(tmp_path):
    pytest.importorskip("torch", reason="writes the vectors again")
    subprocess.run([sys.executable, HERE / "make.py", tmp_path], check=True)
    made = json.loads((tmp_path / "vectors.json").read_text(encoding="utf-8"))
    rounded = {kind: _rough(VECTORS[kind]) for kind in VECTORS}
    assert {kind: _rough(made[kind]) for kind in made} == rounded
    names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    kept = [p.relative_to(HERE).as_posix() for part in ("bundles", "malformed") for p in (HERE / part).rglob("*")]
    assert names == sorted([*(k for k in kept if (HERE / k).is_file()), "vectors.json"])


def _rough(value):
    """A value whose numbers are near enough to be compared exactly; what depends on bytes of a graph left out."""
    if isinstance(value, dict):
        return {name: _rough(inner) for name, inner in value.items() if name != "saved"}
    if isinstance(value, list):
        return [_rough(inner) for inner in value]
    return pytest.approx(value, abs=TOLERANCE) if isinstance(value, float) else value
