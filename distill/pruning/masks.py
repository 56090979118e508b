"""Gates on a student's prunable units: a number per unit that multiplies the weights through which the unit is heard.

A gate of 1 leaves its unit alone, 0 is as good as removing it (`distill.removal` then does). Since a gate only
multiplies, its first-order Taylor score g · ∂L/∂g is the sum of w · ∂L/∂w over the weights it multiplies (Molchanov et
al. 2019, "Importance estimation for neural network pruning", section 3.2), and needs no gradient of its own.

Gates are float32 [rows, units] per dimension. Every row keeps as many units as the others, so that all layers and all
levels of the pruned student have one shape:

    layers [1, layers]   dim [1, D]   heads [blocks, key-value groups]   ffn [blocks, F]
    decoder_dim [levels, M]   pair_dim [1, P]

A channel of the residual stream (`dim`) is silent when nothing writes it: embeddings, start, pair table, and the output
projections of all blocks. What reads it may stay as it is.
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
Gates = dict[str, Tensor]


@dataclass(frozen=True)
class Place:
    """Some gates and one tensor that they multiply: along `axis`, each gate holds for `width` entries in a row."""

    dimension: str
    row: int
    units: slice
    tensor: str
    axis: int
    width: int


def places(student: Student) -> list[Place]:
    """List what every gate multiplies; tensors by their names in the student's `named_parameters`."""
    config = student.config
    stream = [("start", 0), *((f"embed.{level}.weight", 1) for level in range(student.levels))]
    whole, out = slice(None), []
    for block in range(config.blocks):
        name = f"backbone.layers.{block}"
        attention, feed_forward = f"{name}.self_attn.o_proj.weight", f"{name}.mlp.down_proj.weight"
        group = config.heads // config.kv_heads * config.head_width
        out += [Place("heads", block, whole, attention, 1, group), Place("ffn", block, whole, feed_forward, 1, 1)]
        stream += [(attention, 0), (feed_forward, 0)]
        if not config.share_layers:
            layer = slice(block, block + 1)
            out += [Place("layers", 0, layer, tensor, 0, config.dim) for tensor in (attention, feed_forward)]
    out += [Place("decoder_dim", level, whole, f"decoder.out.{level}.weight", 1, 1) for level in range(student.levels)]
    if student.pairs is not None:
        stream.append(("pairs.into.weight", 0))
        out.append(Place("pair_dim", 0, whole, "pairs.table.weight", 1, 1))
    return out + [Place("dim", 0, whole, tensor, axis, 1) for tensor, axis in stream]


def open_gates(student: Student) -> Gates:
    """Return gates of 1 for every unit of a student."""
    config = student.config
    return {
        name: torch.ones(rows_of(config, name, student.levels), units_of(config, name)) for name in dimensions(student)
    }


def dimensions(student: Student) -> tuple[str, ...]:
    """Name a student's dimensions that have gates: no layers where they share a block, no pairs without a table."""
    absent = {"layers"} if student.config.share_layers else set()
    absent |= {"pair_dim"} if student.pairs is None else set()
    return tuple(name for name in DIMENSIONS if name not in absent)


def units_of(config: StudentConfig, dimension: str) -> int:
    """Count a dimension's units; those of `heads` are key-value groups."""
    return int(getattr(config, "kv_heads" if dimension == "heads" else dimension))


def rows_of(config: StudentConfig, dimension: str, levels: int) -> int:
    """Count the rows that a dimension is cut in: blocks, levels, or one."""
    return {"heads": config.blocks, "ffn": config.blocks, "decoder_dim": levels}.get(dimension, 1)


def gated(weights: Mapping[str, Tensor], gates: Gates, where: list[Place]) -> dict[str, Tensor]:
    """Multiply weights by their gates.

    :param weights: by name; those that no gate touches are left out of what is returned.
    """
    out: dict[str, Tensor] = {}
    for place in where:
        tensor = out.get(place.tensor, weights[place.tensor])
        gate = gates[place.dimension][place.row, place.units].to(tensor.device).repeat_interleave(place.width)
        out[place.tensor] = tensor * gate.view([-1 if axis == place.axis else 1 for axis in range(tensor.ndim)])
    return out


def gated_loss(loss: nn.Module, gates: Gates, where: list[Place], batch: Batch) -> Tensor:
    """Return the summed loss of a batch with gates on `loss.student`."""
    weights = gated(dict(loss.get_submodule("student").named_parameters()), gates, where)
    named = {f"student.{name}": weight for name, weight in weights.items()}
    return functional_call(loss, named, (batch,))  # type: ignore[no-any-return]


def taylor_sums(student: Student, gates: Gates, where: list[Place]) -> Gates:
    """Sum w · ∂L/∂w behind every gate: g · ∂L/∂g, from the gradients that a backward pass has just left."""
    named = dict(student.named_parameters())
    # A parameter without a gradient took no part in the loss.
    return _sums({n: p.detach() * (0.0 if p.grad is None else p.grad) for n, p in named.items()}, gates, where)


def square_sums(student: Student, gates: Gates, where: list[Place]) -> Gates:
    """Sum the squares of the weights behind every gate, gates applied: what pruning by magnitude goes by."""
    squares = {name: p.detach().square() for name, p in student.named_parameters()}
    return {name: total * gates[name].square() for name, total in _sums(squares, gates, where).items()}


@torch.no_grad()
def _sums(products: Mapping[str, Tensor], gates: Gates, where: list[Place]) -> Gates:
    """Sum products over all entries that each gate multiplies."""
    out = {name: torch.zeros_like(gate) for name, gate in gates.items()}
    for place in where:
        along = products[place.tensor].float().movedim(place.axis, 0)
        gate = out[place.dimension][place.row, place.units]
        gate += along.reshape(len(gate), -1).sum(1).to(gate)
    return out
