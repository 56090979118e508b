"""Turns a student's bases so that few channels carry most of it, without changing what it computes.

Pruning takes channels away, and in the basis that training happened to end in all of them matter alike. Since every
reader and writer of the residual stream is a matrix, the stream may be turned by any orthogonal matrix once the norms'
weights are folded into their readers (SliceGPT, Ashkboos et al. 2024, section 3.2; theirs turns each block by its own
matrix, here one serves all, so that nothing is added to the student). The pair table's columns turn likewise.
docs/decisions/0009-pruning.md has the gain.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pocketrec.distill.batches import Batch
from pocketrec.distill.student import RMSNorm, Student


@torch.no_grad()
def rotate(student: Student, batches: Iterable[Batch], sids: Tensor) -> None:
    """Turn the residual stream and the pair table onto their principal axes, the strongest first; in place.

    :param batches: what the stream's axes are measured on.
    :param sids: int64 [n_items, L], the catalogue's semantic IDs.
    """
    _fold_norms(student)
    _turn_stream(student, _principal_axes(_stream_moment(student, batches, sids)))
    if student.pairs is not None:
        table: Tensor = student.pairs.table.get_parameter("weight")
        axes = _principal_axes(table.double().T @ table.double())
        for weight, side in ((table, 1), (student.pairs.into.weight, 1), (student.pairs.query.weight, 0)):
            _turn(weight, axes, side)


def _stream_moment(student: Student, batches: Iterable[Batch], sids: Tensor) -> Tensor:
    """Second moment of the stream before, between and after the blocks, each state scaled as a norm would: [D, D]."""
    training, total = student.training, torch.zeros(student.config.dim, student.config.dim, dtype=torch.float64)
    student.eval()
    for batch in batches:
        real = (batch.segment >= 0).flatten()
        for state in student.stream(sids[batch.inputs], batch.is_start, batch.mask):
            x = state.flatten(0, 1)[real].double()
            x = x * torch.rsqrt(x.square().mean(1, keepdim=True).clamp(min=1e-12))
            total += x.T @ x
    student.train(training)
    return total


def _principal_axes(moment: Tensor) -> Tensor:
    """Eigenvectors of a symmetric matrix as columns, the largest eigenvalue first; signs made unique."""
    axes = torch.linalg.eigh(moment)[1].flip(1)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return axes * largest.sign()  # type: ignore[no-any-return]


def _fold_norms(student: Student) -> None:
    """Multiply every norm's weight into the matrices that read it, and leave 1."""
    block: Any
    for block in student.backbone.layers:
        attention, feed_forward = block.self_attn, block.mlp
        _fold(block.input_layernorm, [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
        _fold(block.post_attention_layernorm, [feed_forward.gate_proj.weight, feed_forward.up_proj.weight])
    readers = [layer.get_parameter("weight") for layer in student.decoder.from_hidden]
    _fold(student.backbone.norm, readers + ([student.pairs.query.weight] if student.pairs is not None else []))


def _fold(norm: RMSNorm, readers: list[Tensor]) -> None:
    for weight in readers:
        weight *= norm.weight
    norm.weight.fill_(1.0)


def _turn_stream(student: Student, axes: Tensor) -> None:
    """Write and read the stream in the basis of `axes` [D, D]."""
    student.start.copy_((student.start.double() @ axes).float())
    for table in student.embed:
        _turn(table.get_parameter("weight"), axes, 1)
    block: Any
    for block in student.backbone.layers:
        attention, feed_forward = block.self_attn, block.mlp
        for reader in (
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            feed_forward.gate_proj,
            feed_forward.up_proj,
        ):
            _turn(reader.weight, axes, 1)
        for writer in (attention.o_proj, feed_forward.down_proj):
            _turn(writer.weight, axes, 0)
    for layer in (*student.decoder.from_hidden, *student.decoder.from_prefix):
        _turn(layer.get_parameter("weight"), axes, 1)
    if student.pairs is not None:
        _turn(student.pairs.into.weight, axes, 0)
        _turn(student.pairs.query.weight, axes, 1)


def _turn(weight: Tensor, axes: Tensor, side: int) -> None:
    """Turn the rows (side 0) or the columns (side 1) of a matrix, in double precision."""
    exact = weight.double()
    weight.copy_((axes.T @ exact if side == 0 else exact @ axes).to(weight))
