"""A peer of `pocketrec bench`: a flattened Llama as an ONNX graph with a cache, with the beam search in Python.

The common way to run such a model: one graph reads the history, another reads a token per beam, and the host keeps the
beams, masks tokens that no item continues with, and copies keys and values to the surviving beams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import WEIGHTS_FILE, open_bundle
from pocketrec.runtime.bundle.weights import read_weights

Item = tuple[int, ...]


def onnx_loop(
    folder: Path, items: Mapping[str, Item], children: Mapping[Item, Sequence[int]], beam: int, k: int
) -> Callable[[Sequence[str]], list[str]]:
    """Beam search in Python over a converted Llama's bundle.

    :param folder: the bundle, made by `convert_llama`, with the `step.onnx` of `export.onnx_step` beside it.
    :param items: item id → its codes.
    :param children: prefix of codes → the codes that may follow it.
    :param beam: beam width.
    :param k: number of items to recommend.
    """
    spec = open_bundle(folder).manifest.model
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    encoder, step = (
        ort.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
        for name in ("encoder", "step")
    )
    weights = read_weights(folder / WEIGHTS_FILE)
    head, tokens = weights["head"], weights["tokens"]
    item_of = {codes: item_id for item_id, codes in items.items()}
    nothing = np.zeros((spec.layers, 2, spec.kv_heads, 0, spec.head_dim), np.float32)

    def recommend(history: Sequence[str]) -> list[str]:
        read = np.array([items[item_id] for item_id in history], np.int32)
        hidden, present = encoder.run(["hidden", "present"], {"history": read, "past": nothing})
        logits, past = hidden @ head.T, present[:, :, None]
        beams: list[tuple[Item, float]] = [((), 0.0)]
        for level in range(spec.levels):
            of_level = tokens[level * spec.codes : (level + 1) * spec.codes]
            log_p = _log_softmax(logits)[:, of_level]
            found = [
                (score + float(log_p[row, code]), row, (*prefix, code))
                for row, (prefix, score) in enumerate(beams)
                for code in children[prefix]
            ]
            found.sort(key=lambda candidate: -candidate[0])
            best = found[:beam]
            beams = [(prefix, score) for score, _, prefix in best]
            if level + 1 < spec.levels:
                past = past[:, :, [row for _, row, _ in best]]
                places = np.array([level * spec.codes + prefix[-1] for prefix, _ in beams], np.int32)
                logits, past = step.run(["logits", "present"], {"places": places, "past": past})
        return [item_of[prefix] for prefix, _ in beams[:k]]

    return recommend


def _log_softmax(x: NDArray[np.float32]) -> NDArray[Any]:
    shifted = x - x.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
