"""An exported text encoder gives the vectors of the torch model; without optimum the error says what to install."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from pocketrec.distill.config import TextConfig
from pocketrec.distill.semantic_ids.text_vectors import encode_texts
from pocketrec.export.text_encoder import export_text_encoder
from pocketrec.runtime.errors import BundleError, ConfigError, MissingExtraError, TrainingError
from pocketrec.runtime.text_encoder import TextEncoder

TEXTS = ["", "red shoe", "blue shoe shoe", "unheard-of words", "red " * 40]
has_optimum = importlib.util.find_spec("optimum") is not None
needs_optimum = pytest.mark.skipif(not has_optimum, reason="needs pocketrec[optimum] (transformers below 4.58)")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny BERT with a tokenizer of a dozen pieces."""
    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "shoe", "un", "##heard", "-", "of", "words"]
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).eval().save_pretrained(folder)
    return folder


@needs_optimum
def test_the_exported_files_alone_give_the_vectors_of_the_torch_model(encoder, tmp_path):
    written = export_text_encoder(encoder, tmp_path / "out", max_tokens=16, samples=TEXTS)
    assert written["dim"] == 32
    assert written["largest_difference"] <= 1e-4
    expected = encode_texts(TEXTS, TextConfig(encoder=str(encoder), max_tokens=16))
    found = TextEncoder(tmp_path / "out").encode(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    content = (tmp_path / "out" / "model.onnx").read_bytes()
    assert not any(trace in content for trace in (b"site-packages", b"/home", b".py"))


@needs_optimum
def test_a_difference_over_the_tolerance_leaves_nothing_under_the_final_name(encoder, tmp_path):
    with pytest.raises(TrainingError, match="more than the tolerance"):
        export_text_encoder(encoder, tmp_path / "out", tolerance=0.0, samples=TEXTS)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(has_optimum, reason="optimum is installed")
def test_without_optimum_the_error_names_the_extra(encoder, tmp_path):
    with pytest.raises(MissingExtraError, match=r"pocketrec\[optimum\]"):
        export_text_encoder(encoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_directory_without_a_model_or_a_fast_tokenizer_is_refused(tmp_path, name):
    for other in {"config.json", "tokenizer.json"} - {name}:
        (tmp_path / other).write_text("{}")
    with pytest.raises(ConfigError, match=f"has no {name}"):
        export_text_encoder(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    "change", [{"graph": "../x.onnx"}, {"version": 2}, {"dim": 0}, {"pooling": "cls"}, {"more": 1}]
)
def test_a_folder_that_holds_no_encoder_is_refused(tmp_path, change):
    with pytest.raises(BundleError, match="has no usable text encoder"):
        TextEncoder(tmp_path)
    settings = {"graph": "model.onnx", "output": "y", "dim": 4, "max_tokens": 8, "pooling": "mean", **change}
    (tmp_path / "text-encoder.json").write_text(json.dumps(settings))
    with pytest.raises(BundleError, match=r"has no usable text encoder|was not written by this version"):
        TextEncoder(tmp_path)
