"""What every engine promises, on a model whose right answers are known by brute force."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pocketrec.config import config_to_dict
from pocketrec.distill.evaluation.student_ranker import TorchEngine
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.catalogue.beam import beam_search
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.compiled import native
from pocketrec.runtime.control import node_bias
from pocketrec.runtime.engines.registry import EXACT, load_engine
from pocketrec.runtime.errors import ConfigError
from tiny import CODES, LEVELS, SPACE, brute_force, random_rows, tiny_bundle, tiny_student

NONE = np.empty(0, np.int32)
SHAPES = {
    "plain": {},
    "grouped": {"heads": 4, "kv_heads": 2, "layers": 3},
    "one layer": {"layers": 1},
    "no pairs": {"pair_dim": 0},
    "shared layers": {"layers": 3, "share_layers": True},
    "narrow heads": {"heads": 3, "kv_heads": 1, "head_dim": 4},
    "pruned": {"dim": 12, "heads": 1, "kv_heads": 1, "head_dim": 8, "ffn": 5, "decoder_dim": 3, "pair_dim": 1},
}


def trie_of(rows):
    return ItemTrie.from_rows(rows, [str(i) for i in range(len(rows))], codes_per_level=CODES, sid_space=SPACE)


@pytest.fixture(scope="module", params=SHAPES)
def student(request):
    return tiny_student(**SHAPES[request.param])


@pytest.fixture(scope="module", params=["torch", *EXACT])
def engine(request, student, tmp_path_factory):
    if request.param == "torch":
        return TorchEngine(student)
    return engine_of(request.param, tmp_path_factory.mktemp("bundle") / "b", student)


def engine_of(name, folder, student):
    """An engine over a bundle of the format it runs."""
    if name == "gguf":
        pytest.importorskip("llama_cpp", reason="GGUF runs on llama-cpp-python: pip install 'pocketrec[gguf]'")
    if name == "native" and native is None:
        pytest.skip("there was no C compiler when pocketrec was installed")
    tiny_bundle(folder, student, random_rows(40), format="gguf" if name == "gguf" else "onnx")
    return load_engine(name, open_bundle(folder))


def history_of(n, seed=1):
    return random_rows(max(n, 1), seed)[:n].astype(np.int32)


@pytest.mark.parametrize("items", [1, 2, 40, 300, CODES**LEVELS])
@pytest.mark.parametrize("length", [0, 1, 6])
def test_a_wide_beam_ranks_the_whole_catalogue_as_brute_force_does(engine, student, items, length):
    trie, history = trie_of(random_rows(items)), history_of(length)
    rows, scores = engine.search(history, trie, NONE, items)
    truth = brute_force(student, history, trie.rows)
    assert rows.dtype == np.int32
    assert scores.dtype == np.float32
    assert sorted(rows.tolist()) == list(range(items))
    np.testing.assert_allclose(scores, truth[rows], atol=1e-4)
    assert (np.diff(scores) <= 1e-6).all()


@pytest.mark.parametrize("beam", [1, 3, 7, 20])
def test_a_narrow_beam_finds_what_the_reference_search_finds(engine, student, beam):
    oracle = TorchEngine(student)
    for seed in range(5):
        trie, history = trie_of(random_rows(120, seed)), history_of(seed, seed)
        hidden = oracle.encode(history[None], np.array([len(history)]))
        expected = beam_search(hidden, oracle.score_level, trie, beam)
        rows, scores = engine.search(history, trie, NONE, beam)
        assert rows.tolist() == [r for r in expected.rows[0].tolist() if r >= 0]
        np.testing.assert_allclose(scores, expected.scores[0][: len(scores)], atol=1e-4)


@pytest.mark.parametrize("beam", [121, 10**9, 2**63, 10**30, np.uint64(2**63)])
def test_a_beam_wider_than_the_catalogue_finds_the_catalogue(engine, beam):
    trie, history = trie_of(random_rows(120)), history_of(3)
    rows, scores = engine.search(history, trie, NONE, 120)
    for found, values in (
        engine.search(history, trie, NONE, beam),
        engine.search_from(engine.read(history), trie, NONE, beam),
    ):
        assert found.tolist() == rows.tolist()
        np.testing.assert_allclose(values, scores, atol=1e-4)


@pytest.mark.parametrize("beam", [0, -1, -(2**70), True, 2.0, "4", None])
def test_a_beam_that_is_no_number_from_one_on_is_refused(engine, beam):
    trie, history = trie_of(random_rows(20)), history_of(3)
    with pytest.raises(ConfigError, match="beam is"):
        engine.search(history, trie, NONE, beam)
    with pytest.raises(ConfigError, match="beam is"):
        engine.search_from(engine.read(history), trie, NONE, beam)


@pytest.mark.parametrize("limit", [1, 4, 20])
def test_an_engine_may_leave_out_items_past_the_limit_and_no_others(engine, limit):
    for seed in range(3):
        trie, history = trie_of(random_rows(200, seed)), history_of(4, seed)
        rows, scores = engine.search(history, trie, NONE, 20)
        for found, values in (
            engine.search(history, trie, NONE, 20, limit),
            engine.search_from(engine.read(history), trie, NONE, 20, None, limit),
        ):
            assert found[:limit].tolist() == rows[:limit].tolist()
            np.testing.assert_allclose(values[:limit], scores[:limit], atol=1e-4)


def test_ties_go_to_the_better_parent_then_to_the_lower_code(engine, student, tmp_path):
    flat = tiny_student(**config_to_dict(student.config))
    with torch.no_grad():
        for out in flat.decoder.out:
            out.weight.zero_()
            out.bias.zero_()
        if flat.pairs is not None:
            flat.pairs.query.weight.zero_()
    tied = TorchEngine(flat) if engine.name == "torch" else engine_of(engine.name, tmp_path / "flat", flat)
    trie = trie_of(random_rows(60))
    rows, scores = tied.search(history_of(2), trie, NONE, 60)
    assert rows.tolist() == list(range(60))
    np.testing.assert_allclose(scores, -LEVELS * np.log(CODES), atol=1e-4)


def test_excluded_leaves_never_come_back_and_the_others_keep_their_order(engine):
    trie, history = trie_of(random_rows(50)), history_of(3)
    everything, _ = engine.search(history, trie, NONE, 50)
    exclude = everything[[0, 1, 5, 30]]
    rows, _ = engine.search(history, trie, exclude, 50)
    assert rows.tolist() == [r for r in everything.tolist() if r not in set(exclude.tolist())]
    nothing, _ = engine.search(history, trie, np.arange(50, dtype=np.int32), 50)
    assert len(nothing) == 0


def test_a_sub_catalogue_gives_its_items_alone_in_the_same_order(engine):
    trie, history = trie_of(random_rows(50)), history_of(4)
    everything, scores = engine.search(history, trie, NONE, 50)
    mask = np.arange(50) % 3 == 0
    part = trie.filter(mask)
    rows, part_scores = engine.search(history, part, NONE, 50)
    kept = mask[everything]
    assert part.table_rows[rows].tolist() == trie.table_rows[everything[kept]].tolist()
    np.testing.assert_allclose(part_scores, scores[kept], atol=1e-5)


def test_an_empty_catalogue_gives_nothing(engine):
    empty = trie_of(random_rows(5)).filter(np.zeros(5, bool))
    rows, scores = engine.search(history_of(2), empty, NONE, 4)
    assert len(rows) == len(scores) == 0


def test_calls_from_many_threads_give_what_single_calls_give(engine):
    trie = trie_of(random_rows(80))
    histories = [history_of(n % 6, n) for n in range(40)]
    alone = [engine.search(h, trie, NONE, 10)[0].tolist() for h in histories]
    with ThreadPoolExecutor(4) as pool:
        together = [r[0].tolist() for r in pool.map(lambda h: engine.search(h, trie, NONE, 10), histories)]
    assert alone == together


@pytest.mark.parametrize("steps", [(1, 1, 1, 1, 1, 1), (0, 2, 1), (3, 3), (6,)])
def test_reading_a_history_in_pieces_gives_what_reading_it_at_once_gives(engine, steps):
    trie, history = trie_of(random_rows(60)), history_of(sum(steps))
    expected, scores = engine.search(history, trie, NONE, 60)
    state, done = None, 0
    for step in steps:
        state = engine.read(history[done : done + step], state)
        done += step
        assert state.items == done
    rows, found = engine.search_from(state, trie, NONE, 60)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(found, scores, atol=1e-4)


def test_a_state_may_be_gone_on_from_twice(engine):
    trie, history = trie_of(random_rows(60)), history_of(4)
    begun = engine.read(history[:2])
    for other in (history[2:3], history[3:4]):
        expected, _ = engine.search(np.concatenate((history[:2], other)), trie, NONE, 60)
        rows, _ = engine.search_from(engine.read(other, begun), trie, NONE, 60)
        assert rows.tolist() == expected.tolist()


@pytest.mark.parametrize("items", [1, 40, 300])
def test_a_bias_is_added_to_what_brute_force_finds(engine, student, items):
    trie, history = trie_of(random_rows(items)), history_of(3)
    leaves = np.random.default_rng(2).normal(0, 3, items).astype(np.float32)
    rows, scores = engine.search_from(engine.read(history), trie, NONE, items, node_bias(trie, leaves))
    truth = brute_force(student, history, trie.rows) + leaves
    assert sorted(rows.tolist()) == list(range(items))
    np.testing.assert_allclose(scores, truth[rows], atol=1e-4)
    assert (np.diff(scores) <= 1e-5).all()


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("limit", "excluded"), [(1, 0), (5, 0), (5, 4), (10, 30)])
def test_a_search_that_widens_finds_the_best_of_all(engine, student, limit, excluded, biased):
    """From the narrowest beam that has room for the list. The graphs of ONNX cannot tell, and make room instead."""
    for seed in range(6):
        trie, history = trie_of(random_rows(300, seed)), history_of(seed, seed)
        leaves = np.random.default_rng(seed).normal(0, 2, 300).astype(np.float32)
        truth = brute_force(student, history, trie.rows) + (leaves if biased else 0)
        exclude = np.argsort(-truth)[:excluded].astype(np.int32)
        truth[exclude] = -np.inf
        bias, state = node_bias(trie, leaves) if biased else None, engine.read(history)
        rows, scores = engine.search_from(state, trie, exclude, limit, bias, limit, widen=True)
        if engine.name.startswith("onnx"):
            expected, values = engine.search_from(state, trie, exclude, limit + excluded, bias, limit)
            assert rows.tolist() == expected.tolist()
            np.testing.assert_allclose(scores, values, atol=1e-6)
            continue
        best = np.argsort(-truth, kind="stable")[:limit]
        np.testing.assert_allclose(scores[:limit], truth[best], atol=1e-4)
        np.testing.assert_allclose(scores[:limit], truth[rows[:limit]], atol=1e-4)
        if not biased:
            again, _ = engine.search(history, trie, exclude, limit, limit, widen=True)
            assert again.tolist() == rows.tolist()


def test_a_narrow_beam_keeps_the_way_to_a_favoured_item(engine, student):
    trie, history = trie_of(random_rows(200)), history_of(3)
    last = int(brute_force(student, history, trie.rows).argmin())
    leaves = np.zeros(200, np.float32)
    leaves[last] = 100.0
    rows, _ = engine.search_from(engine.read(history), trie, NONE, 1, node_bias(trie, leaves))
    assert rows.tolist() == [last]


def test_the_codes_of_an_item_sum_to_its_score(engine, student):
    trie, history = trie_of(random_rows(30)), history_of(4)
    truth = brute_force(student, history, trie.rows)
    for leaf in (0, 7, 29):
        levels = engine.level_scores(history, trie.rows[leaf])
        assert levels.shape == (LEVELS,)
        assert (levels <= 0).all()
        assert levels.sum() == pytest.approx(truth[leaf], abs=1e-4)
