"""Experts in bundles: files, fitted weights, fused lists by brute force on every engine, refreshed catalogues."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from device_engines import DEVICE_ENGINES
from experts import random_crowd, random_words
from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle
from pocketrec.export.experts import BundleExperts, tenth_scores
from pocketrec.export.fusion import fit_fusion
from pocketrec.export.refresh import FreshExperts, Resemblances, write_refreshed
from pocketrec.runtime.bundle.bundle import GRAPH_FILE, WORDS_FILE, open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.recommender import Recommender
from tiny import CODES, SPACE, brute_force, random_rows, tiny_student

N = 40
IDS = [f"item-{i}" for i in range(N)]
ROUNDING = 0.05  # edges and popularity are kept in 8 bits; weak edges lose most


@pytest.fixture(scope="module")
def student():
    return tiny_student()


@pytest.fixture(scope="module")
def raw():
    return BundleExperts(random_crowd(N, 3), random_words(N, 3), FusionWeights(crowd=0.6, words=2.0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, student, raw):
    folder = tmp_path_factory.mktemp("experts") / "b"
    items = BundleItems(random_rows(N), IDS, None, SPACE)
    write_bundle(folder, student, items, BundleSettings(N, CODES), experts=raw)
    return folder


def fused(student, raw, history):
    """Scores of all items by catalogue row: the formulas, no search."""
    own = brute_force(student, random_rows(N)[history[-6:]], random_rows(N)).astype(np.float64)
    reached, arrived = raw.crowd.reached(np.array(history, np.int32), 0.5)
    share = np.zeros(N)
    if len(reached):
        share[reached] = arrived / arrived.sum()
    crowd = np.log(0.9 * share + 0.1 * np.exp(raw.crowd.log_popularity.astype(np.float64)))
    words = np.zeros(N)
    near, cosines = raw.words.reached(np.array(history[-3:], np.int32), 0.5)
    words[near] = cosines
    return own + raw.weights.crowd * crowd + raw.weights.words * words


@pytest.mark.parametrize("engine", DEVICE_ENGINES)
@pytest.mark.parametrize("history", [[], [3], [5, 1, 9, 30, 2, 7, 8, 11]])
def test_the_fused_list_is_that_of_brute_force(bundle, student, raw, engine, history):
    expected = fused(student, raw, history)
    expected[history] = -np.inf
    order = np.argsort(-expected, kind="stable")[:10]
    with Recommender.load(bundle, engine=engine) as recommender:
        found = recommender.recommend([IDS[i] for i in history], k=10)
        session = recommender.session([IDS[i] for i in history])
        assert [item.item_id for item in session.recommend(k=10)] == [item.item_id for item in found]
    np.testing.assert_allclose([item.score for item in found], expected[order], atol=ROUNDING)
    items = [IDS.index(item.item_id) for item in found]
    np.testing.assert_allclose([item.score for item in found], expected[items], atol=ROUNDING)
    assert len(set(items)) == 10


def test_a_sub_catalogue_and_a_bias_have_the_fused_scores_too(bundle, student, raw):
    history, allowed = [5, 1, 9], [i for i in range(N) if i % 2]
    expected = fused(student, raw, history)
    expected[7] += 3.0
    best = sorted((i for i in allowed if i not in history), key=lambda i: -expected[i])[:5]
    with Recommender.load(bundle) as recommender:
        control = recommender.control(allow=[IDS[i] for i in allowed], bias={IDS[7]: 3.0})
        found = recommender.recommend([IDS[i] for i in history], k=5, control=control)
    assert [item.item_id for item in found] == [IDS[i] for i in best]
    np.testing.assert_allclose([item.score for item in found], expected[best], atol=ROUNDING)


def test_the_model_alone_is_a_word(bundle, student):
    history = [5, 1, 9]
    expected = brute_force(student, random_rows(N)[history], random_rows(N))
    expected[history] = -np.inf
    with Recommender.load(bundle, experts=False) as recommender:
        found = recommender.recommend([IDS[i] for i in history], k=5)
    assert [item.item_id for item in found] == [IDS[i] for i in np.argsort(-expected)[:5]]


def test_weights_follow_what_the_crowd_knows(tmp_path, student):
    """A crowd that knows every next item gets a weight; one that knows nothing right gets none."""
    write_bundle(tmp_path / "b", student, BundleItems(random_rows(N), IDS, None, SPACE), BundleSettings(N, CODES))
    sure = Crowd(
        np.arange(N + 1, dtype=np.int64), ((np.arange(N) + 1) % N).astype(np.int32), np.ones(N, np.float32),
        np.full(N, -np.log(N), np.float32),
    )  # fmt: skip
    starts = np.arange(N, dtype=np.int64)
    lists = Sequences(np.arange(N, dtype=np.int32), starts, starts + 1)
    cases = EvalSet(lists, ((np.arange(N) + 1) % N).astype(np.int32))
    with Recommender.load(tmp_path / "b") as alone:
        assert fit_fusion(alone, BundleExperts(sure, None), IDS, cases).weights.crowd > 0
        best = [alone.recommend([IDS[i]], k=1)[0].item_id for i in range(N)]
        own = EvalSet(lists, np.array([IDS.index(name) for name in best], np.int32))
        assert fit_fusion(alone, BundleExperts(sure, None), IDS, own).weights.crowd == 0


def test_a_refreshed_catalogue_keeps_the_edges_and_words_of_items_that_stay(tmp_path, bundle, raw):
    stays = np.flatnonzero(np.arange(N) % 4 > 0)
    extra = [row for row in random_rows(200, seed=9).tolist() if row not in random_rows(N).tolist()][:3]
    rows = np.concatenate((random_rows(N)[stays], np.array(extra, np.uint8)))
    ids = [IDS[i] for i in stays] + ["new-0", "new-1", "new-2"]
    trie = ItemTrie.from_rows(rows, ids, codes_per_level=CODES, sid_space=SPACE)
    write_refreshed(open_bundle(bundle), trie, tmp_path / "r")
    fresh = open_bundle(tmp_path / "r").load_experts(len(ids))
    names = trie.table.ids(np.arange(len(ids)))
    for row, name in enumerate(names):
        found = {names[j] for j in fresh.crowd.neighbours[fresh.crowd.first[row] : fresh.crowd.first[row + 1]]}
        words = fresh.words.terms[fresh.words.first[row] : fresh.words.first[row + 1]].tolist()
        if name.startswith("new"):
            assert (found, words) == (set(), [])
        else:
            i = IDS.index(name)
            edges = raw.crowd.neighbours[raw.crowd.first[i] : raw.crowd.first[i + 1]].tolist()
            assert found == {IDS[j] for j in edges if j in stays}
            assert words == raw.words.terms[raw.words.first[i] : raw.words.first[i + 1]].tolist()


def test_cold_items_enter_fused_lists_by_words_and_edges(tmp_path, bundle, raw):
    """Item 0 is cold: in the list it has the model's score or that of the rule, whichever is more."""
    base = open_bundle(bundle)
    trie = base.load_trie()
    row, nobody = trie.table.find([IDS[0]]), (np.zeros(0, np.int32), np.zeros(0, np.float32))
    cold = Resemblances(row.astype(np.int32), nobody[0], nobody[1].astype(np.float16), np.zeros(1, np.uint8))
    with Recommender.load(bundle) as fused:
        tenth = tenth_scores(fused, [trie.table.find([IDS[i]]) for i in range(1, N)])
    write_refreshed(base, trie, tmp_path / "r", cold, FreshExperts(tenth=tenth))
    fusion = open_bundle(tmp_path / "r").manifest.fusion
    assert (fusion.tenth, fusion.tenth_model) == tenth
    with Recommender.load(tmp_path / "r") as fresh, Recommender.load(tmp_path / "r", cold_items=False) as model:
        risen = []
        for history in ([IDS[i]] for i in range(1, N)):
            own, found = ({x.item_id: x.score for x in rec.recommend(history, k=N, beam=N)} for rec in (model, fresh))
            _, scores = fresh.retriever.experts.stand_ins(trie.table.find(history), row.astype(np.int32), nobody)
            expected = max([own[IDS[0]], *scores.tolist()])
            risen.append(expected > own[IDS[0]])
            assert found == pytest.approx({**own, IDS[0]: expected}, abs=1e-4)
            assert fresh.explain(history, IDS[0]).score == pytest.approx(expected, abs=1e-3)
            assert fresh.session(history).recommend(5) == fresh.recommend(history, 5)
        assert fresh.recommend([IDS[1]], k=1, control=fresh.control(bias={IDS[0]: 100.0}))[0].item_id == IDS[0]
    assert any(risen)


def test_a_bundle_whose_expert_is_missing_is_refused(tmp_path, bundle):
    shutil.copytree(bundle, tmp_path / "b")
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    del manifest["files"][WORDS_FILE]
    (tmp_path / "b/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="the words"):
        open_bundle(tmp_path / "b")


def with_fusion(bundle, folder, change, without=()):
    """A copy of a bundle whose manifest has other weights."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["fusion"].update(change)
    for name in without:
        del manifest["fusion"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("engine", DEVICE_ENGINES)
@pytest.mark.parametrize("change", [{"seen": -4.0}, {"seen": 2.5}, {"seen": -4.0, "crowd": 0.0, "words": 0.0}])
def test_items_of_the_history_gain_seen_where_they_may_come_back(tmp_path, bundle, engine, change):
    """8 items, of which the model reads 6; `seen` counts for all of them."""
    history = [5, 1, 9, 30, 5, 2, 7, 8, 11]
    ids = [IDS[i] for i in history]
    with (
        Recommender.load(with_fusion(bundle, tmp_path / "0", {**change, "seen": 0.0}), engine=engine) as without,
        Recommender.load(with_fusion(bundle, tmp_path / "b", change), engine=engine) as recommender,
    ):
        expected = {item.item_id: item.score for item in without.recommend(ids, k=N, exclude_seen=False)}
        for item_id in set(ids):
            expected[item_id] += change["seen"]
        for found in (
            recommender.recommend(ids, k=N, exclude_seen=False),
            recommender.session(ids).recommend(k=N, exclude_seen=False),
        ):
            assert len(found) == N
            np.testing.assert_allclose([i.score for i in found], [expected[i.item_id] for i in found], atol=1e-4)
            assert [i.score for i in found] == sorted((i.score for i in found), reverse=True)
        excluded = recommender.recommend(ids, k=N)
        assert [i.item_id for i in excluded] == [i.item_id for i in without.recommend(ids, k=N)]


def test_a_manifest_from_before_seen_opens_without_it(tmp_path, bundle):
    fusion = open_bundle(with_fusion(bundle, tmp_path / "b", {}, without=("seen",))).manifest.fusion
    assert fusion.seen == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"crowd": -1},
        {"popular": 0},
        {"words_recency": 2},
        {"words_items": 0.5},
        {"words": "x"},
        {"seen": 1001},
        {"seen": -1001},
        {"seen": None},
        {"seen": True},
    ],
)
def test_weights_out_of_range_are_refused(tmp_path, bundle, change):
    with_fusion(bundle, tmp_path / "b", change)
    with pytest.raises(BundleError, match="fusion"):
        open_bundle(tmp_path / "b")
    assert GRAPH_FILE in open_bundle(bundle).manifest.files
