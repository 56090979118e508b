"""The parts that every GGUF of architecture "llama" has: llama.cpp's names, its row order, and the shape's entries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.export.llama.read import LlamaShape
from pocketrec.runtime.bundle.bundle import ModelSpec
from pocketrec.runtime.errors import MissingExtraError

# llama.cpp's name of each tensor of a block → its name in transformers
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def import_gguf() -> Any:
    """Import the gguf package.

    :raises MissingExtraError: if it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError("writing GGUF files needs gguf; run `pip install 'pocketrec[gguf]'`") from error
    return gguf


def add_shape(writer: Any, shape: ModelSpec | LlamaShape, context: int) -> None:
    """Add the entries that tell a Llama's shape.

    :param writer: a `gguf.GGUFWriter`.
    :param context: tokens of the longest sequence.
    """
    writer.add_context_length(context)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)


def finish(writer: Any) -> None:
    """Write the file and close it."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def in_llama_cpp_order(tensor: NDArray[np.float32], name: str, heads: int, kv_heads: int) -> NDArray[np.float32]:
    """Return a tensor of a block with its rows as llama.cpp expects them.

    RoPE in llama.cpp rotates neighbouring numbers of a head, where transformers rotates one half against the other. So
    the rows of queries and keys change from halves (0 … d/2, d/2 … d) to neighbours (0, d/2, 1, d/2 + 1, …); a file
    without that loads without an error and is wrong.

    :param tensor: a weight [out, in] or a bias [out], as in transformers.
    :param name: llama.cpp's name of it in a block.
    """
    if name not in ("attn_q", "attn_k"):
        return tensor
    halves = tensor.reshape(heads if name == "attn_q" else kv_heads, 2, -1, *tensor.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(tensor.shape))
