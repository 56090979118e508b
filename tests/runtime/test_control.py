"""Controls: in any combination, only allowed items come back, in the order that brute force gives."""

from __future__ import annotations

import asyncio
import math
import threading

import numpy as np
import pytest
from fuzz.mutate import sealed
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.export.onnx.graph import FLOAT, Graph, WeightFile, value
from pocketrec.export.onnx.search import add_search, search_inputs, search_outputs
from pocketrec.export.onnx.student import StudentGraph
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.control import Control, diverse, node_bias
from pocketrec.runtime.errors import BundleError, ConfigError
from pocketrec.runtime.recommender import Recommender
from tiny import CODES, LEVELS, brute_force, random_rows, tiny_bundle, tiny_student

ITEMS = 40
IDS = [f"item-{i}" for i in range(ITEMS)]
SIDS = random_rows(ITEMS)
HISTORY = [IDS[3], IDS[17], IDS[5]]
SOME = st.lists(st.sampled_from([*IDS, "stranger"]), max_size=ITEMS)


@pytest.fixture(scope="module")
def student():
    return tiny_student()


@pytest.fixture(scope="module", params=["onnx", "reference"])
def rec(request, student, tmp_path_factory):
    folder = tiny_bundle(tmp_path_factory.mktemp("control") / "b", student, SIDS, beam=ITEMS)
    with Recommender.load(folder, request.param) as recommender:
        yield recommender


@pytest.fixture(scope="module")
def truth(student):
    rows = SIDS[[IDS.index(i) for i in HISTORY]]
    return dict(zip(IDS, brute_force(student, rows, SIDS).tolist(), strict=True))


def ids(found):
    return [item.item_id for item in found]


@settings(max_examples=60)
@given(
    allow=SOME | st.none(),
    deny=SOME,
    bias=st.dictionaries(st.sampled_from(IDS), st.floats(-5, 5, width=32), max_size=8) | st.none(),
    min_score=st.floats(-12, 0) | st.none(),
    k=st.integers(1, ITEMS + 5),
    exclude_seen=st.booleans(),
)
def test_controls_compose_and_the_best_allowed_come_back(rec, truth, allow, deny, bias, min_score, k, exclude_seen):
    prepared = rec.control(allow=allow, deny=deny, bias=bias, min_score=min_score)
    found = rec.recommend(HISTORY, k, exclude_seen, control=prepared)
    allowed = (set(IDS) if allow is None else set(allow) & set(IDS)) - set(deny)
    allowed -= set(HISTORY) if exclude_seen else set()
    scores = {i: truth[i] + (bias or {}).get(i, 0.0) for i in allowed}
    floor = -math.inf if min_score is None else min_score
    sure = [i for i in allowed if scores[i] >= floor + 1e-3]
    assert set(ids(found)) <= allowed
    assert len(found) >= min(k, len(sure))
    for item in found:
        assert item.score == pytest.approx(scores[item.item_id], abs=1e-3)
        assert item.score >= floor - 1e-6
    best = sorted((scores[i] for i in allowed), reverse=True)[: len(found)]
    np.testing.assert_allclose([item.score for item in found], best, atol=1e-3)


def test_nothing_allowed_gives_nothing(rec):
    assert rec.recommend(HISTORY, control=rec.control(allow=[])) == []
    assert rec.recommend(HISTORY, control=rec.control(deny=IDS)) == []
    assert rec.recommend(HISTORY, control=rec.control(min_score=1.0)) == []
    assert rec.recommend(HISTORY, control=rec.control(allow=HISTORY)) == []
    assert rec.recommend(HISTORY, control=rec.control(allow=["stranger"], bias={IDS[0]: 1.0}, diversity=0.5)) == []


def test_a_segment_is_favoured_as_a_whole(rec):
    segments = {item_id: "new" if n % 2 else "old" for n, item_id in enumerate(IDS)}
    prepared = rec.control(bias={"new": 100.0}, segments=segments)
    found = ids(rec.recommend(HISTORY, ITEMS, exclude_seen=False, control=prepared))
    assert {segments[i] for i in found[: ITEMS // 2]} == {"new"}
    by_item = rec.control(bias={i: 100.0 for i, s in segments.items() if s == "new"})
    assert found == ids(rec.recommend(HISTORY, ITEMS, exclude_seen=False, control=by_item))


def test_a_named_catalogue_is_replaced_and_an_unknown_one_refused(rec):
    rec.add_catalogue("stock", IDS[:10])
    assert set(ids(rec.recommend([], 40, within="stock"))) == set(IDS[:10])
    rec.add_catalogue("stock", np.arange(ITEMS) < 4)
    assert len(rec.recommend([], 40, within="stock")) == 4
    assert len(rec.recommend([], 40, control=rec.control(within="stock"))) == 4
    with pytest.raises(ConfigError, match="stock"):
        rec.recommend([], within="sale")


def test_diversity_spreads_over_prefixes_and_none_changes_nothing(rec):
    plain = rec.recommend(HISTORY, 8)
    assert rec.recommend(HISTORY, 8, control=rec.control(diversity=0.0)) == plain
    spread = rec.recommend(HISTORY, 8, control=rec.control(diversity=0.9))
    assert spread[0] == plain[0]

    def first_codes(found):
        return len({SIDS[IDS.index(i)][0] for i in ids(found)})

    assert first_codes(spread) == CODES > first_codes(plain)


@given(
    st.lists(st.tuples(st.floats(-20, 0, width=32), st.integers(0, CODES**LEVELS - 1)), max_size=30),
    st.integers(1, 12),
    st.floats(0, 1),
)
def test_maximal_marginal_relevance_by_brute_force(candidates, k, diversity):
    candidates = sorted(candidates, key=lambda pair: -pair[0])
    scores = np.array([s for s, _ in candidates], np.float32)
    sids = np.array([np.unravel_index(n, (CODES,) * LEVELS) for _, n in candidates], np.uint8).reshape(-1, LEVELS)
    chosen = diverse(scores, sids, k, diversity).tolist()
    assert len(chosen) == len(set(chosen)) == min(k, len(candidates))
    span = float(scores[0] - scores[-1]) if len(scores) else 0.0

    def value(i, before):
        def alike(a, b):
            shared = 0
            while shared < LEVELS and a[shared] == b[shared]:
                shared += 1
            return shared / LEVELS

        relevance = (float(scores[i]) - float(scores[-1])) / span if span > 0 else 1.0
        nearest = max((alike(sids[i], sids[j]) for j in before), default=0.0)
        return (1 - diversity) * relevance - diversity * nearest

    for place, pick in enumerate(chosen):
        rest = [value(i, chosen[:place]) for i in range(len(candidates)) if i not in chosen[:place]]
        assert value(pick, chosen[:place]) == pytest.approx(max(rest), abs=1e-5)


@given(st.integers(0, 60), st.integers(0, 5))
def test_a_node_holds_the_largest_bias_under_it(items, seed):
    rows = random_rows(items, seed) if items else np.empty((0, LEVELS), np.uint8)
    trie = ItemTrie.from_rows(rows, [str(i) for i in range(items)], codes_per_level=CODES)
    leaves = np.random.default_rng(seed).normal(size=items).astype(np.float32)
    nodes = node_bias(trie, leaves)
    assert nodes[0] == 0
    np.testing.assert_array_equal(nodes[trie.n_internal :], leaves)
    for node in range(1, trie.n_internal):
        children = nodes[trie.first_child[node] : trie.first_child[node + 1]]
        assert nodes[node] == children.max()


@pytest.mark.parametrize(
    "wrong",
    [
        {"diversity": 1.5},
        {"diversity": "much"},
        {"min_score": "high"},
        {"min_score": math.nan},
        {"allow": "item-1"},
        {"deny": [3]},
        {"bias": ["item-1"]},
        {"bias": {"item-1": math.nan}},
        {"bias": {"item-1": math.inf}},
        {"bias": {"item-1": "high"}},
        {"bias": {"a": 1.0}, "segments": ["a"]},
        {"within": 3},
    ],
)
def test_a_wrong_control_is_refused(rec, wrong):
    with pytest.raises(ConfigError):
        rec.control(**wrong)


def test_a_control_of_another_catalogue_is_refused(rec, student, tmp_path):
    with Recommender.load(tiny_bundle(tmp_path / "b", student, SIDS)) as other:
        with pytest.raises(ConfigError, match="belongs to another catalogue"):
            rec.recommend([], control=other.control())
        with pytest.raises(ConfigError, match="both given"):
            rec.recommend([], within=rec.trie, control=rec.control())
        with pytest.raises(ConfigError, match="control"):
            rec.recommend([], control={"deny": []})


def test_a_graph_from_before_biases_says_so_and_serves_all_other_calls(student, tmp_path):
    folder = tiny_bundle(tmp_path / "b", student, SIDS, beam=ITEMS)
    spec = open_bundle(folder).manifest.model
    g = Graph(WeightFile(folder / "model.safetensors"))
    add_search(g, spec, StudentGraph(g, spec).scorer("hidden", []), biased=False)
    old = g.model("search", [value("hidden", FLOAT, [1, spec.dim]), *search_inputs(spec)], search_outputs())
    (folder / "search.onnx").write_bytes(old.SerializeToString())
    sealed(folder)
    with Recommender.load(folder, "onnx") as rec:
        with pytest.raises(BundleError, match="export the bundle again"):
            rec.recommend(HISTORY, control=rec.control(bias={IDS[0]: 1.0}))
        assert ids(rec.session(HISTORY).recommend()) == ids(rec.recommend(HISTORY))


def test_a_catalogue_that_another_thread_names_meanwhile_is_not_lost(rec):
    others = []

    class Name(str):
        """Lets another thread add a catalogue at the moment when this name goes into the dictionary."""

        def __hash__(self):
            if not others:
                others.append(threading.Thread(target=rec.add_catalogue, args=("other", IDS[4:8])))
                others[0].start()
                others[0].join(0.2)  # without a lock it is done at once; with one it waits for this call
            return super().__hash__()

    rec.add_catalogue(Name("one"), IDS[:3])
    others[0].join()
    assert set(ids(rec.recommend([], 9, within="one"))) == set(IDS[:3])
    assert set(ids(rec.recommend([], 9, within="other"))) == set(IDS[4:8])


def test_an_empty_control_is_the_whole_catalogue(rec):
    assert isinstance(rec.control(), Control)
    assert rec.control().catalogue is rec.trie
    assert rec.recommend(HISTORY, control=rec.control()) == rec.recommend(HISTORY)


def test_an_event_loop_is_not_held_up(rec):
    async def several():
        return await asyncio.gather(*(rec.recommend_async(HISTORY[:n], 5) for n in range(4)))

    assert asyncio.run(several()) == [rec.recommend(HISTORY[:n], 5) for n in range(4)]


def test_an_explanation_is_the_models_own_numbers(rec, student, truth):
    found = rec.explain(["stranger", *HISTORY], IDS[8])
    assert found.score == pytest.approx(truth[IDS[8]], abs=1e-4)
    assert sum(found.levels) == pytest.approx(found.score, abs=1e-4)
    assert len(found.levels) == LEVELS
    assert [item for item, _ in found.history] == HISTORY
    for n, (_, change) in enumerate(found.history):
        rows = SIDS[[IDS.index(i) for m, i in enumerate(HISTORY) if m != n]]
        assert change == pytest.approx(truth[IDS[8]] - float(brute_force(student, rows, SIDS)[8]), abs=1e-3)
    assert [change for _, change in found.drivers] == sorted((c for _, c in found.history), reverse=True)
    with pytest.raises(ConfigError, match="nobody"):
        rec.explain(HISTORY, "nobody")
