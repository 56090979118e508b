"""The pair table: one embedding for each pair of first two codes (c_1, c_2) that occurs in the catalogue.

Code embeddings are shared by all branches of the SID tree: the second code is the same offset under every first code,
so everything specific to few items has to pass through one small MLP. The pair table gives each branch of depth two an
embedding of its own. As SASRec does with its item table, the embedding is used twice: it is added to the tokens of the
pair's items, and it scores the second code. It is an n-gram of semantic IDs (Singh et al. 2023, "Better generalization
with semantic IDs", section 4). Items with the same pair share the embedding, so a new item has it at once; a pair that
did not occur in training has zeros, and its items rely on the code embeddings.
docs/decisions/0008-the-pair-table.md reports the gain.

Shapes in comments: R pairs, P width of the table, D width of the student, K codes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pocketrec.runtime.errors import ConfigError

START_LENGTH = 0.5  # initial length of an embedding, relative to the collaborative vectors (length 1)
MAX_CODES = 4096  # the map from pairs to rows has K² entries


class PairTable(nn.Module):
    """Embeddings of pairs of first codes."""

    row: Tensor
    branch: Tensor
    seconds: Tensor

    def __init__(self, dim: int, width: int, codes: int, sids: NDArray[np.integer], dropout: float) -> None:
        """Build a table for the pairs of a catalogue.

        :param sids: [n_items, L ≥ 2].
        :raises ConfigError: if there are too many codes for a map of all pairs.
        """
        super().__init__()
        if codes > MAX_CODES:
            raise ConfigError(
                f"student.pair_dim needs sid.codes of at most {MAX_CODES}, but it is {codes}; set student.pair_dim to 0"
            )
        pairs = np.unique(sids[:, :2].astype(np.int64), axis=0)
        row = np.zeros((codes, codes), np.int64)
        row[pairs[:, 0], pairs[:, 1]] = np.arange(1, len(pairs) + 1)
        self.register_buffer("row", torch.from_numpy(row), persistent=False)  # [K, K]; 0: no item has the pair
        branch, seconds = _branches(pairs, codes)
        self.register_buffer("branch", torch.from_numpy(branch), persistent=False)  # [K, M]
        self.register_buffer("seconds", torch.from_numpy(seconds), persistent=False)  # [K, M]
        self.table = nn.Embedding(len(pairs) + 1, width, padding_idx=0)  # row 0 stays zero
        self.into = nn.Linear(width, dim, bias=False)
        self.query = nn.Linear(dim, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    @property
    def pairs(self) -> Tensor:
        """The pairs that have a row, int64 [R, 2], in the order of the rows."""
        return self.row.nonzero()

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw small random weights; after `start_from` the tokens are at the scale of the code embeddings."""
        nn.init.normal_(self.table.get_parameter("weight"), std=0.02)
        self.table.get_parameter("weight")[0] = 0.0
        nn.init.normal_(self.into.weight, std=self.into.in_features**-0.5)
        nn.init.normal_(self.query.weight, std=0.02)

    @torch.no_grad()
    def start_from(self, vectors: NDArray[np.float32], sids: NDArray[np.integer]) -> None:
        """Add to each embedding the mean vector of its items, scaled: float32 [n_items, P], for the rows of `sids`."""
        codes = torch.from_numpy(sids[:, :2].astype(np.int64))
        rows = self.row[codes[:, 0], codes[:, 1]]
        weight: Tensor = self.table.get_parameter("weight")
        total = torch.zeros_like(weight).index_add_(0, rows, torch.from_numpy(vectors))
        count = torch.bincount(rows, minlength=len(weight)).clamp(min=1)
        weight += START_LENGTH * total / count[:, None]
        weight[0] = 0.0

    def tokens(self, sids: Tensor) -> Tensor:
        """Return what pairs add to the tokens of their items: SIDs int [..., ≥ 2] -> [..., D]."""
        return self.into(self.table(self.row[sids[..., 0], sids[..., 1]]))  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, first: Tensor) -> Tensor:
        """Return what pairs add to the logits of the second code: hidden [n, D], first codes [n, W] -> [n, W, K]."""
        weight: Tensor = self.table.weight  # not `get_parameter`: pruning replaces the parameter by a product
        query = self.query(self.dropout(hidden))
        if first.shape[1] == 1 and self.branch.shape[1] * weight.shape[1] < len(weight):
            return self._branch_logits(query, first[:, 0], weight)
        scores = F.pad(query @ weight[1:].T, (1, 0))  # [n, 1 + R]
        rows = self.row[first]  # [n, W, K]
        return scores.gather(1, rows.flatten(1)).view(rows.shape)

    def _branch_logits(self, query: Tensor, first: Tensor, weight: Tensor) -> Tensor:
        """The same for one first code each, [n] -> [n, 1, K], from the rows of its own pairs alone: faster training."""
        rows = F.embedding(self.branch[first], weight, padding_idx=0)  # [n, M, P]
        scores = torch.bmm(rows, query[:, :, None])[..., 0]  # [n, M]
        scores = scores.masked_fill(self.branch[first] == 0, 0.0)  # where a branch has no more pairs
        out = scores.new_zeros(len(scores), self.row.shape[1])
        return out.scatter_add(1, self.seconds[first], scores)[:, None]


def _branches(pairs: NDArray[np.int64], codes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and second codes of the pairs of each first code, int64 [K, M]; row 0 and code 0 fill up.

    :param pairs: int64 [R, 2], rising; pair i has row i + 1.
    """
    size = np.bincount(pairs[:, 0], minlength=codes)
    place = np.arange(len(pairs)) - np.repeat(np.cumsum(size) - size, size)
    branch, seconds = (np.zeros((codes, max(1, size.max(initial=0))), np.int64) for _ in range(2))
    branch[pairs[:, 0], place], seconds[pairs[:, 0], place] = np.arange(1, len(pairs) + 1), pairs[:, 1]
    return branch, seconds
