"""The student as GGUF: `encoder.gguf`, the backbone as llama.cpp's arch `llama`, and `decoder.safetensors` beside it.

The file has no vocabulary: histories go in as embeddings, the hidden state behind the last norm comes out. llama.cpp
wants a word table all the same; its one row is the start token. What the device does with h (SID decoder, pair table)
is in `decoder.safetensors`, tensors as in `export.weights`, and the search is the numpy reference.

llama.cpp turns neighbouring values of a head by RoPE where transformers turns its halves, so the rows of q and k are
reordered; a file without that loads in silence and is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.models.student import Student
from pocketrec.export.quantize import save_weights
from pocketrec.export.weights import device_weights
from pocketrec.runtime.bundle.bundle import ModelSpec
from pocketrec.runtime.engines.gguf import BACKBONE, DECODER, IN_BACKBONE
from pocketrec.runtime.errors import ExportError, MissingExtraError
from pocketrec.runtime.files.atomic import atomic_file

if TYPE_CHECKING:
    from gguf import GGUFWriter


@dataclass(frozen=True)
class GgufScheme:
    """How the backbone's matrices and the decoder's are stored: as a type of ggml, or by llama.cpp's own quantiser."""

    does: str
    decoder: str  # a name of `export.quantize.SCHEMES`
    ggml: str = "F32"
    ftype: int | None = None  # llama.cpp's LLAMA_FTYPE_MOSTLY_…, where its quantiser must do it


SCHEMES: dict[str, GgufScheme] = {
    "none": GgufScheme("float32", "none"),
    "f16": GgufScheme("float16", "fp16", "F16"),
    "q8_0": GgufScheme("8 bits, a scale per block of 32", "int8", "Q8_0"),
    "q4_0": GgufScheme("4 bits, a scale per block of 32", "int4", "Q4_0"),
    "q6_k": GgufScheme("K-quant of 6 bits, where widths are multiples of 256", "int8", ftype=18),
    "q4_k": GgufScheme("K-quant of 4 bits, where widths are multiples of 256", "int4", ftype=15),
}


def write_gguf(student: Student, spec: ModelSpec, folder: Path, scheme: str = "none") -> dict[str, str]:
    """Write `encoder.gguf` and `decoder.safetensors` into a folder.

    :param scheme: a name of `SCHEMES`. A matrix whose width does not divide keeps float16 (K-quants: what llama.cpp
        falls back to); `gguf_tensor_types` tells.
    :returns: role → file name, for the manifest's graphs.
    :raises MissingExtraError: if gguf, or for K-quants llama-cpp-python, is not installed.
    """
    chosen = SCHEMES[scheme]
    with atomic_file(folder / BACKBONE) as path:
        if chosen.ftype is None:
            _write_backbone(student, spec, path, chosen)
        else:
            whole = path.with_suffix(".float32")
            _write_backbone(student, spec, whole, chosen)
            _requantize(whole, path, chosen.ftype)
            whole.unlink()
    weights = {name: array for name, array in device_weights(student).items() if not name.startswith(IN_BACKBONE)}
    save_weights(weights, folder / DECODER, chosen.decoder)
    return {"backbone": BACKBONE, "decoder": DECODER}


def gguf_tensor_types(path: Path) -> list[tuple[str, str, tuple[int, ...], int]]:
    """Read what a GGUF really holds: (name, type, shape, bytes) of every tensor, as ggml names types."""
    reader = _gguf().GGUFReader(path)
    return [
        (t.name, t.tensor_type.name, tuple(int(n) for n in reversed(t.shape)), int(t.n_bytes)) for t in reader.tensors
    ]


def _write_backbone(student: Student, spec: ModelSpec, path: Path, scheme: GgufScheme) -> None:
    writer: GGUFWriter = _gguf().GGUFWriter(path, "llama")
    writer.add_name("pocketrec")
    writer.add_vocab_size(1)
    writer.add_tokenizer_model("none")
    writer.add_context_length(spec.max_history + 1)
    writer.add_embedding_length(spec.dim)
    writer.add_block_count(spec.layers)
    writer.add_feed_forward_length(spec.ffn)
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_rope_freq_base(spec.rope_theta)
    writer.add_layer_norm_rms_eps(spec.norm_eps)
    for name, array in _tensors(student, spec).items():
        _add(writer, name, array, scheme)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: GGUFWriter, name: str, array: NDArray[np.float32], scheme: GgufScheme) -> None:
    """Add a tensor: norms and the word table in float32, matrices in the scheme's type where their width allows."""
    kinds = _gguf().GGMLQuantizationType
    kind = kinds[scheme.ggml]
    if kind == kinds.F32 or array.ndim == 1 or name.startswith("token_embd"):
        writer.add_tensor(name, array)
        return
    block = _gguf().GGML_QUANT_SIZES[kind][0]
    if array.shape[1] % block:
        kind = kinds.F16
    writer.add_tensor(name, _gguf().quants.quantize(array, kind), raw_dtype=kind)


def _tensors(student: Student, spec: ModelSpec) -> dict[str, NDArray[np.float32]]:
    """The backbone's weights by llama.cpp's names, [out, in]."""
    w = {n: np.ascontiguousarray(t.detach().float().cpu().numpy()) for n, t in student.state_dict().items()}
    out = {"token_embd.weight": w["start"][None], "output_norm.weight": w["backbone.norm.weight"]}
    for number in range(spec.layers):
        mine, theirs = f"backbone.layers.{spec.block(number)}", f"blk.{number}"  # llama.cpp shares no blocks
        out |= {
            f"{theirs}.attn_norm.weight": w[f"{mine}.input_layernorm.weight"],
            f"{theirs}.attn_q.weight": _interleaved(w[f"{mine}.self_attn.q_proj.weight"], spec.heads),
            f"{theirs}.attn_k.weight": _interleaved(w[f"{mine}.self_attn.k_proj.weight"], spec.kv_heads),
            f"{theirs}.attn_v.weight": w[f"{mine}.self_attn.v_proj.weight"],
            f"{theirs}.attn_output.weight": w[f"{mine}.self_attn.o_proj.weight"],
            f"{theirs}.ffn_norm.weight": w[f"{mine}.post_attention_layernorm.weight"],
            f"{theirs}.ffn_gate.weight": w[f"{mine}.mlp.gate_proj.weight"],
            f"{theirs}.ffn_up.weight": w[f"{mine}.mlp.up_proj.weight"],
            f"{theirs}.ffn_down.weight": w[f"{mine}.mlp.down_proj.weight"],
        }
    return out


def _interleaved(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder the rows of every head from halves (0 … d/2, d/2 …) to pairs (0, d/2, 1, d/2 + 1 …): [H·d, D]."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def _requantize(source: Path, target: Path, ftype: int) -> None:
    from pocketrec.runtime.engines.gguf import load_llama_cpp

    llama = load_llama_cpp()
    settings = llama.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = ftype, 1
    failed = llama.llama_model_quantize(str(source).encode(), str(target).encode(), settings)
    if failed:
        raise ExportError(f"llama.cpp could not quantise {source.name} (code {failed}); choose q8_0 or q4_0 instead")


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError("GGUF files need gguf; run `pip install 'pocketrec[gguf]'`") from error
    return gguf
