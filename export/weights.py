"""The student's weights as the device reads them: one `model.safetensors`, laid out for `x @ W`.

The ONNX graphs refer to this file, and the numpy reference reads it, so a bundle holds every weight once. Norm
weights before a projection are folded into it (they are diagonal); the last norm is not, since h is public.

Tensors (D width, H heads, G key-value heads, d head width, F ffn, M decoder width, K codes, L levels):
`start` [1, D]; `embed.l` [K, D]; `layers.i.q` [D, H·d]; `layers.i.kv` [D, 2·G·d]; `layers.i.o` [H·d, D];
`layers.i.gate_up` [D, 2·F]; `layers.i.down` [F, D]; `norm` [D]; `rope.cos`, `rope.sin` [max_history + 1, d];
`decoder.hidden` [D, L·M]; `decoder.bias` [L·M]; `decoder.l.prefix` [D, M] (l ≥ 1); `decoder.l.out` [M, K];
`decoder.l.out_bias` [K].
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor

from pocketrec.distill.student import NORM_EPS, Student, rope_tables
from pocketrec.runtime.bundle import ModelSpec


@torch.no_grad()
def device_weights(student: Student) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of the module's docstring, float32."""
    config, decoder = student.config, student.decoder
    cos, sin = rope_tables(config.max_history + 1, config.dim // config.heads, config.rope_theta)
    out: dict[str, Tensor] = {"start": student.start[None], "rope.cos": cos, "rope.sin": sin}
    out |= {f"embed.{level}": table.weight for level, table in enumerate(student.embed)}
    for number, block in enumerate(student.backbone.layers):
        attention, mlp = block.self_attn, block.mlp
        before, between = (
            block.input_layernorm.weight[:, None],
            block.post_attention_layernorm.weight[:, None],
        )
        name = f"layers.{number}"
        out[f"{name}.q"] = before * attention.q_proj.weight.T
        out[f"{name}.kv"] = before * torch.cat((attention.k_proj.weight, attention.v_proj.weight)).T
        out[f"{name}.o"] = attention.o_proj.weight.T
        out[f"{name}.gate_up"] = between * torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)).T
        out[f"{name}.down"] = mlp.down_proj.weight.T
    out["norm"] = student.backbone.norm.weight
    out["decoder.hidden"] = torch.cat([linear.weight.T for linear in decoder.from_hidden], 1)
    out["decoder.bias"] = torch.cat([linear.bias for linear in decoder.from_hidden])
    for level, linear in enumerate(decoder.from_prefix, start=1):
        out[f"decoder.{level}.prefix"] = linear.weight.T
    for level, linear in enumerate(decoder.out):
        out[f"decoder.{level}.out"], out[f"decoder.{level}.out_bias"] = linear.weight.T, linear.bias
    return {name: tensor.detach().float().cpu().contiguous().numpy() for name, tensor in out.items()}


def write_weights(student: Student, path: Path) -> None:
    """Write `device_weights` as a safetensors file; the same weights give the same bytes."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(save(dict(sorted(device_weights(student).items()))))
    os.replace(partial, path)


def model_spec(student: Student, sid_space: str, beam: int, max_branch: tuple[int, ...]) -> ModelSpec:
    """Describe a student for a bundle's manifest."""
    config = student.config
    return ModelSpec(
        kind="llama-sid", sid_space=sid_space, levels=student.levels, codes=student.codes,
        max_history=config.max_history, beam=beam, max_branch=max_branch, dim=config.dim, layers=config.layers,
        heads=config.heads, kv_heads=config.kv_heads, head_dim=config.dim // config.heads, ffn=config.ffn,
        decoder_dim=config.decoder_dim, rope_theta=config.rope_theta, norm_eps=NORM_EPS,
        parameters=student.parameters_count,
    )  # fmt: skip
