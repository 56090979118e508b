"""The compiled engine: every instruction set gives the reference's answers, and nothing that comes in can break it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_engines import NEEDS_NATIVE
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.catalogue import item_table as items
from pocketrec.runtime.catalogue.item_table import ItemTable
from pocketrec.runtime.compiled import native
from pocketrec.runtime.engines.native import NativeEngine
from pocketrec.runtime.engines.registry import load_engine
from pocketrec.runtime.errors import ConfigError, MissingExtraError
from pocketrec.runtime.recommendation import Recommendation
from pocketrec.runtime.recommender import Recommender
from tiny import random_rows, tiny_bundle, tiny_student

KERNELS = native.kernels() if native else []
NONE = np.empty(0, np.int32)
SHAPES = {
    "plain": {},
    "wide": {"dim": 72, "heads": 3, "kv_heads": 1, "head_dim": 40, "ffn": 100, "decoder_dim": 70, "pair_dim": 33},
    "long": {"max_history": 45, "heads": 4, "kv_heads": 2, "layers": 3},
    "no pairs": {"pair_dim": 0, "layers": 1},
    "shared layers": {"layers": 4, "share_layers": True},
}
pytestmark = NEEDS_NATIVE


@pytest.fixture(scope="module", params=SHAPES)
def bundle(request, tmp_path_factory):
    student = tiny_student(**SHAPES[request.param])
    return open_bundle(tiny_bundle(tmp_path_factory.mktemp("n") / "b", student, random_rows(200)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return open_bundle(tiny_bundle(tmp_path_factory.mktemp("p") / "b", tiny_student(), random_rows(40)))


@pytest.mark.parametrize("kernels", [name for name in KERNELS if not name.endswith("int8")])
def test_every_instruction_set_gives_what_the_reference_gives(bundle, kernels):
    trie, longest = bundle.load_trie(), bundle.manifest.model.max_history
    ours, reference = NativeEngine(bundle, kernels=kernels), load_engine("reference", bundle)
    assert ours.kernels == kernels
    for length in (0, 1, 2, 5, longest):
        history = random_rows(max(length, 1), length)[:length].astype(np.int32)
        for beam in (1, 5, 40, 500):
            rows, scores = ours.search(history, trie, np.arange(9, dtype=np.int32), beam)
            expected, truth = reference.search(history, trie, np.arange(9, dtype=np.int32), beam)
            np.testing.assert_allclose(scores, truth, atol=1e-4)
            apart = np.diff(truth, append=-np.inf, prepend=np.inf) < -1e-4  # rounding may swap those that are not
            alone = apart[:-1] & apart[1:]
            assert rows[alone].tolist() == expected[alone].tolist()
            assert alone.mean() > 0.5


@pytest.mark.parametrize("kernels", [name for name in KERNELS if name.endswith("int8")])
def test_int8_gives_about_the_same(bundle, kernels):
    trie = bundle.load_trie()
    ours, exact = NativeEngine(bundle, kernels=kernels), NativeEngine(bundle)
    shared, alike = [], []
    for seed in range(20):
        history = random_rows(5, seed).astype(np.int32)
        rows, scores = ours.search(history, trie, NONE, 200)
        expected, truth = exact.search(history, trie, NONE, 200)
        shared.append(len(set(rows[:10].tolist()) & set(expected[:10].tolist())) / 10)
        alike.append(np.corrcoef(scores[np.argsort(rows)], truth[np.argsort(expected)])[0, 1])
    assert np.mean(shared) > 0.8
    assert 0.99 < np.mean(alike) < 1


def test_the_int8_engine_says_which_instructions_it_found(plain):
    engine = load_engine("native-int8", plain)
    assert engine.name == "native-int8"
    assert engine.kernels == next((name for name in KERNELS if name.endswith("int8")), KERNELS[0])


def test_it_is_the_default_unless_something_else_is_asked_of_onnx_runtime(plain):
    with Recommender.load(plain.path) as recommender:
        assert recommender.engine.name == "native"
    with Recommender.load(plain.path, threads=2) as recommender:
        assert recommender.engine.name == "onnx"
    with Recommender.load(plain.path, providers=["CPUExecutionProvider"]) as recommender:
        assert recommender.engine.name == "onnx"
    with pytest.raises(ConfigError, match="threads is 2"):
        Recommender.load(plain.path, "native", threads=2)


def test_without_it_the_error_names_the_remedy_and_the_default_is_onnx(plain, monkeypatch):
    monkeypatch.setattr("pocketrec.runtime.engines.native.native", None)
    with pytest.raises(MissingExtraError, match="gcc or clang"):
        load_engine("native", plain)
    with Recommender.load(plain.path) as recommender:
        assert recommender.engine.name == "onnx"


def test_exclusions_in_any_order_and_twice_are_the_same(plain):
    engine, trie = load_engine("native", plain), plain.load_trie()
    history = random_rows(3).astype(np.int32)
    sorted_once = engine.search(history, trie, np.array([2, 7, 30], np.int32), 20)[0]
    assert engine.search(history, trie, np.array([30, 2, 7, 7, 2], np.int32), 20)[0].tolist() == sorted_once.tolist()


texts = st.text(min_size=1, max_size=12)


@settings(max_examples=200)
@given(st.lists(texts, min_size=1, max_size=30, unique=True), st.lists(texts, max_size=30))
def test_ids_are_found_as_in_numpy(ids, others):
    asked = [*others, *ids[::2]]
    table = ItemTable.from_lists(ids, [text[::-1] for text in ids])
    found = table.find(asked)
    rows = np.arange(len(ids), dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "native", None)
        assert found.tolist() == table.find(asked).tolist()
    assert found.tolist() == [ids.index(text) if text in ids else -1 for text in asked]
    assert table.ids(rows) == ids
    assert table.titles(rows) == [text[::-1] for text in ids]


def test_ids_that_are_no_ids_are_reported_as_in_numpy():
    table = ItemTable.from_lists(["a", "b"])
    assert table.find(["b", "", "\ud800", "x" * 5000]).tolist() == [1, -1, -1, -1]
    with pytest.raises(Exception, match="not a string"):
        table.find(["a", 3])
    for rows in (np.array([2], np.int32), np.array([-1], np.int32)):
        with pytest.raises(IndexError):
            table.ids(rows)


def test_the_fast_path_gives_what_the_general_way_gives(bundle):
    """A tuple takes the general way, a list the fast path."""
    rng = np.random.default_rng(0)
    with Recommender.load(bundle.path) as rec:
        assert rec.retriever.try_fast_path([], None, None, 1, None, True) is not None
        names = [*rec.trie.table.ids(np.arange(len(rec.trie), dtype=np.int32)), "nobody's", ""]
        for length in (0, 1, 2, 7, 60, 300):
            for k, beam in ((1, None), (10, None), (7, 50), (300, None), (len(rec.trie) - 5, 1)):
                history = rng.choice(names[: len(names) - 2 * int(rng.integers(2))], length).tolist()
                for seen in (True, False):
                    short = rec.recommend(history, k, exclude_seen=seen, beam=beam)
                    long = rec.recommend(tuple(history), k, exclude_seen=seen, beam=beam)
                    assert [(i.item_id, i.title) for i in short] == [(i.item_id, i.title) for i in long]
                    assert short.unknown == long.unknown
                    assert [i.score for i in short] == [i.score for i in long]
                    session = rec.session(history).recommend(k, exclude_seen=seen, beam=beam)
                    np.testing.assert_allclose([i.score for i in session], [i.score for i in long], atol=1e-4)


def test_the_fast_path_refuses_what_the_general_way_refuses(plain):
    rec = Recommender.load(plain.path)
    for wrong in (
        {"k": 0}, {"k": True}, {"k": 2.0}, {"beam": 0}, {"beam": "wide"}, {"history": "item-1"}, {"history": ["a", 3]},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            rec.recommend(**{"history": ["item-1"], **wrong})
    assert rec.recommend(["\ud800"], 3).unknown == ("\ud800",)
    rec.close()
    with pytest.raises(ConfigError, match="closed"):
        rec.recommend(["item-1"])


def test_a_sub_catalogue_has_no_fast_path(plain):
    engine, trie = load_engine("native", plain), plain.load_trie()
    assert engine.fast_path(trie.filter(np.arange(len(trie)) % 2 == 0), Recommendation) is None
    assert engine.fast_path(trie.filter(np.zeros(len(trie), bool)), Recommendation) is None
