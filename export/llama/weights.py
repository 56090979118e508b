"""A converted Llama's weights as the device reads them: `model.safetensors`.

Beside the blocks of `export/blocks.py`, float32 but for `tokens`, though `export.quantize` may store them as less (V
vocabulary, D width, L levels, K codes, P prompt tokens):

    head     [V, D]                  all of it, because a token's probability needs the logits of all tokens
    tokens   [L·K + max(P, 1)]       int32: the token of each code, level by level, then the prompt (without one: the
                                     token that stands for an empty history)
    embed    [L·K + max(P, 1), D]    embeddings of these tokens; absent where the head is the embedding, whose rows
                                     `tokens` then numbers
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.export.blocks import llama_tensors
from pocketrec.export.bundle import BundleSettings
from pocketrec.export.llama.read import rope_tables
from pocketrec.export.llama.source import Source
from pocketrec.runtime.bundle.bundle import TOKENS_KIND, ModelSpec


def token_spec(source: Source, max_history: int, settings: BundleSettings, max_branch: tuple[int, ...]) -> ModelSpec:
    """Describe a converted model for a bundle's manifest."""
    shape, index = source.llama.shape, source.index
    return ModelSpec(
        kind=TOKENS_KIND, sid_space=index.sid_space, levels=index.levels, codes=index.codes, max_history=max_history,
        beam=settings.beam, max_branch=max_branch, dim=shape.dim, layers=shape.layers, heads=shape.heads,
        kv_heads=shape.kv_heads, head_dim=shape.head_dim, ffn=shape.ffn, decoder_dim=0, pair_dim=0,
        rope_theta=shape.rope_theta, norm_eps=shape.norm_eps, parameters=source.llama.parameters, vocab=shape.vocab,
        prompt=len(source.prompt), quantization=settings.quantize,
    )  # fmt: skip


def token_weights(source: Source, max_history: int) -> dict[str, NDArray[Any]]:
    """Return the tensors of the module's docstring, the blocks included."""
    llama, index, shape = source.llama, source.index, source.llama.shape
    # Without a prompt, an empty history is read as the model's first token (bos), as generate() does when it is given
    # nothing; a model without a first token gets its token 0.
    bos = shape.bos if isinstance(shape.bos, int) and 0 <= shape.bos < shape.vocab else 0
    tokens = np.concatenate((index.padded().reshape(-1), np.array(source.prompt or [bos], np.int32)))
    rope = rope_tables(shape, len(source.prompt) + (max_history + 1) * index.levels + 1)
    blocks = llama_tensors(llama.tensors, shape.layers, shape.heads, shape.head_dim, rope)
    out: dict[str, NDArray[Any]] = {**blocks, "head": llama.head, "tokens": tokens}
    if not shape.tied:
        out["embed"] = llama.embedding[tokens]
    return out
