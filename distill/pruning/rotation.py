"""Turns a student's bases so that few channels carry most of it, without changing what it computes.

Pruning takes channels away, and in the basis that training happened to end in all of them matter alike. Since every
reader and writer of the residual stream is a matrix, the stream may be turned by any orthogonal matrix once the norms'
weights are folded into their readers (SliceGPT, Ashkboos et al. 2024, section 3.2; theirs turns each block by its own
matrix, here one serves all, so that nothing is added to the student). The pair table is only ever multiplied by what
reads it, so its columns may be changed by any matrix that can be undone: they become the directions that its two
readers, tokens and logits, see the most of. docs/decisions/0012-pruning.md has the gain.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from pocketrec.distill.data.batches import Batch
from pocketrec.distill.models.student import Student

Weights = dict[str, Tensor]
LEAST = 1e-6  # of the largest eigenvalue: below that a direction is unseen, and is not blown up


@torch.no_grad()
def rotate(student: Student, batches: Iterable[Batch], sids: Tensor) -> None:
    """Turn the residual stream and the pair table onto their principal axes, the strongest first; in place.

    :param batches: what the stream's axes are measured on.
    :param sids: int64 [n_items, L], the catalogue's semantic IDs.
    """
    weights: Weights = {name: parameter.data for name, parameter in student.named_parameters()}
    stream, hidden = _moments(student, batches, sids)
    if student.pairs is not None:
        _turn_pairs(weights, hidden)
    readers = _fold_norms(weights, student.config.blocks)
    _turn_stream(weights, readers, _principal_axes(stream))


def _moments(student: Student, batches: Iterable[Batch], sids: Tensor) -> tuple[Tensor, Tensor]:
    """Second moments [D, D]: of the raw stream around the blocks, each state scaled as a norm would, and of h."""
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
    """Eigenvectors of a symmetric matrix as columns, the largest eigenvalue first; signs made unique."""
    axes: Tensor = torch.linalg.eigh(moment)[1].flip(1)
    axes *= axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return axes


def _turn_pairs(weights: Weights, hidden: Tensor) -> None:
    """Change the pair table's columns T to T·A·V: A² is what the readers see, V the principal axes of T·A.

    :param hidden: second moment of h, [D, D].
    """
    table, into, query = (weights[f"pairs.{name}.weight"].double() for name in ("table", "into", "query"))
    seen = [query @ hidden @ query.T, into.T @ into]  # by the logits, by the tokens; [P, P] each
    power, axes = torch.linalg.eigh(sum((m / m.trace().clamp(min=1e-12) for m in seen), torch.zeros_like(seen[0])))
    power = power.clamp(min=LEAST * float(power.max())).sqrt()
    table = table @ axes * power @ axes.T
    turn = _principal_axes(table.T @ table)
    weights["pairs.table.weight"].copy_(table @ turn)
    undo = axes / power @ axes.T @ turn
    weights["pairs.into.weight"].copy_(into @ undo)
    weights["pairs.query.weight"].copy_(undo.T @ query)


def _fold_norms(weights: Weights, blocks: int) -> list[str]:
    """Multiply every norm's weight into the matrices that read it, and leave 1; return the readers' names."""
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


def _turn_stream(weights: Weights, readers: list[str], axes: Tensor) -> None:
    """Write and read the stream in the basis of `axes` [D, D]."""
    for name, weight in weights.items():
        exact = weight.double()
        if name in readers or name == "start" or name.startswith(("embed.", "decoder.from_prefix.")):
            weight.copy_(exact @ axes)
        elif name.endswith(("o_proj.weight", "down_proj.weight")) or name == "pairs.into.weight":
            weight.copy_(axes.T @ exact)
