"""Rotates a student onto its principal axes before pruning, so that few channels carry most of the signal.

Pruning removes channels, and in the basis in which training ends all channels matter about equally. Rotation changes
the basis and leaves the student's outputs as they are. All weights that read or write the residual stream are matrices,
so the stream can be rotated by any orthogonal matrix, once the weights of the norms are folded into the matrices that
read them (SliceGPT, Ashkboos et al. 2024, section 3.2; SliceGPT rotates each block by a matrix of its own, here one
matrix serves all blocks, so nothing is added to the student). The pair table is only multiplied by the two matrices
that read it, for tokens and for logits, so its columns can be changed by any invertible matrix. They become the
directions that have the largest effect on tokens and logits. docs/decisions/0012-pruning.md reports the gain.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from pocketrec.distill.data.batches import Batch
from pocketrec.distill.models.student import Student

EIGENVALUE_FLOOR = 1e-6  # share of the largest eigenvalue; a direction with a smaller one is not scaled up further


@torch.no_grad()
def rotate_student(student: Student, batches: Iterable[Batch], sids: Tensor) -> None:
    """Rotate the residual stream and the pair table onto their principal axes, the strongest first; in place.

    :param batches: training batches that the axes are measured on.
    :param sids: int64 [n_items, L], the catalogue's semantic IDs.
    """
    weights = {name: parameter.data for name, parameter in student.named_parameters()}
    stream, hidden = _moments(student, batches, sids)
    if student.pairs is not None:
        _rotate_pairs(weights, hidden)
    readers = _fold_norms(weights, student.config.blocks)
    _rotate_stream(weights, readers, _principal_axes(stream))


def _moments(student: Student, batches: Iterable[Batch], sids: Tensor) -> tuple[Tensor, Tensor]:
    """Return second moments, float64 [D, D] each: of the raw stream around the blocks, normalised, and of h."""
    training, dim = student.training, student.config.dim
    stream, hidden = torch.zeros(dim, dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64)
    student.eval()
    for batch in batches:
        real = (batch.segment >= 0).flatten()
        states = student.stream(sids[batch.inputs], batch.is_start, batch.mask)
        for state in states:
            x = state.flatten(0, 1)[real].double()
            x = x * torch.rsqrt(x.square().mean(1, keepdim=True).clamp(min=1e-12))
            stream += x.T @ x
        h = student.backbone.norm(states[-1]).flatten(0, 1)[real].double()
        hidden += h.T @ h
    student.train(training)
    return stream, hidden


def _principal_axes(moment: Tensor) -> Tensor:
    """Return eigenvectors of a symmetric matrix as columns, largest eigenvalue first, largest entry positive."""
    axes: Tensor = torch.linalg.eigh(moment)[1].flip(1)
    axes *= axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return axes


def _rotate_pairs(weights: dict[str, Tensor], hidden: Tensor) -> None:
    """Change the pair table T to T·A·V: A² is the second moment of its two readers, V the principal axes of T·A.

    :param hidden: second moment of h, [D, D].
    """
    table, into, query = (weights[f"pairs.{name}.weight"].double() for name in ("table", "into", "query"))
    moments = [query @ hidden @ query.T, into.T @ into]  # logits, tokens; [P, P] each
    power, axes = torch.linalg.eigh(
        sum((m / m.trace().clamp(min=1e-12) for m in moments), torch.zeros_like(moments[0]))
    )
    power = power.clamp(min=EIGENVALUE_FLOOR * float(power.max())).sqrt()
    table = table @ axes * power @ axes.T
    principal = _principal_axes(table.T @ table)
    weights["pairs.table.weight"].copy_(table @ principal)
    undo = axes / power @ axes.T @ principal
    weights["pairs.into.weight"].copy_(into @ undo)
    weights["pairs.query.weight"].copy_(undo.T @ query)


def _fold_norms(weights: dict[str, Tensor], blocks: int) -> list[str]:
    """Multiply every norm's weight into the matrices that read it, set it to 1, and return the matrices' names."""
    of_norm = {"backbone.norm": [n for n in weights if "from_hidden" in n and n.endswith("weight")]}
    of_norm["backbone.norm"] += [name for name in ("pairs.query.weight",) if name in weights]
    for block in range(blocks):
        name = f"backbone.layers.{block}"
        of_norm[f"{name}.input_layernorm"] = [f"{name}.self_attn.{part}_proj.weight" for part in "qkv"]
        of_norm[f"{name}.post_attention_layernorm"] = [f"{name}.mlp.{part}_proj.weight" for part in ("gate", "up")]
    for norm, readers in of_norm.items():
        for reader in readers:
            weights[reader] *= weights[f"{norm}.weight"]
        weights[f"{norm}.weight"].fill_(1.0)
    return [reader for readers in of_norm.values() for reader in readers]


def _rotate_stream(weights: dict[str, Tensor], readers: list[str], axes: Tensor) -> None:
    """Let all weights write and read the stream in the basis of `axes` [D, D]."""
    for name, weight in weights.items():
        exact = weight.double()
        if name in readers or name == "start" or name.startswith(("embed.", "decoder.from_prefix.")):
            weight.copy_(exact @ axes)
        elif name.endswith(("o_proj.weight", "down_proj.weight")) or name == "pairs.into.weight":
            weight.copy_(axes.T @ exact)
