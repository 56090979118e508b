"""The pair table: what a branch of the SID tree knows by itself, one embedding per pair of first codes.

Codes are shared by all branches: the second code means the same distance from every first one, so what a student knows
of items in particular has to pass through one small MLP. The table gives every (c_1, c_2) that the catalogue has an
embedding of its own, and uses it twice, as SASRec does its item table: it is added to the tokens of its items, and it
scores the second code. It is an n-gram of semantic IDs (Singh et al. 2023, "Better generalization with semantic IDs",
section 4). Items that share the pair share it, so a new item has it from the first day; a pair that nobody had while
the student was trained has zeros, and falls back on its codes.
docs/decisions/0008-the-pair-table.md has the gain.

Shapes in comments: R pairs, P width of the table, D width of the student, K codes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pocketrec.runtime.errors import ConfigError

START_LENGTH = 0.5  # of collaborative vectors, as an embedding begins (they have length 1)
MOST_CODES = 4096  # the map from pairs to rows has K² entries


class PairTable(nn.Module):
    """Embeddings of pairs of first codes."""

    row: Tensor

    def __init__(self, dim: int, width: int, codes: int, sids: NDArray[np.integer], dropout: float) -> None:
        """Build for the pairs of a catalogue.

        :param sids: [n_items, L ≥ 2].
        :raises ConfigError: if there are too many codes for a map of all pairs.
        """
        super().__init__()
        if codes > MOST_CODES:
            raise ConfigError(f"student.pair_dim needs at most {MOST_CODES} codes, sid.codes is {codes}; set it to 0")
        pairs = np.unique(sids[:, :2].astype(np.int64), axis=0)
        row = np.zeros((codes, codes), np.int64)
        row[pairs[:, 0], pairs[:, 1]] = np.arange(1, len(pairs) + 1)
        self.register_buffer("row", torch.from_numpy(row), persistent=False)  # [K, K]; 0: a pair that nobody has
        self.table = nn.Embedding(len(pairs) + 1, width, padding_idx=0)  # row 0 stays zero
        self.into = nn.Linear(width, dim, bias=False)
        self.query = nn.Linear(dim, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    @property
    def pairs(self) -> Tensor:
        """The pairs that have a row, int64 [R, 2], in the rows' order."""
        return self.row.nonzero()

    @torch.no_grad()
    def initialise(self) -> None:
        """Begin small; tokens at the scale of the code embeddings once `start_from` has filled the table."""
        nn.init.normal_(self.table.get_parameter("weight"), std=0.02)
        self.table.get_parameter("weight")[0] = 0.0
        nn.init.normal_(self.into.weight, std=self.into.in_features**-0.5)
        nn.init.normal_(self.query.weight, std=0.02)

    @torch.no_grad()
    def start_from(self, vectors: NDArray[np.float32], sids: NDArray[np.integer]) -> None:
        """Let embeddings begin as the mean vector of their items: float32 [n_items, P], for the rows of `sids`."""
        codes = torch.from_numpy(sids[:, :2].astype(np.int64))
        rows = self.row[codes[:, 0], codes[:, 1]]
        weight: Tensor = self.table.get_parameter("weight")
        total = torch.zeros_like(weight).index_add_(0, rows, torch.from_numpy(vectors))
        count = torch.bincount(rows, minlength=len(weight)).clamp(min=1)
        weight += START_LENGTH * total / count[:, None]
        weight[0] = 0.0

    def tokens(self, sids: Tensor) -> Tensor:
        """What the pair adds to its items' tokens: int [..., ≥ 2] -> [..., D]."""
        return self.into(self.table(self.row[sids[..., 0], sids[..., 1]]))  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, first: Tensor) -> Tensor:
        """What pairs add to the logits of the second code: hidden [n, D], first codes int [n, W] -> [n, W, K]."""
        weight: Tensor = self.table.weight  # no `get_parameter`: pruning puts products of parameters in its place
        scores = F.pad(self.query(self.dropout(hidden)) @ weight[1:].T, (1, 0))  # [n, 1 + R]
        rows = self.row[first]  # [n, W, K]
        return scores.gather(1, rows.flatten(1)).view(rows.shape)
