"""GGUF bundles: the student's own answers through llama.cpp, the types said, and files that do not fit refused."""

from __future__ import annotations

import builtins
import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketrec.distill.evaluation.student_ranker import TorchEngine
from pocketrec.export.gguf.student import SCHEMES, gguf_tensor_types
from pocketrec.runtime.bundle.bundle import describe_file, open_bundle, write_manifest
from pocketrec.runtime.engines.registry import load_engine
from pocketrec.runtime.errors import BundleError, MissingExtraError
from pocketrec.runtime.recommender import Recommender
from tiny import random_rows, tiny_bundle, tiny_student

pytest.importorskip("llama_cpp", reason="GGUF runs on llama-cpp-python: pip install 'pocketrec[gguf]'")
NONE = np.empty(0, np.int32)


def gguf_bundle(folder, student, quantize="none", items=40):
    return tiny_bundle(folder, student, random_rows(items), format="gguf", quantize=quantize)


@given(
    seed=st.integers(0, 50),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2), (4, 4)]),
    layers=st.integers(1, 3),
    pair_dim=st.sampled_from([0, 4]),
    length=st.integers(0, 6),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_a_float32_file_gives_the_hidden_state_of_torch(tmp_path_factory, seed, heads, layers, pair_dim, length):
    student = tiny_student(seed, heads=heads[0], kv_heads=heads[1], layers=layers, pair_dim=pair_dim, dim=32)
    engine = load_engine("gguf", open_bundle(gguf_bundle(tmp_path_factory.mktemp("g") / "b", student)))
    history = random_rows(8, seed)[:length].astype(np.int32)
    expected = TorchEngine(student).encode(history[None], np.array([length]))
    np.testing.assert_allclose(engine.hidden_of(history), expected, atol=2e-4)
    engine.close()
    engine.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_recommends_what_float32_does_nearly(tmp_path, scheme):
    student = tiny_student(dim=64, ffn=64, heads=2, decoder_dim=32)
    exact, rounded = (
        load_engine("gguf", open_bundle(gguf_bundle(tmp_path / name, student, name))) for name in ("none", scheme)
    )
    history = random_rows(8)[:4].astype(np.int32)
    one, other = exact.hidden_of(history)[0], rounded.hidden_of(history)[0]
    cosine = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    assert cosine > {"none": 0.99999, "f16": 0.9999, "q8_0": 0.999}.get(scheme, 0.9)


def test_the_types_said_are_those_the_file_has_and_odd_widths_fall_back(tmp_path):
    folder = gguf_bundle(tmp_path / "b", tiny_student(dim=32, ffn=24, heads=2), "q8_0")
    types = {name: kind for name, kind, _, _ in gguf_tensor_types(folder / "encoder.gguf")}
    assert types["blk.0.attn_q.weight"] == "Q8_0"
    assert types["blk.0.ffn_down.weight"] == "F16"  # its rows have 24 values, no multiple of 32
    assert types["output_norm.weight"] == types["token_embd.weight"] == "F32"


def test_a_bundle_opens_with_the_engine_it_was_made_for(tmp_path):
    folder = gguf_bundle(tmp_path / "b", tiny_student())
    with Recommender.load(folder) as recommender:
        assert recommender.engine.name == "gguf"
        assert len(recommender.recommend(["item-1"], k=5)) == 5
    with pytest.raises(BundleError, match="no 'recommender' graph"):
        Recommender.load(folder, engine="onnx")
    onnx = tiny_bundle(tmp_path / "o", tiny_student(), random_rows(40))
    with pytest.raises(BundleError, match="no 'backbone' graph"):
        Recommender.load(onnx, engine="gguf")


def test_a_file_that_is_not_the_manifests_is_refused(tmp_path):
    folder = gguf_bundle(tmp_path / "b", tiny_student())
    gguf_bundle(tmp_path / "deep", tiny_student(layers=3))
    (folder / "encoder.gguf").write_bytes((tmp_path / "deep" / "encoder.gguf").read_bytes())
    with pytest.raises(BundleError):
        open_bundle(folder)
    rehash(folder)
    with pytest.raises(BundleError, match=r"llama\.block_count = 3, but the manifest says 2"):
        load_engine("gguf", open_bundle(folder))


@pytest.mark.parametrize("content", [b"", b"GGUX" + bytes(100), b"GGUF" + bytes(100)])
def test_rubbish_is_refused_even_if_its_hash_is_right(tmp_path, content):
    folder = gguf_bundle(tmp_path / "b", tiny_student())
    (folder / "encoder.gguf").write_bytes(content)
    rehash(folder)
    with pytest.raises(BundleError, match=r"encoder\.gguf"):
        load_engine("gguf", open_bundle(folder))


def test_without_the_package_the_error_names_the_extra(tmp_path, monkeypatch):
    bundle = open_bundle(gguf_bundle(tmp_path / "b", tiny_student()))
    real = builtins.__import__

    def absent(name, *rest):
        if name == "llama_cpp":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"pocketrec\[gguf\]"):
        load_engine("gguf", bundle)


def rehash(folder):
    """Rewrite the manifest for the files as they are now."""
    manifest = read(folder)
    files = {name: describe_file(folder / name) for name in manifest.files}
    write_manifest(folder, dataclasses.replace(manifest, files=files))


def read(folder):
    from pocketrec.runtime.bundle.manifest import parse_manifest

    return parse_manifest((folder / "manifest.json").read_bytes())
