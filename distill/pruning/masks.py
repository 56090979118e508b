"""Masks on a student's prunable units: one number per unit, which multiplies the weights that carry the unit's output.

A mask of 1 leaves its unit as it is. A mask of 0 silences it, after which `distill.pruning.removal` can take the unit
out without changing the outputs. Since a mask only multiplies weights, its first-order Taylor score m · ∂L/∂m is the
sum of w · ∂L/∂w over these weights (Molchanov et al. 2019, "Importance estimation for neural network pruning", section
3.2) and needs no gradient of its own.

Masks are float32 [rows, units], one array per dimension. All rows of a dimension keep the same number of units, so all
layers and all levels of the pruned student have one shape:

    layers [1, layers]   dim [1, D]   heads [blocks, key-value groups]   ffn [blocks, F]
    decoder_dim [levels, M]   pair_dim [1, P]

A channel of the residual stream (`dim`) is silent when nothing writes to it: not the embeddings, the start token, the
pair table or the output projections of any block. The weights that read it need no mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.models.student import Student

DIMENSIONS = ("layers", "dim", "heads", "ffn", "decoder_dim", "pair_dim")
Masks = dict[str, Tensor]


@dataclass(frozen=True)
class MaskSite:
    """Some masks of one row and a tensor that they multiply: along `axis`, each mask applies to `width` entries."""

    dimension: str
    row: int
    units: slice
    tensor: str
    axis: int
    width: int


def mask_sites(student: Student) -> list[MaskSite]:
    """List the tensors that the masks multiply, by their names in the student's `named_parameters`."""
    config = student.config
    stream = [("start", 0), *((f"embed.{level}.weight", 1) for level in range(student.levels))]
    whole, out = slice(None), []
    for block in range(config.blocks):
        name = f"backbone.layers.{block}"
        attention, feed_forward = f"{name}.self_attn.o_proj.weight", f"{name}.mlp.down_proj.weight"
        group = config.heads // config.kv_heads * config.head_width
        out += [MaskSite("heads", block, whole, attention, 1, group), MaskSite("ffn", block, whole, feed_forward, 1, 1)]
        stream += [(attention, 0), (feed_forward, 0)]
        if not config.share_layers:
            layer = slice(block, block + 1)
            out += [MaskSite("layers", 0, layer, tensor, 0, config.dim) for tensor in (attention, feed_forward)]
    out += [
        MaskSite("decoder_dim", level, whole, f"decoder.out.{level}.weight", 1, 1) for level in range(student.levels)
    ]
    if student.pairs is not None:
        stream.append(("pairs.into.weight", 0))
        out.append(MaskSite("pair_dim", 0, whole, "pairs.table.weight", 1, 1))
    return out + [MaskSite("dim", 0, whole, tensor, axis, 1) for tensor, axis in stream]


def open_masks(student: Student) -> Masks:
    """Return masks of 1 for every unit of a student."""
    config = student.config
    return {
        name: torch.ones(rows_of(config, name, student.levels), units_of(config, name)) for name in dimensions(student)
    }


def dimensions(student: Student) -> tuple[str, ...]:
    """Name the dimensions of a student that have masks.

    Layers that share one block have none, and neither has the pair table of a student without one.
    """
    absent = {"layers"} if student.config.share_layers else set()
    absent |= {"pair_dim"} if student.pairs is None else set()
    return tuple(name for name in DIMENSIONS if name not in absent)


def units_of(config: StudentConfig, dimension: str) -> int:
    """Count a dimension's units; those of `heads` are key-value groups."""
    return int(getattr(config, "kv_heads" if dimension == "heads" else dimension))


def rows_of(config: StudentConfig, dimension: str, levels: int) -> int:
    """Count the rows of a dimension's masks: one per block, one per level, or one in all."""
    return {"heads": config.blocks, "ffn": config.blocks, "decoder_dim": levels}.get(dimension, 1)


def masked_weights(weights: Mapping[str, Tensor], masks: Masks, sites: list[MaskSite]) -> dict[str, Tensor]:
    """Return the weights that have masks, multiplied by these.

    :param weights: all weights, by name.
    """
    out: dict[str, Tensor] = {}
    for site in sites:
        tensor = out.get(site.tensor, weights[site.tensor])
        mask = masks[site.dimension][site.row, site.units].to(tensor.device).repeat_interleave(site.width)
        out[site.tensor] = tensor * mask.view([-1 if axis == site.axis else 1 for axis in range(tensor.ndim)])
    return out


def masked_loss(loss: nn.Module, masks: Masks, sites: list[MaskSite], batch: Batch) -> Tensor:
    """Return the summed loss of a batch, with masks applied to `loss.student`."""
    weights = masked_weights(dict(loss.get_submodule("student").named_parameters()), masks, sites)
    named = {f"student.{name}": weight for name, weight in weights.items()}
    return functional_call(loss, named, (batch,))  # type: ignore[no-any-return]


def taylor_sums(student: Student, masks: Masks, sites: list[MaskSite]) -> Masks:
    """Sum w · ∂L/∂w over the weights of every mask (= m · ∂L/∂m), from the gradients of the last backward pass."""
    named = dict(student.named_parameters())
    # A parameter without a gradient took no part in the loss.
    return _sums({n: p.detach() * (0.0 if p.grad is None else p.grad) for n, p in named.items()}, masks, sites)


def square_sums(student: Student, masks: Masks, sites: list[MaskSite]) -> Masks:
    """Sum the squares of the masked weights of every mask: the scores of pruning by magnitude."""
    squares = {name: p.detach().square() for name, p in student.named_parameters()}
    return {name: total * masks[name].square() for name, total in _sums(squares, masks, sites).items()}


@torch.no_grad()
def _sums(products: Mapping[str, Tensor], masks: Masks, sites: list[MaskSite]) -> Masks:
    """Sum products over all entries that each mask multiplies."""
    out = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    for site in sites:
        along = products[site.tensor].float().movedim(site.axis, 0)
        mask = out[site.dimension][site.row, site.units]
        mask += along.reshape(len(mask), -1).sum(1).to(mask)
    return out
