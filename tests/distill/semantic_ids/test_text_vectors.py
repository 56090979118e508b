"""Item text to vectors: real MiniLM weights, or a file of vectors."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.distill.config import TextConfig
from pocketrec.distill.semantic_ids.text_vectors import encode_texts, find_minilm, read_vectors
from pocketrec.runtime.errors import ConfigError, DataError

TEXTS = ["a red lipstick", "crimson lip colour", "cordless power drill", ""]


@pytest.fixture(scope="module")
def vectors():
    return encode_texts(TEXTS, TextConfig())


def test_like_texts_are_near_and_all_have_length_one(vectors):
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_a_text_gets_the_same_vector_in_any_batch(vectors):
    alone = encode_texts([TEXTS[1]], TextConfig())
    np.testing.assert_allclose(alone[0], vectors[1], atol=1e-5)
    one_by_one = encode_texts(TEXTS, TextConfig(batch_size=1))
    np.testing.assert_allclose(one_by_one, vectors, atol=1e-5)


def test_a_local_transformers_directory_is_an_encoder(vectors):
    local = encode_texts(TEXTS[:1], TextConfig(encoder=str(find_minilm())))
    np.testing.assert_allclose(local[0], vectors[0], atol=1e-5)


def test_vectors_from_a_file_are_normalised(tmp_path):
    np.save(tmp_path / "v.npy", np.array([[3.0, 4.0], [0.0, 2.0]]))
    got = encode_texts(["a", "b"], TextConfig(encoder=str(tmp_path / "v.npy")))
    np.testing.assert_allclose(got, [[0.6, 0.8], [0.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 2)), "one vector for each"),
        (np.zeros(2), "one vector for each"),
        (np.full((2, 2), np.nan), "not finite"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path, array, message):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / "v.npy", 2, "text.encoder")


@pytest.mark.parametrize("content", [b"", b"1.0 2.0\n3.0 4.0\n"])
def test_a_file_that_is_not_npy_is_refused(tmp_path, content):
    (tmp_path / "v.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"text\.encoder: .*v\.npy is not a \.npy file of numbers"):
        encode_texts(["a", "b"], TextConfig(encoder=str(tmp_path / "v.npy")))


def test_an_encoder_that_is_not_there_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match="minilm"):
        encode_texts(["a"], TextConfig(encoder="no-such-folder"))
    with pytest.raises(DataError, match="does not exist"):
        encode_texts(["a"], TextConfig(encoder="gone.npy"))
