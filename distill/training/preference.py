"""Preference stages: train the distilled student to rank the item that a user took above items that the user did not.

On the path of the data: between the trained student and export. Both methods are modules that take a `Batch` and return
a summed loss, so `fit` trains them. Each holds the student and the reference, a frozen copy of the student before the
stage. Promises: nothing is random (the compared items come from beam searches, and there is no dropout), so a run that
was resumed, or split over micro-batches and processes, computes the same; student and reference agree at the first
step; `refine` returns the student it was given unless validation improves.

Shapes in comments: n positions, W items beside each other, L levels, K codes, D width.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pocketrec.distill.config import PreferenceConfig
from pocketrec.distill.data.batches import Batch, window_batches
from pocketrec.distill.data.splits import Split
from pocketrec.distill.evaluation.student_ranker import TorchEngine, rows_trie
from pocketrec.distill.evaluation.validation import Validation
from pocketrec.distill.models.student import Student
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.distill.training.losses import code_log_probs, item_log_probs
from pocketrec.distill.training.trainer import fit
from pocketrec.runtime.catalogue.beam import beam_search
from pocketrec.runtime.errors import ConfigError

logger = logging.getLogger(__name__)

MIN_DEVIATION = 1e-6  # floor of the standard deviation of rewards within a group


class _Preference(nn.Module):
    """The student that is trained, and the reference: a frozen copy of it at the start."""

    sids: Tensor

    def __init__(self, student: Student, sids: NDArray[np.integer], config: PreferenceConfig) -> None:
        """Wrap a student; its present weights are the reference.

        :param sids: [n_items, L], the catalogue's semantic IDs.
        :raises ConfigError: if there are fewer than two items.
        """
        super().__init__()
        if len(sids) < 2:
            raise ConfigError(
                "the catalogue has fewer than 2 items, so there are no preferences to learn; "
                "set preference.method = 'none'"
            )
        self.student, self.config = student, config
        self.reference = copy.deepcopy(student).requires_grad_(False)
        self.register_buffer("sids", torch.from_numpy(sids.astype(np.int64)), persistent=False)
        self.trie = rows_trie(sids, student.codes)
        self.eval()

    def train(self, mode: bool = True) -> _Preference:
        """Stay in eval mode: with dropout, the ratio of two models would be mostly noise."""
        return super().train(False)

    def _hidden(self, student: Student, batch: Batch) -> Tensor:
        hidden = student(self.sids[batch.inputs], batch.is_start, batch.mask)
        return hidden.flatten(0, 1)[batch.loss_at]  # type: ignore[no-any-return]  # [n, D]

    def beam(self, student: Student, hidden: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Search a student's top items: hidden [n, D] -> SIDs int64 [n, W, L], best first; which exist, bool [n, W].

        With fewer than W items in the catalogue, the last slots do not exist; they hold an arbitrary SID.
        """
        # In full precision, as on the device; autocast would also reuse its casts in the pass with gradients.
        with torch.autocast(hidden.device.type, enabled=False):
            states = hidden.detach().float().cpu().numpy()
            found = beam_search(states, TorchEngine(student).score_level, self.trie, width)
        leaves = torch.from_numpy(found.rows.astype(np.int64)).to(hidden.device)
        rows = torch.from_numpy(self.trie.rows.astype(np.int64)).to(hidden.device)
        return rows[leaves.clamp(min=0)], leaves >= 0


class SoftmaxDpo(_Preference):
    """S-DPO: the item that the user took against several rejected items (Chen et al. 2024, arXiv 2406.09215).

        L = −log σ(−log Σ_d exp(r(d) − r(p))),   r(i) = β · (log π(i | x) − log π_ref(i | x))

    p is the item taken after history x, d runs over the rejected items; log π(i | x) is the sum of the levels'
    log-probabilities along the item's SID. L equals log(1 + Σ_d exp(r(d) − r(p))), the cross-entropy of p in a softmax
    over p and the rejected items.

    The rejected items are those that the reference recommends: its beam over the trie without p. (The paper draws them
    at random; items drawn by popularity lowered validation on Amazon Beauty at every learning rate tried.) These hard
    negatives need small steps: with a learning rate of 1e-5 validation improved, with 1e-4 the probabilities of the
    whole beam fell, including that of p.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the batch's positions."""
        target = self.sids[batch.targets]
        with torch.no_grad():
            start = self._hidden(self.reference, batch)
            rejected, alive = without_target(*self.beam(self.reference, start, self.config.negatives + 1), target)
            sids = torch.cat((target[:, None], rejected), 1)  # [n, 1 + N, L], the target first
            theirs = item_log_probs(self.reference, start, sids)
        rewards = self.config.beta * (item_log_probs(self.student, self._hidden(self.student, batch), sids) - theirs)
        rewards = torch.cat((rewards[:, :1], rewards[:, 1:].masked_fill(~alive, -torch.inf)), 1)
        return F.cross_entropy(rewards, torch.zeros_like(batch.targets), reduction="sum")


class Grpo(_Preference):
    """GRPO over constrained beams: the student's own recommendations, rewarded by the item that the user took.

        L = 1/W Σ_i 1/L Σ_l −A_i · π(c_l | x, c_<l) / π_old(c_l | x, c_<l) + β · KL(π ‖ π_ref)(x, c_<l)

    (Shao et al. 2024, eq. 3. Each group is used once, so π_old is π without a gradient and nothing is clipped. The KL
    over a level's codes is exact, not the paper's estimate from a sample.) A group is the student's own beam of W items
    over the trie, as in ReRe (Tan et al. 2025, arXiv 2510.12211) and MiniOneRec (Kong et al. 2025): its items exist,
    are distinct, and are the hardest negatives. Rewards are from `group_rewards`, and A_i = (reward − mean) / standard
    deviation within the group.

    In a group without the target all advantages are 0, and only the KL remains. There is a group for each of the newest
    `positions` targets of a window, since these cases are the most similar to those on a device.
    """

    def __init__(
        self, student: Student, sids: NDArray[np.integer], config: PreferenceConfig, positions: int = 1
    ) -> None:
        """Wrap a student; its present weights are the reference.

        :param sids: [n_items, L], the catalogue's semantic IDs.
        :param positions: groups per window.
        :raises ConfigError: if there are fewer than two items.
        """
        super().__init__(student, sids, config)
        self.positions = positions

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the groups (the trainer divides by the number of all positions)."""
        newest = newest_positions(batch.segment.flatten()[batch.loss_at], self.positions)
        hidden = self._hidden(self.student, batch)[newest]
        sids, alive = self.beam(self.student, hidden, self.config.negatives)
        hits = (sids == self.sids[batch.targets[newest], None]).all(-1) & alive
        advantages = group_advantages(hits, alive)
        with torch.no_grad():
            start = code_log_probs(self.reference, self._hidden(self.reference, batch)[newest], sids)
        total = hidden.new_zeros(())
        for level, (p, q) in enumerate(zip(code_log_probs(self.student, hidden, sids), start, strict=True)):
            chosen = p.expand(*sids.shape[:2], -1).gather(-1, sids[..., level, None])[..., 0]  # [n, W]
            ratio = (chosen - chosen.detach()).exp()
            drift = (p.exp() * (p - q)).sum(-1)  # [n, W], or [n, 1] at the first level
            each = (self.config.beta * drift - advantages * ratio) * alive
            total = total + (each.sum(1) / alive.sum(1)).sum()
        return total / sids.shape[2]


def without_target(sids: Tensor, alive: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Remove the target from each group, or the last item if the target is not in it, so groups have the same size.

    :param sids: int64 [n, W, L], distinct where `alive`. alive: bool [n, W], slots that exist. target: int64 [n, L].
    :returns: SIDs [n, W - 1, L] and which exist, bool [n, W - 1], in the same order.
    """
    hits = (sids == target[:, None]).all(-1) & alive
    stay = hits.int().argsort(dim=1, stable=True)[:, :-1]
    return sids.gather(1, stay[..., None].expand(-1, -1, sids.shape[2])), alive.gather(1, stay)


def newest_positions(window: Tensor, number: int) -> Tensor:
    """Return the indices of the last `number` positions of each window, int64 [m], ascending.

    :param window: the window of each position, int64 [n]; positions of a window are consecutive.
    """
    _, sizes = torch.unique_consecutive(window, return_counts=True)
    left = sizes.cumsum(0).repeat_interleave(sizes) - torch.arange(len(window), device=window.device)
    places: Tensor = (left <= number).nonzero()[:, 0]
    return places


def group_rewards(hits: Tensor, alive: Tensor) -> Tensor:
    """Return the reward of every item of a group, for the hit and for the ranks of the others (Tan et al. 2025).

        1 for the target;  −(1 / log2(ρ + 1)) / Σ_j (1 / log2(ρ_j + 1)) for any other item, where ρ = 1 is the best

    The sum is over the items other than the target. They share −1, and an item that is ranked higher gets more of it.
    In a group without the target all rewards are 0, as in MiniOneRec's code (which divides by the sum over all ranks).

    :param hits: which item is the target, bool [n, W], best first. alive: slots that exist, bool [n, W].
    :returns: float32 [n, W].
    """
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device, dtype=torch.float32)
    penalty = (alive & ~hits) / torch.log2(rank + 1)
    shared = penalty / penalty.sum(1, keepdim=True).clamp(min=MIN_DEVIATION)
    return (hits.float() - shared) * hits.any(1, keepdim=True)


def group_advantages(hits: Tensor, alive: Tensor) -> Tensor:
    """Return `group_rewards`, normalised within each group (Shao et al. 2024, section 4.1.2), float32 [n, W].

    Slots that do not exist get 0.
    """
    rewards, count = group_rewards(hits, alive), alive.sum(1, keepdim=True)
    centred = (rewards - rewards.sum(1, keepdim=True) / count) * alive
    deviation = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=MIN_DEVIATION)


def refine(
    student: Student,
    split: Split,
    ids: SemanticIds,
    config: PreferenceConfig,
    folder: Path,
    progress: Progress = SILENT,
) -> tuple[Student, dict[str, Any]]:
    """Run the configured preference stage; its result is kept only if validation improves.

    :param student: the student to start from; it is not changed.
    :param folder: checkpoints are written to its subfolder `training`, from which an interrupted run resumes.
    :returns: the refined student, or `student` itself; and a report: `method`, `kept`, the validation scores `before`
        and `after` (on the same cases), and the training curves `losses` and `validations`.
    """
    if config.method == "none":
        return student, {"method": "none", "kept": False}

    validation = Validation.of(split, len(ids.rows), config.train)

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, _Preference)
        return validation.student_scores(model.student, ids)

    model = make_preference(copy.deepcopy(student), ids.rows, config)
    before = validate(model)
    batches = window_batches(split.train, student.config.max_history, config.train)
    label = f"refining the student by {config.method}"
    state = fit(model, batches, validate, config.train, folder / "training", progress, label)
    after = validate(model)
    kept = after[config.train.metric] > before[config.train.metric]
    logger.info("%s: validation %s before, %s after; %s", config.method, before, after, "kept" if kept else "undone")
    curves = {"losses": state.losses, "validations": state.validations}
    result = {"method": config.method, "kept": kept, "before": before, "after": after, **curves}
    return model.student.eval() if kept else student, result


def make_preference(student: Student, sids: NDArray[np.integer], config: PreferenceConfig) -> SoftmaxDpo | Grpo:
    """Wrap a student in the loss of the configured method.

    :param sids: [n_items, L], the catalogue's semantic IDs.
    :raises ConfigError: if no method is configured, or there are fewer than two items.
    """
    if config.method == "s-dpo":
        return SoftmaxDpo(student, sids, config)
    if config.method == "grpo":
        return Grpo(student, sids, config)
    raise ConfigError("preference.method is 'none'; set it to 's-dpo' or 'grpo'")
