"""A converted Llama's weights as the device reads them: one `model.safetensors`, laid out for `x @ W`.

As in `export/weights.py`, norm weights before a projection are folded into it; so is the scale of attention into the
queries. Tensors (V vocabulary, D width, H heads, G key-value heads, d head width, F ffn, L levels, K codes, P prompt
tokens), float32 but for `tokens`:
`head` [V, D], whole, because a token's probability needs the logits of all; `norm` [D]; `tokens` int32
[L·K + max(P, 1)], the token of each code, level by level, then the prompt (without one: the token that stands for an
empty history); `embed` [L·K + max(P, 1), D], embeddings in that order, absent where the head is the embedding (row
`tokens[i]` of it); `layers.i.qkv` [D, (H + 2·G)·d]; `layers.i.o` [H·d, D]; `layers.i.gate` and `layers.i.up` [D, F];
`layers.i.down` [F, D], and with biases `layers.i.NAME_bias`; `rope.cos`, `rope.sin` [P + (max_history + 1)·L + 1, d].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.export.llama.index import TokenIndex
from pocketrec.export.llama.read import Array, Llama, rope_tables
from pocketrec.runtime.bundle.bundle import TOKENS_KIND, ModelSpec


def token_spec(
    llama: Llama,
    index: TokenIndex,
    prompt: Sequence[int],
    max_history: int,
    beam: int,
    max_branch: tuple[int, ...],
    quantization: str,
) -> ModelSpec:
    """Describe a converted model for a bundle's manifest."""
    shape = llama.shape
    return ModelSpec(
        kind=TOKENS_KIND, sid_space=index.sid_space, levels=index.levels, codes=index.codes, max_history=max_history,
        beam=beam, max_branch=max_branch, dim=shape.dim, layers=shape.layers, heads=shape.heads,
        kv_heads=shape.kv_heads, head_dim=shape.head_dim, ffn=shape.ffn, decoder_dim=0, pair_dim=0,
        rope_theta=shape.rope_theta, norm_eps=shape.norm_eps, parameters=llama.parameters, vocab=shape.vocab,
        prompt=len(prompt), quantization=quantization,
    )  # fmt: skip


def token_weights(llama: Llama, index: TokenIndex, prompt: Sequence[int], max_history: int) -> dict[str, NDArray[Any]]:
    """Return the tensors of the module's docstring.

    :param prompt: token ids before the history; none: an empty history is read as the model's first token (bos).
    """
    shape = llama.shape
    # generate() does the same when it is given nothing; a model without a first token gets its token 0.
    before = list(prompt) or [shape.bos if isinstance(shape.bos, int) and 0 <= shape.bos < shape.vocab else 0]
    tokens = np.concatenate((index.padded().reshape(-1), np.array(before, np.int32)))
    cos, sin = rope_tables(shape, len(prompt) + (max_history + 1) * index.levels + 1)
    out: dict[str, NDArray[Any]] = {
        "head": llama.head, "norm": llama.tensors["norm.weight"], "tokens": tokens, "rope.cos": cos, "rope.sin": sin,
    }  # fmt: skip
    if not shape.tied:
        out["embed"] = llama.embedding[tokens]
    for layer in range(shape.layers):
        out |= {f"layers.{layer}.{name}": tensor for name, tensor in _layer(llama, f"layers.{layer}").items()}
    return out


def _layer(llama: Llama, name: str) -> dict[str, Array]:
    """One block's matrices, norm weights folded in, and its biases if it has any."""
    t, shape = llama.tensors, llama.shape
    q, k, v, o = (f"{name}.self_attn.{p}_proj" for p in "qkvo")
    gate, up, down = (f"{name}.mlp.{p}_proj" for p in ("gate", "up", "down"))
    joined = {"qkv": [q, k, v], "o": [o], "gate": [gate], "up": [up], "down": [down]}
    norms = {"qkv": "input_layernorm", **dict.fromkeys(("gate", "up"), "post_attention_layernorm")}
    out = {}
    for short, parts in joined.items():
        matrix = np.concatenate([t[f"{part}.weight"] for part in parts]).T
        out[short] = t[f"{name}.{norms[short]}.weight"][:, None] * matrix if short in norms else matrix
        if shape.mlp_bias if ".mlp." in parts[0] else shape.attention_bias:
            out[f"{short}_bias"] = np.concatenate([t[f"{part}.bias"] for part in parts])
    queries = shape.heads * shape.head_dim
    for projection in ("qkv", "qkv_bias"):
        if projection in out:
            out[projection][..., :queries] *= np.float32(shape.head_dim**-0.5)
    return out
