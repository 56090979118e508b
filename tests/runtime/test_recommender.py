"""The recommender, over a model small enough to enumerate: what an app may rely on."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.runtime.bundle.bundle import CatalogueSpec, Manifest, ModelSpec
from pocketrec.runtime.catalogue.beam import beam_search
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.engines.protocol import Engine
from pocketrec.runtime.errors import BundleError, ConfigError
from pocketrec.runtime.recommendation import Recommendation
from pocketrec.runtime.recommender import Recommender

LEVELS, CODES, MAX_HISTORY = 2, 6, 4


class TableEngine(Engine):
    """A whole model in tables: a code's score depends on the history (order included) and the prefix."""

    name = "table"

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.embed = rng.normal(size=(LEVELS, CODES, 5)).astype(np.float32)
        self.out = rng.normal(size=(LEVELS, CODES, 5)).astype(np.float32)
        self.closed = False

    def encode(self, history: np.ndarray) -> np.ndarray:
        assert history.dtype == np.int32
        assert len(history) <= MAX_HISTORY
        hidden = np.ones(5, np.float32)
        for codes in history:
            hidden = np.tanh(0.7 * hidden + sum(self.embed[level, code] for level, code in enumerate(codes)))
        return hidden.astype(np.float32)

    def score_level(self, level: int, hidden: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        inner = hidden[:, None] + sum(
            (self.embed[step, prefixes[..., step]] for step in range(level)),
            np.zeros((*prefixes.shape[:2], 5)),
        )
        logits = inner @ self.out[level].T
        return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)

    def search(self, history, trie, exclude, beam, limit=None, widen=False):
        result = beam_search(self.encode(history)[None], self.score_level, trie, beam, exclude[None])
        found = result.rows[0] >= 0
        return result.rows[0][found], result.scores[0][found]

    def close(self) -> None:
        self.closed = True


RNG = np.random.default_rng(1)
SIDS = RNG.permutation([[a, b] for a in range(CODES) for b in range(CODES)])[:24]
IDS = [f"item-{i}" for i in range(24)]


def catalogue() -> ItemTrie:
    titles = [f"Title {i}" if i % 2 else None for i in range(24)]
    return ItemTrie.from_rows(SIDS, IDS, codes_per_level=CODES, titles=titles, sid_space="s")


def recommender(beam: int = 24, trie: ItemTrie | None = None) -> Recommender:
    trie = trie or catalogue()
    sizes = {"dim": 5, "layers": 1, "heads": 1, "kv_heads": 1, "head_dim": 5, "ffn": 5, "decoder_dim": 5, "pair_dim": 0}
    model = ModelSpec(
        kind="llama-sid",
        sid_space="s",
        levels=LEVELS,
        codes=CODES,
        max_history=MAX_HISTORY,
        beam=beam,
        max_branch=(CODES,) * LEVELS,
        rope_theta=1e4,
        norm_eps=1e-6,
        parameters=60,
        **sizes,
    )
    return Recommender(TableEngine(), trie, Manifest(model, CatalogueSpec(len(trie), "s"), {}, {}))


def by_enumeration(rec: Recommender, history: list[str], allowed: set[str]) -> list[tuple[str, float]]:
    """Score every allowed item, one by one; best first."""
    engine = rec.engine
    sid = {item_id: SIDS[i] for i, item_id in enumerate(IDS)}
    known = [item_id for item_id in history if item_id in sid]
    hidden = engine.encode(np.array([sid[i] for i in known[-MAX_HISTORY:]], np.int32).reshape(-1, LEVELS))[None]
    scores = {}
    for item_id in allowed:
        steps = [
            engine.score_level(level, hidden, sid[item_id][None, None, :level])[0, 0, sid[item_id][level]]
            for level in range(LEVELS)
        ]
        scores[item_id] = float(np.float32(steps[0] + steps[1]))
    return sorted(scores.items(), key=lambda pair: -pair[1])


def told(recommendations) -> list[tuple[str, float]]:
    return [(r.item_id, pytest.approx(r.score, abs=1e-5)) for r in recommendations]


HISTORIES = st.lists(st.sampled_from([*IDS, "stranger", ""]), max_size=12)


@given(HISTORIES, st.integers(1, 30), st.booleans(), st.sets(st.sampled_from(IDS)) | st.none())
def test_the_best_allowed_items_come_back_best_first(history, k, exclude_seen, part):
    rec = recommender()
    within = None if part is None else rec.trie.filter_ids(sorted(part))
    allowed = set(IDS if part is None else part) - (set(history) if exclude_seen else set())
    found = rec.recommend(history, k, exclude_seen, within)
    assert by_enumeration(rec, history, allowed)[:k] == told(found)
    assert found.unknown == tuple(i for i in dict.fromkeys(history) if i not in IDS)


@given(HISTORIES, st.integers(1, 30), st.integers(1, 3), st.integers(1, 3) | st.none())
def test_a_narrow_beam_still_gives_k_items_while_there_are_k(history, k, model_beam, beam):
    rec = recommender(beam=model_beam)
    found = rec.recommend(history, k, beam=beam)
    seen = set(history) & set(IDS)
    ids = [r.item_id for r in found]
    assert len(ids) == len(set(ids)) == min(k, len(IDS) - len(seen))
    assert not seen & set(ids)
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)


def test_seen_items_that_fill_the_beam_do_not_hide_the_rest():
    lone = ItemTrie.from_rows([[a, a] for a in range(6)], IDS[:6], codes_per_level=CODES, sid_space="s")
    rec = recommender(beam=1, trie=lone)
    best = [r.item_id for r in rec.recommend([], 6)]
    for seen in range(6):  # the one prefix that a beam of 1 keeps leads to a seen item
        history = best[:seen]
        left = {r.item_id for r in rec.recommend(history, 6)}
        assert left == set(best[seen:])
        (only,) = rec.recommend(history, 1)
        assert only.item_id in left


def test_titles_come_along_where_the_catalogue_has_them():
    found = recommender().recommend([], k=24)
    assert {r.item_id: r.title for r in found} == {
        item_id: f"Title {i}" if i % 2 else None for i, item_id in enumerate(IDS)
    }
    assert isinstance(found[0], Recommendation)


def test_strangers_take_no_place_in_the_history():
    rec = recommender()
    history = [IDS[3], "x", IDS[7], "y", IDS[9], "x", IDS[1]]
    found = rec.recommend(history)
    assert found == rec.recommend([i for i in history if i in IDS])
    assert found.unknown == ("x", "y")


def test_the_model_reads_the_newest_items_but_every_seen_item_is_left_out():
    rec = recommender()
    long, recent = IDS[:10], IDS[10 - MAX_HISTORY : 10]
    assert rec.recommend(long, 24, exclude_seen=False) == rec.recommend(recent, 24, exclude_seen=False)
    assert {r.item_id for r in rec.recommend(long, 24)} == set(IDS[10:])


def test_a_history_of_the_whole_catalogue_leaves_nothing():
    assert recommender().recommend(IDS, 5) == []
    assert len(recommender().recommend(IDS, 5, exclude_seen=False)) == 5


def test_an_empty_part_of_the_catalogue_gives_nothing():
    rec = recommender()
    assert rec.recommend(IDS[:3], within=rec.trie.filter_ids([])) == []


def test_items_that_a_smaller_catalogue_lacks_are_unknown():
    rec = recommender(trie=catalogue().filter_ids(IDS[:5]))
    found = rec.recommend([IDS[0], IDS[20]], 10)
    assert found.unknown == (IDS[20],)
    assert {r.item_id for r in found} == set(IDS[1:5])


def test_a_batch_is_each_history_in_turn():
    rec = recommender()
    histories = [[], IDS[:2], ["stranger"], tuple(IDS[5:9]), np.array(IDS[:3])]
    batch = rec.recommend_batch(histories, k=3)
    assert batch == [rec.recommend(h, k=3) for h in histories]
    assert batch[2].unknown == ("stranger",)


def test_rows_give_what_ids_give():
    rec = recommender()
    table = rec.trie.table
    rows, scores = rec.recommend_rows(table.find([IDS[4], "stranger", IDS[2]]), k=6)
    assert (rows.dtype, scores.dtype) == (np.int32, np.float32)
    found = rec.recommend([IDS[4], IDS[2]], k=6)
    assert list(zip(table.ids(rows), scores.tolist(), strict=True)) == [(r.item_id, r.score) for r in found]


@pytest.mark.parametrize(
    ("history", "options", "message"),
    [
        ("item-1", {}, "give a list of item ids"),
        (b"item-1", {}, "give a list of item ids"),
        (None, {}, "give a list of item ids"),
        ({"item-1"}, {}, "oldest first"),
        ({"item-1": 1}, {}, "oldest first"),
        (["item-1", 7], {}, "7 at position 1; item ids are strings"),
        ([None], {}, "None at position 0"),
        (["item-1"], {"k": 0}, "k is 0; it must be at least 1"),
        (["item-1"], {"k": -3}, "k is -3"),
        (["item-1"], {"k": 2.5}, "k is 2.5; give a whole number"),
        (["item-1"], {"k": True}, "k is True"),
        (["item-1"], {"k": "10"}, "k is '10'"),
        (["item-1"], {"beam": 0}, "beam is 0"),
        (["item-1"], {"within": catalogue()}, "not a sub-catalogue of this catalogue"),
        (["item-1"], {"within": ["item-1"]}, "not a sub-catalogue of this catalogue"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(history, options, message):
    with pytest.raises(ConfigError, match=message):
        recommender().recommend(history, **options)


def test_a_batch_that_is_one_string_and_rows_that_are_none_are_refused():
    rec = recommender()
    with pytest.raises(ConfigError, match="list of histories"):
        rec.recommend_batch("item-1")
    for rows, message in (([24], "has row 24"), ([[1]], r"\[1, 1\]"), ([0.5], "float64")):
        with pytest.raises(ConfigError, match=message):
            rec.recommend_rows(np.array(rows))
    assert len(rec.recommend_rows(np.array([]), k=3)[0]) == 3, "no rows at all have no integer type"


def test_a_catalogue_of_another_space_is_refused():
    other = ItemTrie.from_rows(SIDS, IDS, codes_per_level=CODES, sid_space="other")
    with pytest.raises(BundleError, match="sid_space 'other'"):
        recommender(trie=other)


def test_leaving_the_block_closes_the_engine_once_and_for_all():
    with recommender() as rec:
        assert len(rec.recommend([])) == 10
    assert rec.engine.closed
    rec.close()
    with pytest.raises(ConfigError, match="was closed"):
        rec.recommend([])


def test_threads_do_not_disturb_each_other():
    rec = recommender()
    histories = [IDS[i : i + 3] for i in range(20)]
    expected = [recommender().recommend(h, 5) for h in histories]
    start, wrong = threading.Barrier(8), []

    def call(shift: int):
        start.wait()
        for i in range(60):
            place = (i + shift) % 20
            if rec.recommend(histories[place], 5) != expected[place]:
                wrong.append(place)

    threads = [threading.Thread(target=call, args=(shift,)) for shift in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_importing_the_recommender_loads_no_heavy_library():
    script = (
        "import sys, pocketrec.runtime.recommender\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'polars', 'scipy'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_engine_is_refused_with_the_names_there_are():
    from pocketrec.runtime.engines.registry import load_engine

    with pytest.raises(ConfigError, match="no engine 'tpu'; choose one of native, onnx, onnx-split, gguf, reference"):
        load_engine("tpu", None, 1)
    with pytest.raises(ConfigError, match="threads is 0"):
        load_engine("onnx", None, 0)
