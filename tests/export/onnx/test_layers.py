"""The blocks in a graph: a history read in pieces, through the cache, is a history read at once."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.engines.registry import load_engine
from tiny import CODES, LEVELS


@pytest.mark.parametrize("steps", [(1, 1, 1, 1), (3, 2, 1), (0, 4, 2), (6,)])
def test_reading_a_history_in_pieces_gives_the_hidden_state_of_reading_it_at_once(folder, steps):
    bundle = open_bundle(folder)
    spec = bundle.manifest.model
    if spec.kind == "llama-tokens" and not spec.prompt:
        steps = tuple(step for step in steps if step)  # the cache of the start token must not be continued
    encoder = ort.InferenceSession(str(folder / "encoder.onnx"), providers=["CPUExecutionProvider"])
    past = np.zeros((spec.layers, 2, spec.kv_heads, 0, spec.head_dim), np.float32)
    history = np.random.default_rng(0).integers(0, CODES, (sum(steps), LEVELS)).astype(np.int32)
    whole, whole_cache = encoder.run(None, {"history": history, "past": past})
    done = 0
    for step in steps:
        hidden, past = encoder.run(None, {"history": history[done : done + step], "past": past})
        done += step
    np.testing.assert_allclose(hidden, whole, atol=1e-5)
    np.testing.assert_allclose(past, whole_cache, atol=1e-5)
    tokens = spec.prompt + LEVELS * len(history) if spec.kind == "llama-tokens" else 1 + len(history)
    assert past.shape[3] == tokens
    rows = load_engine("onnx-split", bundle).search(history, bundle.load_trie(), np.empty(0, np.int32), 5)[0]
    assert rows.tolist() == search(folder, hidden, past, bundle.load_trie())


def search(folder, hidden, present, trie):
    """Leaf rows that `search.onnx` finds after what was read in pieces."""
    session = ort.InferenceSession(str(folder / "search.onnx"), providers=["CPUExecutionProvider"])
    feed = {
        "hidden": hidden, "present": present, "first_child": trie.first_child, "codes": trie.codes,
        "exclude": np.empty(0, np.int32), "beam": np.array([5]), "bias": np.zeros(1, np.float32),
    }  # fmt: skip
    known = {entry.name for entry in session.get_inputs()}
    return session.run(None, {name: array for name, array in feed.items() if name in known})[0].tolist()
