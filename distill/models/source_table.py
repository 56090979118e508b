"""The sources of every item side by side: the table that a teacher's item tokens and item scores are projected from.

Frozen sources are given (text, collaborative and image vectors); learned ones are an embedding of the item and the sum
of its semantic ID's code embeddings. Shapes in comments: N items, S width of all sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketrec.distill.config import TeacherConfig
from pocketrec.runtime.errors import ConfigError, DataError


@dataclass(frozen=True)
class ItemSources:
    """The sources of items, in catalogue order.

    text, collaborative, image: float32 [n, d]; sids: int [n, L]. None: not given, so it cannot be chosen as a source.
    codes: size of a codebook; 0: the largest code in `sids`, plus one.
    """

    text: NDArray[np.float32] | None = None
    collaborative: NDArray[np.float32] | None = None
    image: NDArray[np.float32] | None = None
    sids: NDArray[np.integer] | None = None
    codes: int = 0


class SourceTable(nn.Module):
    """The chosen sources of every item, concatenated: catalogue rows -> [..., S].

    Each frozen source is centred and scaled so that its rows have length 1 on average over the training catalogue.
    Learned sources start at the same length, so no source outweighs another before the first step.
    """

    frozen: Tensor
    centre: Tensor
    scale: Tensor
    sids: Tensor

    def __init__(self, config: TeacherConfig, sources: ItemSources, n_items: int) -> None:
        """Build a table with random learned embeddings.

        :raises ConfigError: if a source is chosen but not given.
        :raises DataError: if a source does not have one row per item.
        """
        super().__init__()
        self.chosen, dim = config.sources, config.source_dim
        arrays = _frozen(config.sources, sources, n_items)
        frozen = torch.cat(arrays, 1) if arrays else torch.zeros(n_items, 0)
        # Kept with the weights: items that are added later are centred and scaled as the training catalogue was.
        self.register_buffer("centre", frozen.mean(0))
        lengths = [(a - a.mean(0)).square().sum(1).mean().sqrt().clamp(min=1e-6).expand(a.shape[1]) for a in arrays]
        self.register_buffer("scale", torch.cat(lengths) if lengths else torch.ones(0))
        self.register_buffer("frozen", (frozen - self.centre) / self.scale, persistent=False)
        self.register_buffer("sids", _sids(config.sources, sources, n_items), persistent=False)
        self.ids = nn.Parameter(torch.randn(n_items, dim) / dim**0.5) if "id" in self.chosen else None
        self.codes = None
        if "sid" in self.chosen:
            levels, codes = self.sids.shape[1], sources.codes or int(self.sids.max()) + 1
            self.codes = nn.Parameter(torch.randn(levels, codes, dim) / (levels * dim) ** 0.5)
        self.width = frozen.shape[1] + dim * (("id" in self.chosen) + ("sid" in self.chosen))

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Return the sources of catalogue rows, int64 [...] -> [..., S]; None: of all items, [N, S]."""
        at = slice(None) if rows is None else rows
        parts = [self.frozen[at]]
        if self.ids is not None:
            parts.append(self.ids[at])
        if self.codes is not None:
            sids = self.sids[at]  # [..., L]
            parts.append(torch.stack([table[sids[..., level]] for level, table in enumerate(self.codes)]).sum(0))
        return torch.cat(parts, -1)

    @torch.no_grad()
    def extend(self, sources: ItemSources, n_items: int) -> None:
        """Replace the catalogue by a longer one; see `Teacher.extend`."""
        arrays = _frozen(self.chosen, sources, n_items)
        frozen = torch.cat(arrays, 1) if arrays else torch.zeros(n_items, 0)
        self.frozen = (frozen.to(self.centre) - self.centre) / self.scale
        sids = _sids(self.chosen, sources, n_items).to(self.sids)
        if self.codes is not None and int(sids.max()) >= self.codes.shape[1]:
            raise DataError(
                f"a new item has code {int(sids.max())}, but the codebooks have codes 0 to {self.codes.shape[1] - 1}; "
                "assign its semantic ID with the codebooks that the teacher was trained with"
            )
        self.sids = sids
        if self.ids is not None:
            mean = self.ids.mean(0, keepdim=True).expand(n_items - len(self.ids), -1)
            self.ids = nn.Parameter(torch.cat((self.ids, mean)))


def _frozen(chosen: tuple[str, ...], sources: ItemSources, n_items: int) -> list[Tensor]:
    """Return the chosen frozen sources, float32 [N, d] each, in the order of `chosen`."""
    names = [name for name in chosen if name in ("text", "collaborative", "image")]
    return [torch.from_numpy(_array(name, getattr(sources, name), n_items).astype(np.float32)) for name in names]


def _sids(chosen: tuple[str, ...], sources: ItemSources, n_items: int) -> Tensor:
    """Return semantic IDs, int64 [N, L]; [N, 0] if they are not a source."""
    if "sid" not in chosen:
        return torch.zeros(n_items, 0, dtype=torch.int64)
    return torch.from_numpy(_array("sid", sources.sids, n_items).astype(np.int64))


def _array(name: str, array: NDArray[Any] | None, n_items: int) -> NDArray[Any]:
    if array is None:
        raise ConfigError(
            f"teacher.sources contains {name!r}, but these items have no such vectors; remove it from teacher.sources"
        )
    if array.ndim != 2 or len(array) != n_items:
        raise DataError(f"the source {name!r} has shape {array.shape}; expected one row for each of {n_items} items")
    return array
