"""The search in a graph finds what the numpy search finds, whatever the log-probabilities."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.export.onnx.graph import FLOAT, Graph, WeightFile, value
from pocketrec.export.onnx.search import add_search, bias_input, search_inputs, search_outputs
from pocketrec.export.quantize import save_weights
from pocketrec.export.weights import model_spec
from pocketrec.runtime.catalogue.beam import beam_search
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.control import node_bias
from tiny import CODES, LEVELS, SPACE, random_rows, tiny_student


class TableScorer:
    """Log-probabilities out of an input table [L, K, K], by level and the code before."""

    def __init__(self, g):
        self.g, self.code = g, ""

    def log_probs(self, level):
        table = self.g("Gather", "table", self.g.const(level, np.int64), axis=0)
        return self.g("Gather", table, self.code if level else self.g.const([0], np.int64), axis=0)

    def keep(self, code, parent):
        self.code = code


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    weights = tmp_path_factory.mktemp("w") / "w.safetensors"
    save_weights({"norm": np.ones(1, np.float32)}, weights, "none")
    g = Graph(WeightFile(weights))
    spec = dataclasses.replace(model_spec(tiny_student(), SPACE, 4, (CODES,) * LEVELS))
    add_search(g, spec, TableScorer(g), biased=True)
    inputs = [value("table", FLOAT, [LEVELS, CODES, CODES]), *search_inputs(spec), bias_input()]
    content = g.model("search", inputs, search_outputs()).SerializeToString()
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"])


@given(
    seed=st.integers(0, 999), items=st.integers(1, 300), beam=st.integers(1, 40), out=st.integers(0, 5),
    biased=st.booleans(), ties=st.booleans(),
)  # fmt: skip
@settings(max_examples=60)
def test_it_finds_what_the_numpy_search_finds(session, seed, items, beam, out, biased, ties):
    generator = np.random.default_rng(seed)
    logits = (
        generator.integers(0, 2, (LEVELS, CODES, CODES)) if ties else generator.normal(0, 2, (LEVELS, CODES, CODES))
    )
    table = (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)
    trie = ItemTrie.from_rows(
        random_rows(items, seed), [str(i) for i in range(items)], codes_per_level=CODES, sid_space=SPACE
    )
    exclude = np.sort(generator.choice(items, min(out, items), replace=False)).astype(np.int32)
    bias = node_bias(trie, generator.normal(0, 3, items).astype(np.float32)) if biased else None

    def score(level, _, prefixes):
        return table[level][prefixes[..., -1] if level else np.zeros(prefixes.shape[:2], np.int64)]

    expected = beam_search(np.zeros((1, 1), np.float32), score, trie, beam, exclude[None], bias)
    rows, scores = session.run(
        None,
        {
            "table": table, "first_child": trie.first_child, "codes": trie.codes, "exclude": exclude,
            "beam": np.array([beam]), "bias": np.zeros(1, np.float32) if bias is None else bias,
        },
    )  # fmt: skip
    found = np.isfinite(scores)
    assert rows[found].tolist() == [row for row in expected.rows[0].tolist() if row >= 0]
    np.testing.assert_allclose(scores[found], expected.scores[0][: found.sum()], atol=1e-4)
