"""Llama blocks as the device reads them: one layout, for our student and for converted models alike.

A bundle's one `model.safetensors` is laid out for `x @ W`; the ONNX graphs refer to it, the numpy and native engines
read it. Norm weights before a projection are folded into it (they are diagonal), and the scale of attention, d^-½, is
folded into the queries; the last norm is kept apart, since the hidden state behind it is public. Tensors (D width, H
heads, G key-value heads, d head width, F feed-forward), float32, though `export.quantize` may store them as less:

    layers.i.qkv         [D, (H + 2·G)·d]   all queries, then all keys, then all values
    layers.i.o           [H·d, D]
    layers.i.gate_up     [D, 2·F]           the gate projection, then the up projection
    layers.i.down        [F, D]
    norm                 [D]
    rope.cos, rope.sin   [positions, d]     `runtime.bundle.weights.positions` has their number

A projection with a bias has it as `layers.i.NAME_bias`. Where layers share one block, it is `layers.0`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_PROJECTIONS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_NORMS = {"qkv": "input_layernorm", "gate_up": "post_attention_layernorm"}


def llama_tensors(
    weights: Mapping[str, Array], blocks: int, heads: int, head_dim: int, rope: tuple[Array, Array]
) -> dict[str, Array]:
    """Return the tensors of the module's docstring.

    :param weights: by their names in transformers, without a prefix: `layers.0.self_attn.q_proj.weight`, `norm.weight`.
    :param blocks: blocks with weights of their own.
    :param rope: cosines and sines, [positions, d] each.
    """
    out = {"norm": weights["norm.weight"], "rope.cos": rope[0], "rope.sin": rope[1]}
    for number in range(blocks):
        block = _block(weights, f"layers.{number}", heads * head_dim, np.float32(head_dim**-0.5))
        out |= {f"layers.{number}.{name}": tensor for name, tensor in block.items()}
    return out


def _block(weights: Mapping[str, Array], block: str, queries: int, scale: np.float32) -> dict[str, Array]:
    """One block's matrices, norm weights and scale folded in, and its biases if it has any."""
    out = {}
    for name, parts in _PROJECTIONS.items():
        matrix = np.concatenate([weights[f"{block}.{part}.weight"] for part in parts]).T
        out[name] = weights[f"{block}.{_NORMS[name]}.weight"][:, None] * matrix if name in _NORMS else matrix
        if f"{block}.{parts[0]}.bias" in weights:
            out[f"{name}_bias"] = np.concatenate([weights[f"{block}.{part}.bias"] for part in parts])
    for name in ("qkv", "qkv_bias"):
        if name in out:
            out[name][..., :queries] *= scale
    return out
