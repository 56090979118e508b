"""Cold items get the scores that their neighbours pass on, in every kind of call; damaged files are refused."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
from fuzz.mutate import damaged, outcome, sealed
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from device_engines import DEVICE_ENGINES
from pocketrec.export.refresh import Resemblances, write_cold_items, write_refreshed
from pocketrec.runtime.bundle.bundle import COLD_FILE, open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.cold_items import FROM_FOUND, FROM_RECENT, ColdItems
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.session import model_id
from tiny import CODES, SPACE, random_rows, tiny_bundle, tiny_student

N, COLD = 50, range(40, 50)  # items; those that nobody has interacted with
IDS = [f"item-{i}" for i in range(N)]


def likeness(seed=0):
    """Each cold item's neighbours and their weights, by number of the item."""
    rng = np.random.default_rng(seed)
    return {i: {int(j): float(rng.uniform(0.05, 1)) for j in rng.choice(40, 3, replace=False)} for i in COLD}


def as_tensors(trie, alike):
    row = {name: int(place) for name, place in zip(IDS, trie.table.find(IDS), strict=True)}
    items = sorted(alike, key=lambda i: row[IDS[i]])
    return Resemblances(
        np.array([row[IDS[i]] for i in items], np.int32),
        np.array([row[IDS[j]] for i in items for j in alike[i]], np.int32),
        np.array([w for i in items for w in alike[i].values()], np.float16),
        np.array([len(alike[i]) for i in items], np.uint8),
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    base = tiny_bundle(folder / "base", tiny_student(), random_rows(N))
    trie = ItemTrie.from_rows(random_rows(N), IDS, codes_per_level=CODES, sid_space=SPACE)
    write_refreshed(open_bundle(base), trie, folder / "b", as_tensors(trie, likeness()))
    return folder / "b"


@pytest.fixture(scope="module", params=DEVICE_ENGINES)
def pair(request, bundle):
    """The recommender, and the same without what cold items resemble."""
    with (
        Recommender.load(bundle, request.param) as rec,
        Recommender.load(bundle, request.param, cold_items=False) as plain,
    ):
        yield rec, plain


def expected(plain, history, k, bias=None, beam=60, **how):
    """The rule again, item by item: what the model finds, and what cold items gain from it."""
    control = None if bias is None else plain.control(bias=bias)
    found = {i.item_id: i.score for i in plain.recommend(history, max(beam, k), beam=beam, control=control, **how)}
    bias = bias or {}
    likely = {name: float(np.exp(score - bias.get(name, 0.0))) for name, score in found.items()}
    out = dict(found)
    for i, near in likeness().items():
        gained = sum(FROM_FOUND * likely.get(IDS[j], 0.0) * w for j, w in near.items())
        for name, worth in zip(history[::-1], FROM_RECENT, strict=False):
            gained += worth * sum(w for j, w in near.items() if IDS[j] == name)
        if gained > 0 and (how.get("exclude_seen") is False or IDS[i] not in history):
            score = float(np.log(gained)) + bias.get(IDS[i], 0.0)
            out[IDS[i]] = max(out.get(IDS[i], -np.inf), score)
    return sorted(out.items(), key=lambda pair: -pair[1])[:k]


def same(found, wanted):
    assert [i.item_id for i in found] == [name for name, _ in wanted]
    assert [i.score for i in found] == pytest.approx([score for _, score in wanted], abs=2e-3)  # weights are halves


HISTORIES = ([], ["item-1"], ["item-3", "item-4", "item-5", "item-6"], ["item-2", "item-41", "item-7"])


@pytest.mark.parametrize("history", HISTORIES, ids=len)
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_they_score_what_those_like_them_pass_on(pair, history, exclude_seen):
    rec, plain = pair
    same(rec.recommend(history, 10, exclude_seen, beam=60), expected(plain, history, 10, exclude_seen=exclude_seen))


def test_a_bias_counts_once(pair):
    rec, plain = pair
    bias = {"item-42": 2.0, "item-43": -3.0, "item-5": 4.0}
    found = rec.recommend(["item-1", "item-2"], 60, beam=60, control=rec.control(bias=bias))
    same(found, expected(plain, ["item-1", "item-2"], 60, bias))


def test_a_session_gives_what_a_call_gives(pair):
    rec, _ = pair
    session = rec.session()
    for name in ("item-3", "item-41", "item-9", "item-3", "item-20", "item-21", "item-22", "item-23"):
        session.observe(name)
        calls = rec.recommend(list(session.history), 10), session.recommend(10)
        assert [i.item_id for i in calls[0]] == [i.item_id for i in calls[1]]


def test_an_explanation_names_what_passed_it_on(pair):
    rec, plain = pair
    k = rec.manifest.model.beam
    for history in HISTORIES:
        scores = {i.item_id: i.score for i in rec.recommend(history, k)}
        likely = {i.item_id: float(np.exp(i.score)) for i in plain.recommend(history, k, beam=k)}
        recent = dict(zip(history[::-1], FROM_RECENT, strict=False))
        for i in COLD:
            found = rec.explain(history, IDS[i])
            near = {IDS[j]: w for j, w in likeness()[i].items()}
            wanted = {j: w * (FROM_FOUND * likely.get(j, 0.0) + recent.get(j, 0.0)) for j, w in near.items()}
            assert dict(found.resembles) == pytest.approx({j: p for j, p in wanted.items() if p}, rel=2e-3)
            assert found.resembles == tuple(sorted(found.resembles, key=lambda pair: -pair[1]))
            if IDS[i] in scores:
                passed = sum(p for _, p in found.resembles)
                assert scores[IDS[i]] == pytest.approx(max(found.score, np.log(max(passed, 1e-38))), abs=2e-3)
        assert not plain.explain(history, IDS[40]).resembles
        assert not rec.explain(history, IDS[0]).resembles


def test_only_what_is_allowed_comes_back(pair):
    rec, _ = pair
    allowed = [*IDS[10:30], "item-41", "item-44"]
    part = rec.trie.filter_ids(allowed)
    for history in HISTORIES:
        found = [i.item_id for i in rec.recommend(history, 100, within=part)]
        assert sorted(found) == sorted(set(allowed) - set(history))
        kept = rec.recommend(history, 100, control=rec.control(deny=["item-44"], min_score=-5.0, diversity=0.4))
        assert "item-44" not in {i.item_id for i in kept}
        assert all(i.score >= -5.0 for i in kept)


def test_every_item_still_comes_back_once(pair):
    rec, _ = pair
    found = [i.item_id for i in rec.recommend([], k=1000)]
    assert sorted(found) == sorted(IDS)


def test_a_session_is_of_the_same_model_whatever_cold_items_resemble(bundle):
    manifest = open_bundle(bundle).manifest
    assert COLD_FILE in manifest.files
    assert model_id(manifest) == model_id(open_bundle(bundle.parent / "base").manifest)


@settings(max_examples=60)
@given(st.data())
def test_scores_are_those_of_the_rule_for_any_file(tmp_path_factory, data):
    n = data.draw(st.integers(2, 12))
    alike = data.draw(
        st.dictionaries(
            st.integers(0, n - 1),
            st.dictionaries(st.integers(0, n - 1), st.sampled_from([0.125, 0.5, 1.0]), max_size=4),
            max_size=6,
        )
    )
    items = sorted(alike)
    path = tmp_path_factory.mktemp("f") / "c"
    parts = (
        np.array(items, np.int32),
        np.array([j for i in items for j in alike[i]], np.int32),
        np.array([w for i in items for w in alike[i].values()], np.float16),
        np.array([len(alike[i]) for i in items], np.uint8),
    )
    write_cold_items(path, Resemblances(*parts))
    recent, found = (data.draw(st.lists(st.integers(0, n - 1), max_size=5, unique=True)) for _ in range(2))
    scores = np.linspace(-1, -3, len(found)).astype(np.float32)
    rows, gained = ColdItems.load(path, n).scored(np.array(recent, np.int32), np.array(found, np.int32), scores)
    truth = {}
    for i in items:
        worth = [w * alike[i].get(j, 0.0) for j, w in zip(recent, FROM_RECENT, strict=False)]
        worth += [FROM_FOUND * float(np.exp(s)) * alike[i].get(j, 0.0) for j, s in zip(found, scores, strict=True)]
        if sum(worth) > 0:
            truth[i] = np.log(sum(worth))
    assert rows.tolist() == sorted(truth)
    assert gained == pytest.approx([truth[i] for i in rows.tolist()], abs=1e-5)


GOOD = {
    "items": np.array([1, 3], np.int32),
    "counts": np.array([1, 2], np.uint8),
    "neighbours": np.array([0, 0, 2], np.int32),
    "weights": np.array([0.5, 1.0, 0.25], np.float16),
}
META = {"format": "pocketrec.cold-items", "version": "1"}


@pytest.mark.parametrize(
    ("change", "meta", "says"),
    [
        ({"items": np.array([3, 1], np.int32)}, META, "rising"),
        ({"items": np.array([1, 4], np.int32)}, META, "rows of the catalogue"),
        ({"items": np.array([-1, 3], np.int32)}, META, "rows of the catalogue"),
        ({"counts": np.array([1, 1], np.uint8)}, META, "do not fit each other"),
        ({"counts": np.array([3], np.uint8)}, META, "do not fit each other"),
        ({"weights": np.array([0.5, 1.0], np.float16)}, META, "do not fit each other"),
        ({"neighbours": np.array([0, 0, 4], np.int32)}, META, "not in the catalogue"),
        ({"neighbours": np.array([0, -1, 2], np.int32)}, META, "not in the catalogue"),
        ({"weights": np.array([0.5, 0.0, 0.25], np.float16)}, META, "at most 1"),
        ({"weights": np.array([0.5, 2.0, 0.25], np.float16)}, META, "at most 1"),
        ({"weights": np.array([0.5, np.nan, 0.25], np.float16)}, META, "at most 1"),
        ({"weights": np.array([0.5, 1.0, 0.25], np.float32)}, META, "has weights of F32"),
        ({"items": np.array([[1, 3]], np.int32)}, META, "has items of"),
        ({"more": np.zeros(1, np.uint8)}, META, "other tensors"),
        ({}, {**META, "version": "2"}, "version '2'"),
        ({}, {**META, "format": "x"}, "format 'x'"),
        ({}, None, "format None"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, change, meta, says):
    save_file({**GOOD, **change}, tmp_path / "c", metadata=meta)
    with pytest.raises(BundleError, match=says):
        ColdItems.load(tmp_path / "c", 4)


def test_damage_is_refused_or_harmless(bundle, tmp_path):
    rng = random.Random(5)
    found = []
    for turn in range(150):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        shutil.copytree(bundle, tmp_path / "b")
        path = tmp_path / "b" / COLD_FILE
        path.write_bytes(damaged(path.read_bytes(), rng))
        if turn % 5:
            sealed(tmp_path / "b")
        found.append(outcome(lambda: answers(tmp_path / "b")))
    assert found.count("refused") > 75


def answers(bundle):
    with Recommender.load(bundle, "reference") as rec:
        found = rec.recommend(["item-1"], 10)
    assert len({i.item_id for i in found}) == 10
    assert all(np.isfinite(i.score) for i in found)


def test_the_file_is_the_same_every_time(bundle, tmp_path):
    trie = open_bundle(bundle).load_trie()
    write_cold_items(tmp_path / "again", as_tensors(trie, likeness()))
    assert (tmp_path / "again").read_bytes() == (bundle / COLD_FILE).read_bytes()
    header = (bundle / COLD_FILE).read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"] == META
