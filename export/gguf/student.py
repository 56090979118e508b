"""The student as GGUF: `encoder.gguf`, the backbone as llama.cpp's arch `llama`, and `decoder.safetensors` beside it.

The GGUF has no vocabulary: histories go in as embeddings, the hidden state behind the last norm comes out. llama.cpp
requires a token table all the same; its one row is the start token. The SID decoder and the pair table are in
`decoder.safetensors`, tensors as in `export.weights`, and the search is the numpy reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.models.student import Student
from pocketrec.export.gguf.layout import BLOCK_NAMES, add_shape, finish, import_gguf, in_llama_cpp_order
from pocketrec.export.quantize import save_weights
from pocketrec.export.weights import device_weights
from pocketrec.runtime.bundle.bundle import ModelSpec
from pocketrec.runtime.engines.gguf import BACKBONE, DECODER, IN_BACKBONE
from pocketrec.runtime.errors import ExportError
from pocketrec.runtime.files.atomic import atomic_file


@dataclass(frozen=True)
class GgufScheme:
    """How the matrices of the backbone and of the decoder are stored.

    stores: a description for people. decoder: a name of `export.quantize.SCHEMES`. ggml: type of the backbone's
    matrices. ftype: llama.cpp's LLAMA_FTYPE_MOSTLY_…, where its own quantiser must convert the backbone.
    """

    stores: str
    decoder: str
    ggml: str = "F32"
    ftype: int | None = None


SCHEMES: dict[str, GgufScheme] = {
    "none": GgufScheme("float32", decoder="none"),
    "f16": GgufScheme("float16", decoder="fp16", ggml="F16"),
    "q8_0": GgufScheme("8 bits, a scale per block of 32", decoder="int8", ggml="Q8_0"),
    "q4_0": GgufScheme("4 bits, a scale per block of 32", decoder="int4", ggml="Q4_0"),
    "q6_k": GgufScheme("K-quant of 6 bits, where widths are multiples of 256", decoder="int8", ftype=18),
    "q4_k": GgufScheme("K-quant of 4 bits, where widths are multiples of 256", decoder="int4", ftype=15),
}


def write_gguf(student: Student, spec: ModelSpec, folder: Path, scheme: str = "none") -> dict[str, str]:
    """Write `encoder.gguf` and `decoder.safetensors` into a folder.

    :param scheme: a name of `SCHEMES`. A matrix whose rows are not whole blocks is stored as float16 (K-quants:
        as llama.cpp decides); `gguf_tensor_types` lists the types.
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
    """Return (name, type, shape, bytes) of every tensor in a GGUF file, types by ggml's names."""
    reader = import_gguf().GGUFReader(path)
    return [
        (t.name, t.tensor_type.name, tuple(int(n) for n in reversed(t.shape)), int(t.n_bytes)) for t in reader.tensors
    ]


def _write_backbone(student: Student, spec: ModelSpec, path: Path, scheme: GgufScheme) -> None:
    writer = import_gguf().GGUFWriter(path, "llama")
    writer.add_name("pocketrec")
    writer.add_vocab_size(1)
    writer.add_tokenizer_model("none")
    add_shape(writer, spec, spec.max_history + 1)
    for name, array in _tensors(student, spec).items():
        _add(writer, name, array, scheme)
    finish(writer)


def _add(writer: Any, name: str, array: NDArray[np.float32], scheme: GgufScheme) -> None:
    """Add a tensor: norms and the token table in float32, matrices in the scheme's type where their width allows."""
    gguf = import_gguf()
    kinds = gguf.GGMLQuantizationType
    kind = kinds[scheme.ggml]
    if kind == kinds.F32 or array.ndim == 1 or name.startswith("token_embd"):
        writer.add_tensor(name, array)
        return
    if array.shape[1] % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = kinds.F16
    writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)


def _tensors(student: Student, spec: ModelSpec) -> dict[str, NDArray[np.float32]]:
    """The backbone's weights by llama.cpp's names, [out, in]."""
    w = {n: np.ascontiguousarray(t.detach().float().cpu().numpy()) for n, t in student.state_dict().items()}
    out = {"token_embd.weight": w["start"][None], "output_norm.weight": w["backbone.norm.weight"]}
    for number in range(spec.layers):
        block = f"backbone.layers.{spec.block(number)}"  # llama.cpp shares no blocks, so shared ones are repeated
        for theirs, ours in BLOCK_NAMES.items():
            array = in_llama_cpp_order(w[f"{block}.{ours}.weight"], theirs, spec.heads, spec.kv_heads)
            out[f"blk.{number}.{theirs}.weight"] = array
    return out


def _requantize(source: Path, target: Path, ftype: int) -> None:
    from pocketrec.runtime.engines.gguf import load_llama_cpp

    llama = load_llama_cpp()
    settings = llama.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = ftype, 1
    failed = llama.llama_model_quantize(str(source).encode(), str(target).encode(), settings)
    if failed:
        raise ExportError(f"llama.cpp could not quantise {source.name} (code {failed}); choose q8_0 or q4_0 instead")
