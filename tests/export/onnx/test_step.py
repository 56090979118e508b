"""The step graph: a token per beam, each with its own cache, gives transformers' logits."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from pocketrec.export.onnx.step import step_graph
from pocketrec.runtime.bundle.bundle import WEIGHTS_FILE
from tiny import CODES, random_rows
from tiny_llama import BOS, tiny_conversion, tiny_source, tokens_of


@pytest.mark.parametrize("heads", [{}, {"num_attention_heads": 4, "num_key_value_heads": 2}])
def test_a_step_of_several_beams_gives_the_logits_of_transformers(tmp_path, heads):
    model, _, _ = tiny_source(tmp_path, **heads)
    spec = tiny_conversion(tmp_path, prompt=[BOS]).model
    bundle = tmp_path / "bundle"
    (bundle / "step.onnx").write_bytes(step_graph(spec, bundle / WEIGHTS_FILE))
    encoder, step = (
        ort.InferenceSession(str(bundle / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        for name in ("encoder", "step")
    )
    history, beams = random_rows(3, seed=5).astype(np.int32) % spec.codes, np.array([[1, 4], [6, 0], [2, 2]])
    empty = np.zeros((spec.layers, 2, spec.kv_heads, 0, spec.head_dim), np.float32)
    past = encoder.run(["present"], {"history": history, "past": empty})[0][:, :, None].repeat(len(beams), axis=2)
    for level in (0, 1):
        places = (beams[:, level] + level * spec.codes).astype(np.int32)
        logits, past = step.run(["logits", "present"], {"places": places, "past": past})
    read = [BOS, *tokens_of(history).reshape(-1).tolist()]
    own = tokens_of(np.pad(beams, ((0, 0), (0, 1))))[:, :2]
    with torch.no_grad():
        expected = model(torch.tensor([[*read, *tokens] for tokens in own.tolist()])).logits[:, -1].numpy()
    assert spec.codes == CODES
    np.testing.assert_allclose(logits, expected, atol=1e-4)
