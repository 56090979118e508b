"""A backbone is opened by llama.cpp only if its header says what the manifest says, and its tensors lie in the file."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.engines.gguf_check import check_gguf
from pocketrec.runtime.errors import BundleError
from tiny import random_rows, tiny_bundle, tiny_student

pytest.importorskip("gguf", reason="writing GGUF needs gguf: pip install 'pocketrec[gguf]'")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    pytest.importorskip("llama_cpp", reason="K-quants are llama.cpp's")
    folder = tmp_path_factory.mktemp("g") / "b"
    tiny_bundle(folder, tiny_student(), random_rows(40), format="gguf")
    return (folder / "encoder.gguf").read_bytes(), open_bundle(folder).manifest.model


def check(path, content, spec):
    path.write_bytes(content)
    check_gguf(path, spec)


def said(content: bytes, name: str, value: bytes, kind: int | None = None) -> bytes:
    """Change the value of an entry, and its type."""
    at = content.index(name.encode()) + len(name)
    kept = content[at : at + 4] if kind is None else struct.pack("<I", kind)
    return content[:at] + kept + value + content[at + 4 + len(value) :]


U32 = [
    "context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count", "vocab_size",
]  # fmt: skip


@pytest.mark.parametrize("name", U32)
@pytest.mark.parametrize("value", [0, 77, 2**32 - 1])
def test_a_number_that_is_not_the_manifests_is_refused(good, tmp_path, name, value):
    content, spec = good
    check(tmp_path / "g", content, spec)
    with pytest.raises(BundleError, match=f"says llama.{name} = {value}, but the manifest says"):
        check(tmp_path / "g", said(content, f"llama.{name}", struct.pack("<I", value)), spec)


@pytest.mark.parametrize("name", ["rope.freq_base", "attention.layer_norm_rms_epsilon"])
@pytest.mark.parametrize("value", [0.0, 5e5, float("nan"), float("inf")])
def test_a_rotation_or_a_norm_that_is_not_the_manifests_is_refused(good, tmp_path, name, value):
    content, spec = good
    with pytest.raises(BundleError, match=f"says llama.{name} "):
        check(tmp_path / "g", said(content, f"llama.{name}", struct.pack("<f", value)), spec)


def at_tensor(content: bytes, name: str, skip: int, value: bytes) -> bytes:
    at = content.index(name.encode()) + len(name) + skip
    return content[:at] + value + content[at + len(value) :]


def lies(content: bytes) -> dict[str, bytes]:
    u64, u32 = (lambda n: struct.pack("<Q", n)), (lambda n: struct.pack("<I", n))
    matrix = "blk.0.attn_q.weight"  # its count of dimensions (4 bytes), 2 sizes, type (4), offset
    return {
        "another version": content[:4] + u32(2) + content[8:],
        "too many tensors": content[:8] + u64(2**60) + content[16:],
        "too many entries": content[:16] + u64(2**60) + content[24:],
        "fewer tensors": content[:8] + u64(19) + content[16:],
        "another architecture": content.replace(b"llama", b"mamba", 1),
        "a vocabulary": said(content, "tokenizer.ggml.model", u64(4) + b"gpt2"),
        "a list": said(content, "llama.block_count", u32(5), kind=9),
        "an unknown entry": content.replace(b"llama.vocab_size", b"llama.vocab_sizf", 1),
        "a text past the end": said(content, "general.name", u64(2**63)),
        "five dimensions": at_tensor(content, matrix, 0, u32(5)),
        "another shape": at_tensor(content, matrix, 4, u64(8)),
        "a size that overflows": at_tensor(content, matrix, 4, u64(2**63)),
        "another type": at_tensor(content, matrix, 20, u32(16)),
        "a crooked offset": at_tensor(content, matrix, 24, u64(1)),
        "an offset past the end": at_tensor(content, matrix, 24, u64(1 << 40)),
        "a tensor twice": content.replace(b"blk.0.attn_k.weight", b"blk.0.attn_q.weight", 1),
        "an unknown tensor": content.replace(b"blk.0.attn_k.weight", b"blk.0.attn_x.weight", 1),
        "nothing behind the header": content[: content.index(b"token_embd") + 100],
        "a byte less": content[:-40],
    }


NAMES = b"llama tokenizer.ggml.model llama.block_count general.name blk.0.attn_q.weight token_embd"


@pytest.mark.parametrize("lie", lies(bytes(30) + NAMES))
def test_a_header_that_lies_is_refused_in_one_line(good, tmp_path, lie):
    content, spec = good
    with pytest.raises(BundleError) as caught:
        check(tmp_path / "g", lies(content)[lie], spec)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.data())
def test_a_header_that_is_cut_or_changed_anywhere_is_refused_or_sound_and_never_a_crash(good, tmp_path_factory, data):
    content, spec = good
    path = tmp_path_factory.mktemp("g") / "g"
    place = data.draw(st.integers(0, 2500))
    changed = bytearray(content)
    changed[place : place + 8] = data.draw(st.binary(min_size=0, max_size=8))
    for each in (bytes(changed), content[:place]):
        try:
            check(path, each, spec)
        except BundleError:
            continue
        assert each != content[:place]
