"""Headers of tries and weight files that lie are refused in one short line, before anything is made of them."""

from __future__ import annotations

import json
import struct
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from pocketrec.runtime.bundle.weights import read_weights
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import BundleError, TrieError
from pocketrec.runtime.files.safetensors import MAX_HEADER_BYTES

METADATA = {"format": "pocketrec.trie", "version": "2", "codes_per_level": "8", "sid_space": "s"}
DATA = b"\1\0" + b"\0\1" + b"a"


def entry(kind, shape, begin, end):
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def header(**changes):
    tensors = {"codes": entry("U8", [1, 2], 2, 4), "id_lengths": entry("U16", [1], 0, 2)}
    return {"__metadata__": METADATA, **tensors, "id_bytes": entry("U8", [1], 4, 5), **changes}


def write(path, head, data=DATA):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


TWICE = json.dumps(header()).replace('"id_bytes"', '"codes": {}, "id_bytes"').encode()
LIES = {
    "a length that numpy cannot hold": header(codes=entry("U8", [2**63, 0], 5, 5), id_bytes=entry("U8", [3], 2, 5)),
    "many dimensions": header(codes=entry("U8", [1] * 70 + [2], 2, 4)),
    "a line break in a name": header(**{"a\nb": entry("U8", [1], 4, 9)}),
    "a line break in a type": header(b=entry("U\n8", [0], 5, 5)),
    "a long name": header(**{"a" * 100_000: entry("U8", [0], 5, 5)}),
    "a long format": header(__metadata__={**METADATA, "format": "x" * 100_000}),
    "a long version": header(__metadata__={**METADATA, "version": "x" * 100_000}),
    "a long sid_space": header(__metadata__={**METADATA, "sid_space": "x" * 100_000}),
    "a tensor twice": TWICE,
    "deep nesting": b'{"a":' * 100_000,
    "no object": b"[]",
}


def test_the_header_that_the_lies_vary_is_sound(tmp_path):
    assert ItemTrie.load(write(tmp_path / "t", header())).rows.tolist() == [[0, 1]]


@pytest.mark.parametrize("lie", LIES)
def test_a_trie_whose_header_lies_is_refused_in_one_short_line(tmp_path, lie):
    with pytest.raises(TrieError) as caught:
        ItemTrie.load(write(tmp_path / "t", LIES[lie]))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_header_of_megabytes_is_refused_at_once(tmp_path):
    text = b'{"__metadata__":{' + b",".join(b'"%d":""' % i for i in range(MAX_HEADER_BYTES // 6)) + b"}}"
    begun = time.process_time()
    with pytest.raises(TrieError, match="over the limit"):
        ItemTrie.load(write(tmp_path / "t", text, b""))
    with pytest.raises(BundleError, match="over the limit"):
        read_weights(write(tmp_path / "w", text, b""))
    assert time.process_time() - begun < 0.1


SCALES = {
    "larger than its values": (np.zeros((50_000, 1), np.int8), np.ones((1, 50_000), np.float16), "int8"),
    "of more dimensions": (np.zeros((4,), np.int8), np.ones((2, 4), np.float16), "int8"),
    "of another type": (np.zeros((4, 4), np.int8), np.ones((1, 4), np.float32), "int8"),
    "of int8 values": (np.zeros((4, 4), np.float32), np.ones((1, 4), np.float16), "int8"),
    "one for all of four bits": (np.zeros((4, 4), np.uint8), np.ones((1, 1, 1), np.float16), "int4"),
    "that divides no blocks": (np.zeros((4, 4), np.uint8), np.ones((3, 1, 4), np.float16), "int4"),
}


@pytest.mark.parametrize("which", SCALES)
def test_a_scale_that_does_not_fit_is_refused_before_memory_is_made_for_it(tmp_path, which):
    values, scale, kind = SCALES[which]
    save_file({f"w.{kind}": values, "w.scale": scale}, tmp_path / "w")
    with pytest.raises(BundleError, match="the scale of 'w' does not fit"):
        read_weights(tmp_path / "w")
