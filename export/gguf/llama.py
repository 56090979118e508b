"""A causal Llama trained elsewhere to a GGUF that llama.cpp runs, with its item index beside it.

The folder holds `model.gguf` (architecture "llama", no vocabulary: llama.cpp is given ids and must not be asked to
tokenise) and `index.json`: {"prompt": token ids before every history, "items": {item id: token ids}}. The search over
the items is the host's; a bundle (`export/llama/convert.py`) has it inside.

llama.cpp turns neighbouring numbers of a head together where transformers turns the two halves, so the rows of the
query and key projections are put in that order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.export.llama.read import Llama, LlamaShape, rope_factors
from pocketrec.export.llama.source import read_source
from pocketrec.runtime.errors import ConfigError, MissingExtraError
from pocketrec.runtime.files.atomic import atomic_folder, atomic_write_text

MODEL, INDEX = "model.gguf", "index.json"
SCHEMES = ("none", "f16", "q8_0")  # of `export.gguf`, those that need no llama.cpp
_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
_OUTER = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}


def convert_llama_gguf(
    directory: Path, index: Path, out: Path, *, prompt: str | Sequence[int] = "", quantize: str = "none"
) -> dict[str, Any]:
    """Convert a `LlamaForCausalLM` directory to a folder with a GGUF; an older folder is replaced.

    :param directory: as for `convert_llama`; so are `index` and `prompt`.
    :param out: the folder.
    :param quantize: type of the matrices, "none" (float32), "f16" or "q8_0" (rows that are no multiple of 32 stay f16).
    :returns: {"gguf": path, "items": n, "parameters": n, "bytes": n}.
    :raises ConfigError, DataError: as `read_source`, and on an unknown type.
    :raises MissingExtraError: without the gguf package.
    """
    if quantize not in SCHEMES:
        raise ConfigError(f"a GGUF of type {quantize!r} cannot be converted; choose one of {', '.join(SCHEMES)}")
    source = read_source(directory, index, prompt)
    items = dict(zip(source.index.item_ids, source.index.item_tokens().tolist(), strict=True))
    content = json.dumps({"prompt": list(source.prompt), "items": items}, ensure_ascii=False)
    with atomic_folder(out) as folder:
        write_gguf(source.llama, folder / MODEL, quantize)
        atomic_write_text(folder / INDEX, content)
    size = (out / MODEL).stat().st_size
    return {"gguf": str(out / MODEL), "items": len(items), "parameters": source.llama.parameters, "bytes": size}


def write_gguf(llama: Llama, path: Path, scheme: str) -> None:
    """Write a model as GGUF, without a vocabulary.

    :param scheme: one of `SCHEMES`.
    :raises MissingExtraError: without the gguf package.
    """
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "writing a GGUF needs the gguf package; run: pip install 'pocketrec[teacher]'"
        ) from error
    writer: Any = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, gguf, llama.shape, scheme)
    for name, tensor in _tensors(llama):
        kind = _type_of(gguf, tensor, scheme)
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: Any, gguf: Any, shape: LlamaShape, scheme: str) -> None:
    writer.add_name("converted")
    writer.add_context_length(shape.positions)
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
    writer.add_vocab_size(shape.vocab)
    types = {"none": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[types[scheme]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_tokenizer_model("no_vocab")
    if shape.rope_scaling["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(shape.rope_scaling["factor"]))


def _tensors(llama: Llama) -> list[tuple[str, NDArray[np.float32]]]:
    """Names and values as llama.cpp has them; it takes the embedding for the head where there is none."""
    shape, out = llama.shape, []
    for name, tensor in llama.tensors.items():
        stem, _, kind = name.rpartition(".")
        if stem in _OUTER:
            out.append((f"{_OUTER[stem]}.{kind}", tensor))
            continue
        _, layer, part = stem.split(".", 2)
        if part in ("self_attn.q_proj", "self_attn.k_proj"):
            tensor = _neighbours(tensor, shape.heads if part == "self_attn.q_proj" else shape.kv_heads)
        out.append((f"blk.{layer}.{_NAMES[part]}.{kind}", tensor))
    if shape.rope_scaling["rope_type"] == "llama3":
        out.append(("rope_freqs.weight", rope_factors(shape)))
    return out


def _neighbours(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of every head, from halves (0 … d/2, d/2 … d) to neighbours (0, d/2, 1, d/2 + 1, …)."""
    halves = tensor.reshape(heads, 2, -1, *tensor.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(tensor.shape))


def _type_of(gguf: Any, tensor: NDArray[np.float32], scheme: str) -> Any:
    types = gguf.GGMLQuantizationType
    if tensor.ndim == 1 or scheme == "none":
        return types.F32
    return types.Q8_0 if scheme == "q8_0" and tensor.shape[1] % 32 == 0 else types.F16
