"""What a model is trained on, as modules that take a `Batch` and return the summed loss of its positions.

Being modules they can be wrapped for several processes; being sums they can be split over micro-batches.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pocketrec.distill.batches import Batch
from pocketrec.distill.student import Student


class HardLabels(nn.Module):
    """Cross-entropy of every level along the true item's SID: the negative log-likelihood of the item.

    TIGER (Rajput et al. 2023, section 3.2), with the levels factored by the student's decoder.
    """

    sids: Tensor

    def __init__(self, student: Student, sids: NDArray[np.integer], label_smoothing: float = 0.0) -> None:
        """Wrap a student.

        :param sids: [n_items, L], the catalogue's semantic IDs.
        """
        super().__init__()
        self.student, self.label_smoothing = student, label_smoothing
        self.register_buffer("sids", torch.from_numpy(sids.astype(np.int64)), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the batch's positions."""
        hidden = self.student(self.sids[batch.inputs], batch.is_start, batch.mask)
        hidden = hidden.flatten(0, 1)[batch.loss_at]  # [n, D]
        target = self.sids[batch.targets]  # [n, L]
        logits = self.student.level_logits(hidden, target)
        return torch.stack(
            [
                F.cross_entropy(level.float(), target[:, n], reduction="sum", label_smoothing=self.label_smoothing)
                for n, level in enumerate(logits)
            ]
        ).sum()
