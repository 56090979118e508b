"""Preference stages: after distillation, teach the student to put the item that was taken before those that were not.

On the path of the data: between the trained student and export. Both methods are modules that take a `Batch` and return
a summed loss, so `distill.trainer.fit` trains them. Each holds the student and a frozen copy of it as it began (the
reference). Promises: nothing is drawn at random (the items compared come from beam searches, and there is no dropout),
so a run that was killed and started again, or split over micro-batches and processes, sees the same; student and
reference agree at the first step; `refine` gives the start back unless validation has improved.

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
from pocketrec.distill.evaluation.protocol import student_scores
from pocketrec.distill.evaluation.student_ranker import TorchEngine, rows_trie
from pocketrec.distill.models.student import Student
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.distill.training.losses import code_log_probs, item_log_probs
from pocketrec.distill.training.trainer import fit
from pocketrec.runtime.catalogue.beam import beam_search
from pocketrec.runtime.errors import ConfigError

logger = logging.getLogger(__name__)

FLAT = 1e-6  # rewards of a group that differ by less (standard deviation) say nothing


class _Preference(nn.Module):
    """The student being trained, and the frozen copy of its start that it is compared with."""

    sids: Tensor

    def __init__(self, student: Student, sids: NDArray[np.integer], config: PreferenceConfig) -> None:
        """Wrap a student, whose weights now are the reference.

        :param sids: [n_items, L], the catalogue's semantic IDs.
        :raises ConfigError: if there are fewer than two items.
        """
        super().__init__()
        if len(sids) < 2:
            raise ConfigError("the catalogue has fewer than 2 items, so there is nothing to prefer one to")
        self.student, self.config = student, config
        self.reference = copy.deepcopy(student).requires_grad_(False)
        self.register_buffer("sids", torch.from_numpy(sids.astype(np.int64)), persistent=False)
        self.trie = rows_trie(sids, student.codes)
        self.eval()

    def train(self, mode: bool = True) -> _Preference:
        """Stay in eval mode whatever is asked for: a ratio of two models with dropout would be mostly noise."""
        return super().train(False)

    def _hidden(self, student: Student, batch: Batch) -> Tensor:
        hidden = student(self.sids[batch.inputs], batch.is_start, batch.mask)
        return hidden.flatten(0, 1)[batch.loss_at]  # type: ignore[no-any-return]  # [n, D]

    def beam(self, student: Student, hidden: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Search a student's best items: hidden [n, D] -> SIDs int64 [n, W, L], best first; which exist, bool [n, W].

        A slot that does not exist (a catalogue smaller than the beam) comes last and holds any SID.
        """
        # In full precision, as on the device, and apart from the casts that autocast keeps for the pass with gradients.
        with torch.autocast(hidden.device.type, enabled=False):
            states = hidden.detach().float().cpu().numpy()
            found = beam_search(states, TorchEngine(student).score_level, self.trie, width)
        leaves = torch.from_numpy(found.rows.astype(np.int64)).to(hidden.device)
        rows = torch.from_numpy(self.trie.rows.astype(np.int64)).to(hidden.device)
        return rows[leaves.clamp(min=0)], leaves >= 0


class SoftmaxDpo(_Preference):
    """S-DPO: the item that was taken against several others (Chen et al. 2024, arXiv 2406.09215).

        L = −log σ(−log Σ_d exp(r(d) − r(p))),   r(i) = β · (log π(i | x) − log π_ref(i | x))

    p is the item taken after history x, d runs over the rejected ones; log π(i | x) is the sum of the levels'
    log-probabilities along the item's SID. Written out, L = log(1 + Σ_d exp(r(d) − r(p))): the cross-entropy of p in
    a softmax over p and its rejected items.

    The rejected items are what the reference would have recommended instead: its beam over the trie, less p. (The
    paper draws them at random; items drawn by popularity lowered Beauty's validation at every rate tried.) So hard a
    comparison wants small steps: a learning rate of 1e-5 gained where 1e-4 pushed the whole beam down, p with it.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the batch's positions."""
        target = self.sids[batch.targets]
        with torch.no_grad():
            start = self._hidden(self.reference, batch)
            rejected, alive = without_target(*self.beam(self.reference, start, self.config.negatives + 1), target)
            sids = torch.cat((target[:, None], rejected), 1)  # [n, 1 + N, L], the chosen first
            theirs = item_log_probs(self.reference, start, sids)
        rewards = self.config.beta * (item_log_probs(self.student, self._hidden(self.student, batch), sids) - theirs)
        rewards = torch.cat((rewards[:, :1], rewards[:, 1:].masked_fill(~alive, -torch.inf)), 1)
        return F.cross_entropy(rewards, torch.zeros_like(batch.targets), reduction="sum")


class Grpo(_Preference):
    """GRPO over constrained beams: what the student would recommend now, rewarded by what was taken.

        L = 1/W Σ_i 1/L Σ_l −A_i · π(c_l | x, c_<l) / π_old(c_l | x, c_<l) + β · KL(π ‖ π_ref)(x, c_<l)

    (Shao et al. 2024, eq. 3; each group is used once, so that π_old is π without a gradient and nothing is clipped. The
    KL is the exact one of a level's codes, not the paper's estimate from a sample.) The group is the student's own
    beam of W items over the trie, as in ReRe (Tan et al. 2025, arXiv 2510.12211) and MiniOneRec (Kong et al. 2025):
    beam search gives items that exist, differ, and are the hardest to tell from the right one. Rewards are those of
    `group_rewards`, A_i = (reward − mean) / standard deviation within the group.

    A group that misses the target cannot tell good from bad: its advantages are 0 and the KL alone is left.
    The groups are those of each window's newest `positions` targets, the questions most like a device's.
    """

    def __init__(
        self, student: Student, sids: NDArray[np.integer], config: PreferenceConfig, positions: int = 1
    ) -> None:
        """Wrap a student, whose weights now are the reference.

        :param sids: [n_items, L], the catalogue's semantic IDs.
        :param positions: groups per window.
        :raises ConfigError: if there are fewer than two items.
        """
        super().__init__(student, sids, config)
        self.positions = positions

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the groups (not over all positions, by which the trainer divides)."""
        newest = newest_positions(batch.segment.flatten()[batch.loss_at], self.positions)
        hidden = self._hidden(self.student, batch)[newest]
        sids, alive = self.beam(self.student, hidden, self.config.negatives)
        hits = (sids == self.sids[batch.targets[newest], None]).all(-1) & alive
        advantages = group_advantages(hits, alive)
        with torch.no_grad():
            start = code_log_probs(self.reference, self._hidden(self.reference, batch)[newest], sids)
        total = hidden.new_zeros(())
        for level, (p, q) in enumerate(zip(code_log_probs(self.student, hidden, sids), start, strict=True)):
            spelt = p.expand(*sids.shape[:2], -1).gather(-1, sids[..., level, None])[..., 0]  # [n, W]
            ratio = (spelt - spelt.detach()).exp()
            drift = (p.exp() * (p - q)).sum(-1)  # [n, W], or [n, 1] at the first level
            each = (self.config.beta * drift - advantages * ratio) * alive
            total = total + (each.sum(1) / alive.sum(1)).sum()
        return total / sids.shape[2]


def without_target(sids: Tensor, alive: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Take the target out of each group, or else the last item, so that groups stay of one size.

    :param sids: int64 [n, W, L], distinct where `alive`. alive: bool [n, W], the dead last. target: int64 [n, L].
    :returns: SIDs [n, W - 1, L] and which exist, bool [n, W - 1], in the order they had.
    """
    hits = (sids == target[:, None]).all(-1) & alive
    stay = hits.int().argsort(dim=1, stable=True)[:, :-1]
    return sids.gather(1, stay[..., None].expand(-1, -1, sids.shape[2])), alive.gather(1, stay)


def newest_positions(window: Tensor, number: int) -> Tensor:
    """Find the last `number` positions of every window: int64 [n], windows side by side -> rising places int64 [m]."""
    _, sizes = torch.unique_consecutive(window, return_counts=True)
    left = sizes.cumsum(0).repeat_interleave(sizes) - torch.arange(len(window), device=window.device)
    places: Tensor = (left <= number).nonzero()[:, 0]
    return places


def group_rewards(hits: Tensor, alive: Tensor) -> Tensor:
    """Reward every item of a group: the hit, and the ranks of the others (after ReRe, Tan et al. 2025).

        1 for the target;  −(1 / log2(ρ + 1)) / Σ_j (1 / log2(ρ_j + 1)) for any other item, where ρ = 1 is the best

    The sum runs over the others, so that they share −1, the one most wrongly put first the most of it. In a group
    that misses the target all rewards are 0 (as in MiniOneRec's code, which divides by the sum over all ranks instead).

    :param hits: bool [n, W], best first: which item is the target. alive: bool [n, W].
    :returns: float32 [n, W].
    """
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device, dtype=torch.float32)
    penalty = (alive & ~hits) / torch.log2(rank + 1)
    shared = penalty / penalty.sum(1, keepdim=True).clamp(min=FLAT)
    return (hits.float() - shared) * hits.any(1, keepdim=True)


def group_advantages(hits: Tensor, alive: Tensor) -> Tensor:
    """Normalise `group_rewards` within each group (Shao et al. 2024, section 4.1.2): float32 [n, W], 0 where dead."""
    rewards, count = group_rewards(hits, alive), alive.sum(1, keepdim=True)
    centred = (rewards - rewards.sum(1, keepdim=True) / count) * alive
    deviation = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=FLAT)


def refine(
    student: Student,
    split: Split,
    ids: SemanticIds,
    config: PreferenceConfig,
    folder: Path,
    progress: Progress = SILENT,
) -> tuple[Student, dict[str, Any]]:
    """Run the configured preference stage, and keep what it did only if validation has improved.

    :param student: the start; left as it is.
    :param folder: its part `training` gets checkpoints, and is where an interrupted run goes on from.
    :returns: the refined student, or `student` itself; and what happened: `method`, `kept`, the validation measures
        `before` and `after` (of the same questions), and the training curves `losses` and `validations`.
    """
    if config.method == "none":
        return student, {"method": "none", "kept": False}

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, _Preference)
        return student_scores(model.student, split, ids, config.train)

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
    """Wrap a student in the configured method.

    :param sids: [n_items, L], the catalogue's semantic IDs.
    :raises ConfigError: if no method is configured, or there are fewer than two items.
    """
    if config.method == "s-dpo":
        return SoftmaxDpo(student, sids, config)
    if config.method == "grpo":
        return Grpo(student, sids, config)
    raise ConfigError("preference.method is 'none'; set it to 's-dpo' or 'grpo'")
