"""Removes units from a student: the result is an ordinary `Student` of a smaller shape.

Its outputs are those of the student whose masks (`distill.pruning.masks`) are 0 for the removed units. Norms divide by
the mean square over all D channels, of which D' remain. So the weights that write the stream are multiplied by
√(D' / D), which keeps the mean square (and the meaning of the norm's ε), and the weights that read the raw stream
(norms, and the decoder's prefix input) are divided by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.models.student import Student
from pocketrec.distill.pruning.masks import units_of
from pocketrec.runtime.errors import ConfigError

Kept = Mapping[str, Tensor]  # dimension → bool [rows, units], True: stays; absent dimensions stay whole


def with_units(config: StudentConfig, dimension: str, units: int) -> StudentConfig:
    """Return a shape with another number of units in a dimension; heads keep their width and their groups' size."""
    changed: dict[str, Any] = {"head_dim": config.head_width, dimension: units}
    if dimension == "heads":
        changed |= {"heads": config.heads // config.kv_heads * units, "kv_heads": units}
    return replace(config, **changed)


def at_depth(student: Student, depth: int) -> Student:
    """Return a student's first `depth` layers as a student; `distill.intermediate` trains their outputs.

    :raises ConfigError: if it has fewer layers.
    """
    layers = student.config.layers
    if not 1 <= depth <= layers:
        raise ConfigError(
            f"export.depth is {depth}, but the student has {layers} layers; set it to 1 to {layers}, or to 0 for all"
        )
    if student.config.share_layers:
        return _student_like(student, replace(student.config, layers=depth), student.state_dict())
    return remove(student, {"layers": torch.arange(layers)[None] < depth})


def remove(student: Student, kept: Kept) -> Student:
    """Return a smaller student.

    :param kept: which units stay; the same number in every row of a dimension.
    """
    shape = student.config
    for dimension, rows in kept.items():
        shape = with_units(shape, dimension, int(rows[0].sum()))
    cut = _Cut(student, kept)
    weights = {"start": cut.written("start", 0), "backbone.norm.weight": cut.read("backbone.norm.weight", 0)}
    layers = cut.units("layers").tolist() if not shape.share_layers else [0]
    for new, old in enumerate(layers):
        weights |= {f"backbone.layers.{new}.{n}": w for n, w in cut.block(f"backbone.layers.{old}", old).items()}
    for level in range(student.levels):
        weights |= cut.level(level)
    if student.pairs is not None:
        weights |= cut.pairs()
    return _student_like(student, shape, weights)


def _student_like(student: Student, shape: StudentConfig, weights: Mapping[str, Tensor]) -> Student:
    """Build a student of another shape on the same semantic IDs."""
    state = torch.get_rng_state()  # the weights drawn here are overwritten and must not change later draws
    pairs = None if student.pairs is None else student.pairs.pairs.cpu().numpy()
    out = Student(shape, student.levels, student.codes, pairs)
    torch.set_rng_state(state)
    out.to(student.start).load_state_dict(dict(weights))
    return out.train(student.training)


class _Cut:
    """The slices of a student's tensors that stay."""

    def __init__(self, student: Student, kept: Kept) -> None:
        self.config, self.kept = student.config, kept
        self.weights: dict[str, Tensor] = {name: tensor.detach() for name, tensor in student.state_dict().items()}
        self.stream = self.units("dim")
        self.shrink: float = (len(self.stream) / student.config.dim) ** 0.5

    def units(self, dimension: str, row: int = 0) -> Tensor:
        """Return the indices of the units that stay, int64."""
        if dimension not in self.kept:
            return torch.arange(units_of(self.config, dimension))
        return self.kept[dimension][row].nonzero()[:, 0]

    def written(self, name: str, axis: int) -> Tensor:
        """Return the remaining channels of a tensor that writes the stream."""
        return self.weights[name].index_select(axis, self.stream) * self.shrink

    def read(self, name: str, axis: int) -> Tensor:
        """Return the remaining channels of a tensor that reads the raw stream: norms and the decoder's prefix input."""
        return self.weights[name].index_select(axis, self.stream) / self.shrink

    def normed(self, name: str) -> Tensor:
        """Return the remaining channels of a matrix that reads the stream after a norm."""
        return self.weights[name].index_select(1, self.stream)

    def block(self, name: str, row: int) -> dict[str, Tensor]:
        """Cut one block."""
        config, groups, channels = self.config, self.units("heads", row), self.units("ffn", row)
        keys = _spread(groups, config.head_width)
        queries = _spread(groups, config.heads // config.kv_heads * config.head_width)
        out = {n: self.read(f"{name}.{n}", 0) for n in ("input_layernorm.weight", "post_attention_layernorm.weight")}
        inner = {"self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys}
        inner |= {"mlp.gate_proj": channels, "mlp.up_proj": channels}
        out |= {f"{n}.weight": self.normed(f"{name}.{n}.weight")[units] for n, units in inner.items()}
        outer = {"self_attn.o_proj": queries, "mlp.down_proj": channels}
        out |= {f"{n}.weight": self.written(f"{name}.{n}.weight", 0)[:, units] for n, units in outer.items()}
        return out

    def level(self, level: int) -> dict[str, Tensor]:
        """Cut one level's code embeddings and decoder."""
        units, hidden, out = self.units("decoder_dim", level), f"decoder.from_hidden.{level}", f"decoder.out.{level}"
        weights = {
            f"embed.{level}.weight": self.written(f"embed.{level}.weight", 1),
            f"{hidden}.weight": self.normed(f"{hidden}.weight")[units],
            f"{hidden}.bias": self.weights[f"{hidden}.bias"][units],
            f"{out}.weight": self.weights[f"{out}.weight"][:, units],
            f"{out}.bias": self.weights[f"{out}.bias"],
        }
        if level > 0:
            prefix = f"decoder.from_prefix.{level - 1}.weight"
            weights[prefix] = self.read(prefix, 1)[units]
        return weights

    def pairs(self) -> dict[str, Tensor]:
        """Cut the pair table."""
        columns = self.units("pair_dim")
        return {
            "pairs.table.weight": self.weights["pairs.table.weight"][:, columns],
            "pairs.into.weight": self.written("pairs.into.weight", 0)[:, columns],
            "pairs.query.weight": self.normed("pairs.query.weight")[columns],
        }


def _spread(groups: Tensor, width: int) -> Tensor:
    """Return the indices of the entries of groups that are `width` entries wide, int64."""
    return (groups[:, None] * width + torch.arange(width)).flatten()
