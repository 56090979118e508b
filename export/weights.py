"""The student's weights as the device reads them: `model.safetensors`.

Beside the blocks of `export/blocks.py`, float32 but for `pair.keys`, though `export.quantize` may store them as less (L
levels, K codes, D width, M decoder width, R pairs, P width of the pair table):

    start                [1, D]       the token before every history
    embed.l              [K, D]       for each level l
    decoder.hidden       [D, L·M]     decoder.bias [L·M]
    decoder.l.prefix     [D, M]       for l ≥ 1
    decoder.l.out        [M, K]       decoder.l.out_bias [K]

With a pair table:

    pair.keys            [R]          uint16 or int32, rising: c1·K + c2 of each pair of first codes that an item has
    pair.table           [1 + R, P]   row 1 + i is for pair i; row 0, zeros, is for all other pairs
    pair.into            [P, D]       pair.query [D, P]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.models.student import NORM_EPS, Student, rope_tables
from pocketrec.export.blocks import llama_tensors
from pocketrec.export.quantize import packed, save_weights
from pocketrec.runtime.bundle.bundle import ModelSpec


def device_weights(student: Student) -> dict[str, NDArray[Any]]:
    """Return the tensors of the module's docstring, the blocks included."""
    config = student.config
    cos, sin = rope_tables(config.max_history + 1, config.head_width, config.rope_theta)
    w: dict[str, NDArray[Any]] = {n: t.detach().float().cpu().numpy() for n, t in student.state_dict().items()}
    backbone = {n.removeprefix("backbone."): t for n, t in w.items() if n.startswith("backbone.")}
    rope = (cos.numpy(), sin.numpy())
    out: dict[str, NDArray[Any]] = {
        **llama_tensors(backbone, config.blocks, config.heads, config.head_width, rope), "start": w["start"][None],
    }  # fmt: skip
    levels = range(student.levels)
    out["decoder.hidden"] = np.concatenate([w[f"decoder.from_hidden.{i}.weight"].T for i in levels], 1)
    out["decoder.bias"] = np.concatenate([w[f"decoder.from_hidden.{i}.bias"] for i in levels])
    for level in levels:
        out[f"embed.{level}"] = w[f"embed.{level}.weight"]
        out[f"decoder.{level}.out"] = w[f"decoder.out.{level}.weight"].T
        out[f"decoder.{level}.out_bias"] = w[f"decoder.out.{level}.bias"]
        if level > 0:
            out[f"decoder.{level}.prefix"] = w[f"decoder.from_prefix.{level - 1}.weight"].T
    if student.pairs is not None:
        keys = student.pairs.row.flatten().nonzero()[:, 0].cpu().numpy()  # rising, as rows are numbered
        out["pair.keys"] = keys.astype(np.uint16 if student.codes <= 256 else np.int32)
        out["pair.table"] = w["pairs.table.weight"]
        out["pair.into"], out["pair.query"] = w["pairs.into.weight"].T, w["pairs.query.weight"].T
    return {name: np.ascontiguousarray(array) for name, array in out.items()}


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
