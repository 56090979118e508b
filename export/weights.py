"""The student's weights as the device reads them: one `model.safetensors`, laid out for `x @ W`.

The ONNX graphs refer to this file, and the numpy reference reads it, so a bundle holds every weight once. Norm
weights before a projection are folded into it (they are diagonal); the last norm is not, since h is public.

Tensors (D width, H heads, G key-value heads, d head width, F ffn, M decoder width, K codes, L levels, R pairs, P width
of the pair table), float32 but for `pair.keys`; `export.quantize` may store them as less:
`start` [1, D]; `embed.l` [K, D]; `layers.i.q` [D, H·d]; `layers.i.kv` [D, 2·G·d]; `layers.i.o` [H·d, D];
`layers.i.gate_up` [D, 2·F]; `layers.i.down` [F, D]; `norm` [D]; `rope.cos`, `rope.sin` [max_history + 1, d];
`decoder.hidden` [D, L·M]; `decoder.bias` [L·M]; `decoder.l.prefix` [D, M] (l ≥ 1); `decoder.l.out` [M, K];
`decoder.l.out_bias` [K]. With a pair table: `pair.keys` uint16 or int32 [R], rising, c1·K + c2 of the pairs that rows
1 to R of `pair.table` [1 + R, P] are for (row 0, zeros, is for all others); `pair.into` [P, D]; `pair.query` [D, P].
Where layers share a block it is `layers.0`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketrec.distill.models.student import NORM_EPS, Student, rope_tables
from pocketrec.export.quantize import packed, save_weights
from pocketrec.runtime.bundle.bundle import ModelSpec


def device_weights(student: Student) -> dict[str, NDArray[Any]]:
    """Return the tensors of the module's docstring."""
    config = student.config
    cos, sin = rope_tables(config.max_history + 1, config.head_width, config.rope_theta)
    w = {name: tensor.detach().float().cpu() for name, tensor in student.state_dict().items()}
    levels = range(student.levels)
    out = {"start": w["start"][None], "rope.cos": cos, "rope.sin": sin, "norm": w["backbone.norm.weight"]}
    for number in range(config.blocks):
        out |= {f"layers.{number}.{name}": t for name, t in _layer(w, f"backbone.layers.{number}").items()}
    out["decoder.hidden"] = torch.cat([w[f"decoder.from_hidden.{i}.weight"].T for i in levels], 1)
    out["decoder.bias"] = torch.cat([w[f"decoder.from_hidden.{i}.bias"] for i in levels])
    for level in levels:
        out[f"embed.{level}"] = w[f"embed.{level}.weight"]
        out[f"decoder.{level}.out"] = w[f"decoder.out.{level}.weight"].T
        out[f"decoder.{level}.out_bias"] = w[f"decoder.out.{level}.bias"]
        if level > 0:
            out[f"decoder.{level}.prefix"] = w[f"decoder.from_prefix.{level - 1}.weight"].T
    if student.pairs is not None:
        keys = student.pairs.row.flatten().nonzero()[:, 0].cpu().numpy()  # rising, as rows are numbered
        out["pair.keys"] = torch.from_numpy(keys.astype(np.uint16 if student.codes <= 256 else np.int32))
        out["pair.table"] = w["pairs.table.weight"]
        out["pair.into"], out["pair.query"] = w["pairs.into.weight"].T, w["pairs.query.weight"].T
    return {name: tensor.contiguous().numpy() for name, tensor in out.items()}


def _layer(w: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """One block's matrices, norm weights folded in."""
    before = w[f"{name}.input_layernorm.weight"][:, None]
    between = w[f"{name}.post_attention_layernorm.weight"][:, None]
    k, v = w[f"{name}.self_attn.k_proj.weight"], w[f"{name}.self_attn.v_proj.weight"]
    gate, up = w[f"{name}.mlp.gate_proj.weight"], w[f"{name}.mlp.up_proj.weight"]
    return {
        "q": before * w[f"{name}.self_attn.q_proj.weight"].T,
        "kv": before * torch.cat((k, v)).T,
        "o": w[f"{name}.self_attn.o_proj.weight"].T,
        "gate_up": between * torch.cat((gate, up)).T,
        "down": w[f"{name}.mlp.down_proj.weight"].T,
    }


def write_weights(student: Student, path: Path, scheme: str = "none") -> None:
    """Write `device_weights` as a safetensors file; the same weights give the same bytes.

    :param scheme: how they are stored, a name of `export.quantize.SCHEMES`.
    """
    save_weights(device_weights(student), path, scheme)


def weight_bytes(student: Student) -> int:
    """Return the size of the float32 file that `write_weights` would write."""
    return len(packed(device_weights(student), "none"))


def model_spec(
    student: Student, sid_space: str, beam: int, max_branch: tuple[int, ...], quantization: str = "none"
) -> ModelSpec:
    """Describe a student for a bundle's manifest."""
    config = student.config
    return ModelSpec(
        kind="llama-sid", sid_space=sid_space, levels=student.levels, codes=student.codes,
        max_history=config.max_history, beam=beam, max_branch=max_branch, dim=config.dim, layers=config.layers,
        heads=config.heads, kv_heads=config.kv_heads, head_dim=config.head_width, ffn=config.ffn,
        decoder_dim=config.decoder_dim, pair_dim=config.pair_dim if student.pairs is not None else 0,
        rope_theta=config.rope_theta, norm_eps=NORM_EPS, parameters=student.parameters_count,
        blocks=config.blocks, quantization=quantization,
    )  # fmt: skip
