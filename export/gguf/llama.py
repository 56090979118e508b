"""A causal Llama trained elsewhere to a GGUF that llama.cpp runs, with its item index beside it.

The folder holds `model.gguf` (architecture "llama", no vocabulary: llama.cpp reads token ids and must not be asked to
tokenise) and `index.json`: {"prompt": token ids before every history, "items": {item id: token ids}}. The host must
search over the items itself; a bundle (`export/llama/convert.py`) has the search inside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.export.gguf.layout import BLOCK_NAMES, add_shape, finish, import_gguf, in_llama_cpp_order
from pocketrec.export.llama.read import Llama, rope_factors
from pocketrec.export.llama.source import read_source
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.files.atomic import atomic_folder, atomic_write_text

MODEL, INDEX = "model.gguf", "index.json"
SCHEMES = ("none", "f16", "q8_0")  # the schemes of `export.gguf.student` that do not need llama.cpp
_BLOCK = {ours: theirs for theirs, ours in BLOCK_NAMES.items()}
_OUTER = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
_FILE_TYPES = {"none": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}


def convert_llama_gguf(
    directory: Path, index: Path, out: Path, *, prompt: str | Sequence[int] = "", quantize: str = "none"
) -> dict[str, Any]:
    """Convert a `LlamaForCausalLM` directory to a folder with a GGUF; an older folder is replaced.

    :param directory: as for `convert_llama`; so are `index` and `prompt`.
    :param out: the folder.
    :param quantize: type of the matrices: "none" (float32), "f16" or "q8_0" (f16 where rows are not a multiple of 32).
    :returns: {"gguf": path, "items": n, "parameters": n, "bytes": n}.
    :raises ConfigError: as `read_source`, and on an unknown type.
    :raises DataError: as `read_source`.
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
    gguf, shape = import_gguf(), llama.shape
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("converted")
    add_shape(writer, shape, shape.positions)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[scheme]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_tokenizer_model("no_vocab")
    if shape.rope_scaling["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(shape.rope_scaling["factor"]))
    for name, tensor in _tensors(llama):
        kind = _type_of(gguf, tensor, scheme)
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    finish(writer)


def _tensors(llama: Llama) -> list[tuple[str, NDArray[np.float32]]]:
    """Names and values as llama.cpp expects them; without a head it uses the embedding."""
    shape, out = llama.shape, []
    for name, tensor in llama.tensors.items():
        stem, _, kind = name.rpartition(".")
        if stem in _OUTER:
            out.append((f"{_OUTER[stem]}.{kind}", tensor))
            continue
        _, layer, module = stem.split(".", 2)
        theirs = _BLOCK[module]
        tensor = in_llama_cpp_order(tensor, theirs, shape.heads, shape.kv_heads)
        out.append((f"blk.{layer}.{theirs}.{kind}", tensor))
    if shape.rope_scaling["rope_type"] == "llama3":
        out.append(("rope_freqs.weight", rope_factors(shape)))
    return out


def _type_of(gguf: Any, tensor: NDArray[np.float32], scheme: str) -> Any:
    types = gguf.GGMLQuantizationType
    if tensor.ndim == 1 or scheme == "none":
        return types.F32
    return types.Q8_0 if scheme == "q8_0" and tensor.shape[1] % 32 == 0 else types.F16
