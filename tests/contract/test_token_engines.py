"""What every engine promises of a converted Llama, with the logits of transformers as the truth."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from device_engines import DEVICE_ENGINES
from pocketrec.export.llama.convert import convert_llama
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.catalogue.beam import beam_search
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.control import node_bias
from pocketrec.runtime.engines.registry import load_engine
from tiny import CODES, LEVELS, random_rows
from tiny_llama import PROMPT, judge, judge_codes, tiny_llama, whole_space, write_index

NONE = np.empty(0, np.int32)
TOKEN_ENGINES = DEVICE_ENGINES
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
SHAPES = {
    "plain": ({}, ()),
    "prompt": ({"num_hidden_layers": 3}, PROMPT),
    "grouped and tied": ({"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}, PROMPT),
    "biases": ({"attention_bias": True, "mlp_bias": True, "num_hidden_layers": 1}, ()),
    "odd heads, scaled positions": ({"head_dim": 6, "rope_theta": 500.0, "rope_scaling": LLAMA3}, (1,)),
}


@pytest.fixture(scope="module", params=SHAPES)
def model(request, tmp_path_factory):
    """A model, its prompt, and a bundle with all SIDs in its index."""
    settings, prompt = SHAPES[request.param]
    folder = tmp_path_factory.mktemp("llama")
    llama = tiny_llama(folder / "model", **copy.deepcopy(settings))
    return llama, prompt, convert(folder, prompt)


def convert(folder, prompt):
    write_index(folder / "index.json", whole_space())
    convert_llama(
        folder / "model", folder / "index.json", folder / "b", prompt=prompt, max_history=6, beam=4, headroom=CODES
    )
    return open_bundle(folder / "b")


@pytest.fixture(scope="module", params=TOKEN_ENGINES)
def engine(request, model):
    return load_engine(request.param, model[2])


def trie_of(bundle, rows):
    names = [str(i) for i in range(len(rows))]
    return ItemTrie.from_rows(rows, names, codes_per_level=CODES, sid_space=bundle.manifest.model.sid_space)


def history_of(n, seed=1):
    return random_rows(max(n, 1), seed)[:n].astype(np.int32)


@pytest.mark.parametrize("items", [1, 2, 40, CODES**LEVELS])
@pytest.mark.parametrize("length", [0, 1, 6])
def test_a_wide_beam_ranks_the_whole_catalogue_as_the_logits_of_transformers_do(engine, model, items, length):
    llama, prompt, bundle = model
    trie, history = trie_of(bundle, random_rows(items)), history_of(length)
    rows, scores = engine.search(history, trie, NONE, items)
    truth = judge(llama, prompt, history, trie.rows)
    assert rows.dtype == np.int32
    assert scores.dtype == np.float32
    assert sorted(rows.tolist()) == list(range(items))
    np.testing.assert_allclose(scores, truth[rows], atol=1e-4)
    assert (np.diff(scores) <= 1e-6).all()


@pytest.mark.parametrize("beam", [1, 3, 7, 20])
def test_a_narrow_beam_finds_what_the_reference_search_finds(engine, model, beam):
    llama, prompt, bundle = model
    for seed in range(5):
        trie, history = trie_of(bundle, random_rows(120, seed)), history_of(seed, seed)

        def score(level, _, prefixes, history=history):
            """Every continuation of every prefix, judged by transformers; later codes do not matter."""
            rest = np.zeros((prefixes.shape[1] * CODES, LEVELS), np.int64)
            rest[:, :level] = np.repeat(prefixes[0], CODES, axis=0)
            rest[:, level] = np.tile(np.arange(CODES), prefixes.shape[1])
            return judge_codes(llama, prompt, history, rest)[:, level].reshape(1, -1, CODES)

        expected = beam_search(np.zeros((1, 1), np.float32), score, trie, beam)
        rows, scores = engine.search(history, trie, NONE, beam)
        assert rows.tolist() == [r for r in expected.rows[0].tolist() if r >= 0]
        np.testing.assert_allclose(scores, expected.scores[0][: len(scores)], atol=1e-4)


@pytest.mark.parametrize("name", TOKEN_ENGINES)
def test_ties_go_to_the_better_parent_then_to_the_lower_code(name, tmp_path):
    llama = tiny_llama(tmp_path / "model")
    with torch.no_grad():
        llama.lm_head.weight.zero_()
    llama.save_pretrained(tmp_path / "model")
    bundle = convert(tmp_path, ())
    rows, scores = load_engine(name, bundle).search(history_of(2), trie_of(bundle, random_rows(60)), NONE, 60)
    assert rows.tolist() == list(range(60))
    np.testing.assert_allclose(scores, -LEVELS * np.log(llama.config.vocab_size), atol=1e-4)


def test_excluded_leaves_never_come_back_and_the_others_keep_their_order(engine, model):
    trie, history = trie_of(model[2], random_rows(50)), history_of(3)
    everything, _ = engine.search(history, trie, NONE, 50)
    exclude = everything[[0, 1, 5, 30]]
    rows, _ = engine.search(history, trie, exclude, 50)
    assert rows.tolist() == [r for r in everything.tolist() if r not in set(exclude.tolist())]
    nothing, _ = engine.search(history, trie, np.arange(50, dtype=np.int32), 50)
    assert len(nothing) == 0


def test_a_sub_catalogue_gives_its_items_alone_in_the_same_order(engine, model):
    trie, history = trie_of(model[2], random_rows(50)), history_of(4)
    everything, scores = engine.search(history, trie, NONE, 50)
    mask = np.arange(50) % 3 == 0
    part = trie.filter(mask)
    rows, part_scores = engine.search(history, part, NONE, 50)
    kept = mask[everything]
    assert part.table_rows[rows].tolist() == trie.table_rows[everything[kept]].tolist()
    np.testing.assert_allclose(part_scores, scores[kept], atol=1e-5)


def test_an_empty_catalogue_gives_nothing(engine, model):
    empty = trie_of(model[2], random_rows(5)).filter(np.zeros(5, bool))
    rows, scores = engine.search(history_of(2), empty, NONE, 4)
    assert len(rows) == len(scores) == 0


def test_calls_from_many_threads_give_what_single_calls_give(engine, model):
    trie = trie_of(model[2], random_rows(80))
    histories = [history_of(n % 6, n) for n in range(20)]
    alone = [engine.search(h, trie, NONE, 10)[0].tolist() for h in histories]
    with ThreadPoolExecutor(4) as pool:
        together = [r[0].tolist() for r in pool.map(lambda h: engine.search(h, trie, NONE, 10), histories)]
    assert alone == together


@pytest.mark.parametrize("steps", [(1, 1, 1, 1), (0, 2, 1), (3, 3), (6,)])
def test_reading_a_history_in_pieces_gives_what_reading_it_at_once_gives(engine, model, steps):
    trie, history = trie_of(model[2], random_rows(40)), history_of(sum(steps))
    expected, scores = engine.search(history, trie, NONE, 40)
    state, done = None, 0
    for step in steps:
        state = engine.read(history[done : done + step], state)
        done += step
    rows, found = engine.search_from(state, trie, NONE, 40)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(found, scores, atol=1e-4)


def test_a_bias_is_added_to_the_logits_of_transformers(engine, model):
    llama, prompt, bundle = model
    trie, history = trie_of(bundle, random_rows(40)), history_of(3)
    leaves = np.random.default_rng(2).normal(0, 3, 40).astype(np.float32)
    rows, scores = engine.search_from(engine.read(history), trie, NONE, 40, node_bias(trie, leaves))
    truth = judge(llama, prompt, history, trie.rows) + leaves
    assert sorted(rows.tolist()) == list(range(40))
    np.testing.assert_allclose(scores, truth[rows], atol=1e-4)


@pytest.mark.parametrize("excluded", [0, 8])
def test_a_search_that_widens_finds_the_best_of_all(engine, model, excluded):
    llama, prompt, bundle = model
    trie, history = trie_of(bundle, random_rows(80)), history_of(3)
    truth = judge(llama, prompt, history, trie.rows)
    exclude = np.argsort(-truth)[:excluded].astype(np.int32)
    truth[exclude] = -np.inf
    rows, scores = engine.search_from(engine.read(history), trie, exclude, 3, None, 3, widen=True)
    if not engine.name.startswith("onnx"):  # its graph cannot tell what it has cut
        np.testing.assert_allclose(scores[:3], np.sort(truth)[::-1][:3], atol=1e-4)
    np.testing.assert_allclose(scores, truth[rows], atol=1e-4)


def test_the_codes_of_an_item_sum_to_its_score(engine, model):
    llama, prompt, bundle = model
    trie, history = trie_of(bundle, random_rows(20)), history_of(2)
    levels = engine.level_scores(history, trie.rows[3])
    assert levels.sum() == pytest.approx(judge(llama, prompt, history, trie.rows)[3], abs=1e-4)
