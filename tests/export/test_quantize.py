"""Quantised weights: rounded by no more than the format says, decoded alike by every engine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from pocketrec.export.quantize import BLOCK, SCHEMES, int4, int8, quantize, tensor_types
from pocketrec.export.weights import device_weights
from pocketrec.runtime.bundle.bundle import WEIGHTS_FILE, open_bundle
from pocketrec.runtime.bundle.weights import read_weights
from pocketrec.runtime.compiled import native
from pocketrec.runtime.engines.registry import load_engine
from pocketrec.runtime.errors import ConfigError
from tiny import random_rows, tiny_bundle, tiny_student

NONE = np.empty(0, np.int32)

shapes = st.tuples(st.integers(1, 70), st.integers(2, 70))
names = st.sampled_from(["layers.0.qkv", "decoder.1.out", "embed.0", "pair.table"])


def matrix(shape, seed, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def decoded(tensors, folder):
    save_file(tensors, folder / "w.safetensors")
    return read_weights(folder / "w.safetensors")


@pytest.mark.parametrize(("encode", "steps"), [(int8, 127), (int4, 7)])
@given(shape=shapes, name=names, seed=st.integers(0, 99), scale=st.sampled_from([1e-3, 1.0, 300.0]))
@settings(max_examples=60)
def test_a_value_moves_by_little_of_the_largest_beside_it(tmp_path_factory, encode, steps, shape, name, seed, scale):
    array = matrix(shape, seed, scale)
    (back,) = decoded(encode(name, array), tmp_path_factory.mktemp("w")).values()
    assert back.shape == array.shape
    assert back.dtype == np.float32
    # The scale of the least error may clip the largest value, but never lose more in all than plain rounding to it.
    plain = np.abs(array).max() / steps / 2
    assert np.sqrt(np.mean((back - array) ** 2)) <= 1.01 * plain + 1e-4


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=30)
def test_four_bits_take_half_a_byte_a_value_and_a_scale_a_block(tmp_path_factory, shape, seed):
    rows, columns = 2 * shape[0], shape[1]
    tensors = int4("layers.0.qkv", matrix((rows, columns), seed))
    assert tensors["layers.0.qkv.int4"].nbytes == rows * columns // 2
    blocks = len(tensors["layers.0.qkv.scale"])
    assert rows % blocks == 0
    assert rows // blocks <= BLOCK


@pytest.mark.parametrize("encode", [int8, int4])
def test_zeros_stay_zeros(tmp_path, encode):
    (back,) = decoded(encode("layers.0.qkv", np.zeros((8, 4), np.float32)), tmp_path).values()
    assert not back.any()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [{}, {"heads": 4, "kv_heads": 2, "layers": 1, "dim": 32, "ffn": 40}, {"pair_dim": 0}])
def test_engines_agree_on_a_quantised_bundle(tmp_path, scheme, shape):
    student = tiny_student(3, **shape)
    bundle = open_bundle(tiny_bundle(tmp_path / "b", student, random_rows(60), quantize=scheme))
    assert bundle.manifest.model.quantization == scheme
    trie, generator = bundle.load_trie(), np.random.default_rng(0)
    engines = [
        load_engine(name, bundle) for name in ("reference", "onnx", "onnx-split", *(("native",) if native else ()))
    ]
    for length in (0, 1, 6):
        history = random_rows(10, int(generator.integers(99)))[:length].astype(np.int32)
        oracle, others = (lambda e, h=history: e.search(h, trie, NONE, 60))(engines[0]), engines[1:]
        for engine in others:
            rows, scores = engine.search(history, trie, NONE, 60)
            order = np.argsort(oracle[0])
            assert sorted(rows.tolist()) == sorted(oracle[0].tolist())
            np.testing.assert_allclose(scores[np.argsort(rows)], oracle[1][order], atol=1e-4)


@pytest.mark.parametrize(("scheme", "tolerance"), [("none", 0.0), ("fp16", 1e-3), ("int8", 1e-2), ("int4", 0.15)])
def test_weights_come_back_as_near_as_their_bits_allow(tmp_path, scheme, tolerance):
    student = tiny_student()
    folder = tiny_bundle(tmp_path / "b", student, random_rows(40), quantize=scheme)
    stored = read_weights(folder / WEIGHTS_FILE)
    for name, array in device_weights(student).items():
        assert np.abs(stored[name].astype(np.float64) - array).max() <= tolerance * np.abs(array).max() + 1e-7, name


def test_the_types_reported_are_those_in_the_file(tmp_path):
    folder = tiny_bundle(tmp_path / "b", tiny_student(), random_rows(40), quantize="int4")
    reported, stored = tensor_types(folder / WEIGHTS_FILE), load_file(folder / WEIGHTS_FILE)
    assert {name: size for name, _, _, size in reported} == {name: array.nbytes for name, array in stored.items()}
    assert {name: dtype for name, dtype, _, _ in reported}["layers.0.qkv.int4"] == "U8"
    assert {name: dtype for name, dtype, _, _ in reported}["decoder.bias"] == "F32"


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="int8, int4"):
        quantize({}, "int3")
