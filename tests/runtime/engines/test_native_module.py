"""The extension module, called directly: it refuses or survives any arguments, and never reads or writes past an array.

`.ci/sanitize` runs these tests under the address and undefined-behaviour sanitizers, where an error ends the process.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from device_engines import NEEDS_NATIVE
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.bundle.weights import read_weights
from pocketrec.runtime.compiled import native
from pocketrec.runtime.engines.native import NativeEngine, sizes, tensors
from pocketrec.runtime.recommendation import Recommendation
from tiny import CODES, random_rows, tiny_bundle, tiny_student

ITEMS, HIDDEN = 40, 16
BUNDLES = Path(__file__).parents[2] / "vectors" / "bundles"
FE_INVALID = 1  # of x86's <fenv.h>
NONE = np.empty(0, np.int32)
KERNELS = native.kernels() if native else []
HUGE = (2**31, 2**32, 2**59, 2**61, 2**62, 2**63 - 1, 2**63, 2**64, 10**30)
pytestmark = NEEDS_NATIVE


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return open_bundle(tiny_bundle(tmp_path_factory.mktemp("m") / "b", tiny_student(), random_rows(ITEMS)))


@pytest.fixture(scope="module")
def trie(bundle):
    return bundle.load_trie()


@pytest.fixture(params=KERNELS)
def model(bundle, request):
    return NativeEngine(bundle, kernels=request.param)._model


def search_call(trie, **changes):
    """Arguments of `encode_and_search` by name, in order."""
    call = {
        "history": np.zeros((2, 3), np.int32), "unused": None, "first_child": trie.first_child, "codes": trie.codes,
        "exclude": NONE, "beam": 20, "widen": False, "bias": None,
        "rows": np.zeros(20, np.int32), "scores": np.zeros(20, np.float32),
    }  # fmt: skip
    return {**call, **changes}


def catalogue_arrays(trie, **changes):
    """Arguments of `Catalogue` by name, in order."""
    table = trie.table
    arrays = {
        "index": table.index, "id_bytes": table.id_bytes, "id_offsets": table.id_offsets, "titles": table.title_bytes,
        "title_offsets": table.title_offsets, "rows": trie.rows, "first_child": trie.first_child, "codes": trie.codes,
        "item_type": Recommendation,
    }  # fmt: skip
    return {**arrays, **changes}


def misaligned(array):
    """The same array, one byte behind where its type wants it."""
    memory = bytearray(array.nbytes + 1)
    memory[1:] = array.tobytes()
    return np.frombuffer(memory, array.dtype, offset=1).reshape(array.shape)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"history": np.zeros((2, 3), np.int64)}, TypeError),
        ({"history": np.zeros((2, 3), np.float32)}, TypeError),
        ({"history": np.zeros((2, 3), np.uint32)}, TypeError),
        ({"history": np.zeros((2, 3), ">i4")}, TypeError),
        ({"history": np.zeros((2, 3), "S4")}, TypeError),
        ({"history": misaligned(np.zeros((2, 3), np.int32))}, ValueError),
        ({"history": np.zeros(7, np.int32)}, ValueError),
        ({"history": np.zeros((7, 3), np.int32)}, ValueError),
        ({"history": np.full((2, 3), CODES, np.int32)}, ValueError),
        ({"history": np.full((2, 3), -1, np.int32)}, ValueError),
        ({"history": "text"}, TypeError),
        ({"first_child": np.zeros(1, np.int32)}, ValueError),
        ({"first_child": np.zeros(9, np.float32)}, TypeError),
        ({"codes": np.zeros(400, np.int32)}, TypeError),
        ({"codes": np.zeros(400, np.int8)}, TypeError),
        ({"codes": np.zeros(400, np.float16)}, TypeError),
        ({"codes": np.zeros(1, np.uint8)}, ValueError),
        ({"exclude": np.zeros(2, np.int64)}, TypeError),
        ({"exclude": np.zeros(2, np.float32)}, TypeError),
        ({"beam": 0}, ValueError),
        ({"beam": -(2**70)}, ValueError),
        ({"beam": 19}, ValueError),
        ({"beam": 20.0}, TypeError),
        ({"bias": np.zeros(3, np.float32)}, ValueError),
        ({"bias": np.zeros(200, np.int32)}, TypeError),
        ({"rows": np.zeros(40, np.int32)[::2]}, ValueError),
        ({"rows": np.zeros(20, np.float32)}, TypeError),
        ({"scores": np.zeros(20, np.float64)}, TypeError),
        ({"scores": np.zeros(20, np.int32)}, TypeError),
        ({"scores": np.zeros(19, np.float32)}, ValueError),
        ({"rows": NONE, "scores": np.zeros(0, np.float32)}, ValueError),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_read(bundle, trie, wrong, error):
    model = NativeEngine(bundle)._model
    assert model.encode_and_search(*search_call(trie).values()) == 20
    with pytest.raises(error):
        model.encode_and_search(*search_call(trie, **wrong).values())


def test_an_error_of_type_names_the_argument_and_both_types(bundle, trie):
    model = NativeEngine(bundle)._model
    with pytest.raises(TypeError, match="history has the type 'f', not int32"):
        model.encode_and_search(*search_call(trie, history=np.zeros((2, 3), np.float32)).values())


@pytest.mark.parametrize("beam", HUGE)
def test_a_beam_wider_than_the_trie_is_one_of_all_its_nodes(model, trie, beam):
    widest, other = search_call(trie, beam=trie.n_nodes), search_call(trie, beam=beam)
    assert model.encode_and_search(*widest.values()) == model.encode_and_search(*other.values()) == 20
    assert widest["rows"].tolist() == other["rows"].tolist()
    catalogue = native.Catalogue(*catalogue_arrays(trie).values())
    expected = model.recommend_items(catalogue, None, [], None, None, None, 5, trie.n_nodes, True, False)
    assert len(expected) == 5
    assert model.recommend_items(catalogue, None, [], None, None, None, 5, beam, True, False) == expected
    assert (
        model.recommend_items(catalogue, None, [], None, None, None, beam, 5, True, False) is None
    )  # more than there are items


def test_more_rows_than_nodes_are_filled_as_far_as_there_are_items(model, trie):
    room = trie.n_nodes + 1000
    call = search_call(trie, beam=room, rows=np.full(room, -5, np.int32), scores=np.zeros(room, np.float32))
    assert model.encode_and_search(*call.values()) == ITEMS
    assert sorted(call["rows"][:ITEMS].tolist()) == list(range(ITEMS))
    assert (call["rows"][ITEMS:] == -5).all()


def damaged_first_children(trie):
    """Arrays of the right type and size that no trie has, by what is wrong with them."""
    right, nodes = trie.first_child, trie.n_nodes
    past_end, falls = right.copy(), right.copy()
    past_end[-1] = nodes + 1
    falls[1], falls[2] = right[2], right[1]
    return {
        "zeros": np.zeros_like(right),
        "negative": -right,
        "all nodes are everyone's children": np.where(np.arange(len(right)) % 2, nodes, 0).astype(np.int32),
        "one node": np.r_[np.zeros(1), np.full(len(right) - 1, 20)].astype(np.int32),
        "past the end": past_end,
        "far past the end": np.full_like(right, 2**31 - 1),
        "falls": falls,
        "leaves right below the root": np.r_[0, np.full(len(right) - 1, nodes)].astype(np.int32),
    }


DAMAGE = ("zeros", "negative", "all nodes are everyone's children", "one node", "past the end", "far past the end",
          "falls", "leaves right below the root")  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_trie_is_refused_where_it_is_kept_and_never_leads_past_the_items(model, trie, damage):
    wrong = damaged_first_children(trie)[damage]
    with pytest.raises(ValueError, match="first_child"):
        native.Catalogue(*catalogue_arrays(trie, first_child=wrong).values())
    for beam in (20, trie.n_nodes):
        call = search_call(trie, first_child=wrong, beam=beam)
        found = model.encode_and_search(*call.values())
        assert all(0 <= row < ITEMS for row in call["rows"][:found])


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_trie_that_changes_after_it_was_checked_leads_nowhere_else(model, trie, damage):
    """Nobody may write into a catalogue's arrays; whoever does gets wrong items, or none, and no memory of others."""
    first_child, codes = trie.first_child.copy(), trie.codes.copy()
    catalogue = native.Catalogue(*catalogue_arrays(trie, first_child=first_child, codes=codes).values())
    first_child[:] = damaged_first_children(trie)[damage]
    codes[::3] = 255
    items = model.recommend_items(catalogue, None, [], None, None, None, 5, 20, True, False)
    assert items is None or all(item.item_id.startswith("item-") for item in items)


def test_offsets_that_point_anywhere_give_no_id_and_no_text(trie):
    table = trie.table
    ids, rows = table.ids(np.arange(3, dtype=np.int32)), np.empty(3, np.int32)
    for wrong in (-(2**63), 2**63 - 1, 2**32, -1):
        offsets = table.id_offsets.copy()
        offsets[1:] = wrong
        assert native.find_rows(ids, table.index, table.id_bytes, offsets, rows)
        assert rows.tolist() == [-1, -1, -1]
        with pytest.raises(IndexError):
            native.texts(np.array([1], np.int32), table.id_bytes, offsets)


@pytest.mark.parametrize("field", range(5))
def test_lookups_check_the_types_and_sizes_of_their_arrays(trie, field):
    table = trie.table
    arrays = [["item-1", "item-2"], table.index, table.id_bytes, table.id_offsets, np.empty(2, np.int32)]
    assert native.find_rows(*arrays)
    for wrong in (np.zeros(2, np.float32), np.zeros(len(table) + 1, np.float64), np.zeros(3, np.int8), None):
        with pytest.raises((TypeError, ValueError)):
            native.find_rows(*arrays[:field], wrong, *arrays[field + 1 :])
    with pytest.raises(TypeError):
        native.texts(np.zeros(1, np.float32), table.id_bytes, table.id_offsets)


def test_a_read_only_array_is_not_written_to(bundle, trie):
    model = NativeEngine(bundle)._model
    rows, scores = np.zeros(4, np.int32), np.zeros(4, np.float32)
    rows.flags.writeable = False
    hidden = np.zeros(HIDDEN, np.float32)
    with pytest.raises(ValueError, match=r"read-only|not writable"):
        model.search(hidden, None, trie.first_child, trie.codes, NONE, 4, False, None, rows, scores)


def test_caches_that_do_not_fit_are_refused(bundle):
    model, hidden = NativeEngine(bundle)._model, np.zeros(HIDDEN, np.float32)
    one = np.zeros((1, 3), np.int32)
    for past, present in (
        (np.zeros(7, np.float32), np.zeros(7, np.float32)),
        (None, np.zeros(5, np.float32)),
        (np.zeros((2, 2, 2, 7, 8), np.float32), None),  # as long as the model reads already
    ):
        with pytest.raises(ValueError, match=r"cache|present|longer"):
            model.encode(one, past, hidden, present)
    with pytest.raises(ValueError, match="nothing to read"):
        model.encode(one[:0], np.zeros((2, 2, 2, 3, 8), np.float32), hidden, None)


@pytest.fixture(scope="module")
def parts(bundle):
    """(sizes, ε, tensors) that the bundle's model is made of."""
    spec = bundle.manifest.model
    weights = read_weights(bundle.file("model.safetensors"), spec)
    return sizes(spec, weights), spec.norm_eps, tensors(spec, weights)


@pytest.mark.parametrize("field", range(15))
@pytest.mark.parametrize("value", [-1, 0, 3, 1 << 24, 1 << 40])
def test_sizes_that_do_not_fit_the_tensors_are_refused(parts, field, value):
    right, eps, given_tensors = parts
    if right[field] == value or (field == 3 and value in (3, 1 << 24)):  # more layers may share two blocks
        return
    wrong = (*right[:field], value, *right[field + 1 :])
    with pytest.raises((ValueError, MemoryError)):
        native.Model(wrong, eps, given_tensors)


@pytest.mark.parametrize("kernels", KERNELS)
def test_tensors_too_few_too_many_or_of_other_types_are_refused(parts, kernels):
    right, eps, given_tensors = parts
    first = given_tensors[0]
    for wrong, message in (
        (given_tensors[:-1], "missing"),
        ((*given_tensors, first), "one too many"),
        ((None, *given_tensors[1:]), "tensor 0 is missing"),
        ((first[:-1], *given_tensors[1:]), f"tensor 0 has {len(first) - 1} numbers, not {len(first)}"),
        ((first.view(np.int32), *given_tensors[1:]), "must be float32"),
        ((first.astype(">f4"), *given_tensors[1:]), "must be float32"),
        ((misaligned(first), *given_tensors[1:]), "not aligned"),
    ):
        with pytest.raises(ValueError, match=message):
            native.Model(right, eps, wrong, kernels)
    with pytest.raises((TypeError, BufferError)):
        native.Model(right, eps, ("text", *given_tensors[1:]), kernels)
    with pytest.raises(ValueError, match="no such kernels"):
        native.Model(right, eps, given_tensors, "abacus")


@pytest.mark.parametrize("kernels", [name for name in KERNELS if not name.endswith("int8")][:1])
def test_other_threads_run_while_a_model_is_loaded(kernels):
    """A swap in the background must not stall calls. With the interpreter's lock held, no tick falls in its middle."""
    levels, codes, dim, ffn, layers = 3, 64, 512, 1024, 4
    numbers = np.ones(dim * 2 * ffn, np.float32)

    def tensor(*shape):
        return numbers[: int(np.prod(shape))].reshape(shape)

    block = [tensor(dim, dim), None, tensor(dim, 2 * dim), None, tensor(dim, dim), None, tensor(dim, 2 * ffn), None,
             tensor(ffn, dim), None]  # fmt: skip
    weights = [tensor(dim), tensor(51, 64), tensor(51, 64), *layers * block, tensor(dim)]
    weights += [*levels * [tensor(codes, dim)], tensor(dim, levels * dim), tensor(levels * dim)]
    for level in range(levels):
        weights += [tensor(dim, codes), tensor(codes), *level * [tensor(codes, dim)]]
    shape = (levels, codes, dim, layers, layers, 8, 8, 64, ffn, dim, 0, 0, 50, 0, 0)

    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        for _ in range(10):  # on a busy machine the other thread may get no time in one load
            begin = time.perf_counter()
            native.Model(shape, 1e-6, tuple(weights), kernels)
            third = (time.perf_counter() - begin) / 3
            if any(begin + third < moment < begin + 2 * third for moment in list(ticks)):
                return
            ticks.clear()
    finally:
        stop.set()
        thread.join()
    pytest.fail("no other thread ran while a model was loaded")


@pytest.mark.parametrize("field", range(9))
def test_a_catalogue_whose_arrays_do_not_fit_is_refused(trie, field):
    arrays = catalogue_arrays(trie)
    name = list(arrays)[field]
    native.Catalogue(*arrays.values())
    for wrong in (np.zeros(1, np.int32), np.zeros(3, np.float64), None, "text"):
        if name == "titles" and wrong is None:
            continue
        with pytest.raises((TypeError, ValueError)):
            native.Catalogue(*{**arrays, name: wrong}.values())


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("index", np.int64), ("id_bytes", np.int8), ("id_offsets", np.uint64), ("titles", np.int8),
        ("title_offsets", np.float64), ("rows", np.int8), ("rows", np.uint16), ("first_child", np.uint32),
        ("first_child", np.float32), ("codes", np.int8), ("codes", np.uint16), ("first_child", ">i4"),
    ],
)  # fmt: skip
def test_a_catalogue_whose_arrays_are_of_other_types_is_refused(trie, name, dtype):
    arrays = catalogue_arrays(trie)
    with pytest.raises((TypeError, ValueError)):
        native.Catalogue(*{**arrays, name: arrays[name].astype(dtype)}.values())


def test_items_are_recommended_from_a_catalogue_of_the_model(bundle, trie):
    model = NativeEngine(bundle)._model
    for wrong in (None, trie, model):
        with pytest.raises((TypeError, ValueError)):
            model.recommend_items(wrong, None, [], None, None, None, 3, 4, True, False)
    catalogue = native.Catalogue(*catalogue_arrays(trie, titles=None, title_offsets=None).values())
    items = model.recommend_items(catalogue, None, [], None, None, None, 3, 4, True, False)
    assert len(items) == 3
    assert [item.title for item in items] == [None, None, None]
    hidden = np.zeros(HIDDEN, np.float32)
    for leaves in (np.array([ITEMS], np.int32), np.array([-1], np.int32)):
        with pytest.raises(ValueError, match="no such leaf"):
            model.recommend_items(catalogue, None, None, hidden, None, leaves, 3, 4, True, False)
    with pytest.raises(ValueError, match="hidden"):
        model.recommend_items(catalogue, None, None, hidden[:3], None, NONE, 3, 4, True, False)
    with pytest.raises(TypeError, match="history_leaves"):
        model.recommend_items(catalogue, None, None, hidden, None, np.zeros(2, np.float32), 3, 4, True, False)


@pytest.mark.skipif(
    "POCKETREC_POISON" not in os.environ, reason="runs in .ci/sanitize, whose build fills memory with signalling NaNs"
)
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["plain", "wide", "grouped", "tokens"])
def test_nothing_is_computed_from_memory_that_was_not_written(name, kernels):
    """Padding, too: an operation on a signalling NaN ends the process here."""
    bundle = open_bundle(BUNDLES / name)
    engine, trie = NativeEngine(bundle, kernels=kernels), bundle.load_trie()
    longest = bundle.manifest.model.max_history
    libm = ctypes.CDLL("libm.so.6")
    for length in {0, 1, 2, longest}:
        history = trie.rows[np.arange(length) % len(trie)].astype(np.int32)
        libm.feenableexcept(FE_INVALID)
        try:
            engine.search(history, trie, NONE, 20)
            state = engine.read(history)
            engine.search_from(state, trie, NONE, 100, np.zeros(trie.n_nodes, np.float32))
            if 0 < length < longest:
                engine.search_from(engine.read(history[:1], state), trie, NONE, 5)
        finally:
            libm.fedisableexcept(FE_INVALID)
