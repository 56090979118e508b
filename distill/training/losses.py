"""The student's losses, as modules that take a `Batch` and return the summed loss of its positions.

As modules they can be wrapped for several processes; as sums they can be split over micro-batches.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pocketrec.distill.committee.soft_labels import SoftLabels
from pocketrec.distill.config import DistillConfig
from pocketrec.distill.data.batches import Batch
from pocketrec.distill.models.student import Student
from pocketrec.runtime.errors import ConfigError


class HardLabels(nn.Module):
    """Cross-entropy of every level along the true item's SID: the negative log-likelihood of the item.

    TIGER (Rajput et al. 2023, section 3.2), with the levels factored by the student's decoder.
    """

    sids: Tensor

    def __init__(
        self, student: Student, sids: NDArray[np.integer], label_smoothing: float = 0.0, unlikelihood: float = 0.0
    ) -> None:
        """Wrap a student.

        :param sids: [n_items, L], the catalogue's semantic IDs.
        :param unlikelihood: weight of `unlikelihood_of_seen`.
        """
        super().__init__()
        self.student, self.label_smoothing, self.unlikelihood = student, label_smoothing, unlikelihood
        self.register_buffer("sids", torch.from_numpy(sids.astype(np.int64)), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the batch's positions."""
        hidden = self.student(self.sids[batch.inputs], batch.is_start, batch.mask)
        hidden = hidden.flatten(0, 1)[batch.loss_at]  # [n, D]
        target = self.sids[batch.targets]  # [n, L]
        loss = cross_entropy(self.student.level_logits(hidden, target), target, self.label_smoothing)
        if self.unlikelihood:
            loss = loss + self.unlikelihood * unlikelihood_of_seen(self.student, self.sids, hidden, batch)
        return loss


class Distillation(nn.Module):
    """Hard labels, soft labels and features together (SLMRec, Xu et al. 2025, section 3.3).

        L = hard · CE(true SID) + soft · T² · Σ_l KL(q_l ‖ p_l)
            + cosine · Σ_b (1 − cos(W_b s_b, t_b)) + norm · Σ_b ‖W_b s_b − t_b‖₂ + intermediate · Σ_b CE(s_b)

    q_l is the teacher's item distribution summed over the trie: the probability of each code at level l among the
    items that share the true prefix c_<l (T²·KL as in Hinton et al. 2015, section 2, up to the teacher's entropy). With
    `sampled` > 0, hard and soft labels together become a cross-entropy over whole items, which also trains prefixes
    other than the true one (`expected_cross_entropy`); the temperature then only sharpens or flattens q. s_b and t_b
    are hidden states of student and teacher after b of B aligned blocks, W_b is a learned projection (SLMRec eq. 7 and
    8), and CE(s_b) is the cross-entropy of codes predicted from an earlier block (eq. 9).
    """

    sids: Tensor

    def __init__(
        self,
        student: Student,
        sids: NDArray[np.integer],
        labels: SoftLabels,
        config: DistillConfig,
        unlikelihood: float = 0.0,
    ) -> None:
        """Wrap a student.

        :param sids: [n_items, L], the catalogue's semantic IDs.
        :param labels: soft labels of the histories that the batches come from.
        :param unlikelihood: weight of `unlikelihood_of_seen`.
        :raises ConfigError: if the student has fewer layers than aligned blocks, or the labels have no features of as
            many blocks.
        """
        super().__init__()
        self.student, self.labels, self.config, self.unlikelihood = student, labels, config, unlikelihood
        self.register_buffer("sids", torch.from_numpy(sids.astype(np.int64)), persistent=False)
        self.projections = nn.ModuleList()
        layers = student.config.layers
        self.ends = block_ends(layers, config.blocks)
        if (config.cosine or config.norm or config.intermediate) and layers < config.blocks:
            raise ConfigError(
                f"distill.blocks is {config.blocks}, but the student has {layers} layers; "
                f"set distill.blocks to at most {layers}"
            )
        if config.cosine or config.norm:
            if not labels.features or labels.features[0] != config.blocks:
                raise ConfigError(
                    f"distill.cosine and distill.norm need the teacher's features of {config.blocks} blocks; "
                    f"set soft_labels.features to {config.blocks}, the value of distill.blocks"
                )
            width = labels.features[1]
            self.projections = nn.ModuleList(nn.Linear(student.config.dim, width, bias=False) for _ in self.ends)

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss over the batch's positions."""
        states = self.student.states(self.sids[batch.inputs], batch.is_start, batch.mask)
        states = [state.flatten(0, 1)[batch.loss_at] for state in states]  # [n, D] each
        total = self._labels(batch, states[-1])
        if self.unlikelihood:
            total = total + self.unlikelihood * unlikelihood_of_seen(self.student, self.sids, states[-1], batch)
        if self.config.intermediate:
            target = self.sids[batch.targets]
            for end in self.ends[:-1]:
                early = self.student.level_logits(states[end], target)
                total = total + self.config.intermediate * cross_entropy(early, target)
        return total + self._features(batch, states) if self.projections else total

    def _labels(self, batch: Batch, hidden: Tensor) -> Tensor:
        hard, soft, temperature = self.config.hard, self.config.soft, self.config.temperature
        target = self.sids[batch.targets]  # [n, L]
        if not soft:
            return hard * cross_entropy(self.student.level_logits(hidden, target), target)
        rows, values = self.labels.at(batch.events.cpu().numpy())
        items = torch.from_numpy(rows.astype(np.int64)).to(hidden.device)
        p = torch.from_numpy(values).to(hidden.device).pow(1 / temperature)
        p = p / p.sum(1, keepdim=True).clamp(min=1e-9)
        if self.config.sampled:
            items = torch.cat((batch.targets[:, None], items), 1)
            weights = torch.cat((torch.full_like(p[:, :1], hard), soft * p), 1)
            return expected_cross_entropy(self.student, hidden, self.sids[items], weights, self.config.sampled)
        logits = self.student.level_logits(hidden, target)
        total = hard * cross_entropy(logits, target)
        for level, goal in zip(logits, level_marginals(self.sids[items], p, target, self.student.codes), strict=True):
            kl = -(goal * (level.float() / temperature).log_softmax(-1)).sum()
            total = total + soft * temperature**2 * kl
        return total

    def _features(self, batch: Batch, states: list[Tensor]) -> Tensor:
        features = torch.from_numpy(self.labels.features_at(batch.events.cpu().numpy())).to(states[0].device)
        total = torch.zeros((), device=states[0].device)
        for block, (end, project) in enumerate(zip(self.ends, self.projections, strict=True)):
            mine, theirs = project(states[end]).float(), features[:, block]
            total = total + self.config.cosine * (1 - F.cosine_similarity(mine, theirs)).sum()
            total = total + self.config.norm * (mine - theirs).norm(dim=1).sum()
        return total


def block_ends(layers: int, blocks: int) -> list[int]:
    """Return the last layer, counted from 0, of each of `blocks` equal parts of a model."""
    return [layers * (block + 1) // blocks - 1 for block in range(blocks)]


def unlikelihood_of_seen(student: Student, sids: Tensor, hidden: Tensor, batch: Batch) -> Tensor:
    """Return the summed −log(1 − P(item)) over the items of each position's history, without its target.

    Unlikelihood training (Welleck et al. 2020, equation 4) against repeating the history, for logs in which users do
    not return to an item. One item of the history is drawn per position and weighted by the history's length, which
    gives an unbiased estimate.

    :param hidden: hidden states at the batch's loss positions, [n, D].
    """
    position = batch.position.flatten()[batch.loss_at]
    age = (torch.rand(len(position), device=position.device) * position).long()
    seen = batch.inputs.flatten()[batch.loss_at - age]
    chosen = (position > 0) & (seen != batch.targets)
    log_p = item_log_probs(student, hidden[chosen], sids[seen[chosen], None])[:, 0]
    probability = log_p.exp().clamp(max=1 - 1e-4)
    return -(torch.log1p(-probability) * position[chosen]).sum()


def code_log_probs(student: Student, hidden: Tensor, sids: Tensor) -> list[Tensor]:
    """Return log-probabilities of every code after each item's prefixes, with gradients.

    :param hidden: [n, D]. sids: int64 [n, W, L].
    :returns: L tensors, float32: [n, 1, K] at the first level, which has no prefix, [n, W, K] at the others.
    """
    return [student.code_logits(level, hidden, sids).float().log_softmax(-1) for level in range(student.levels)]


def item_log_probs(student: Student, hidden: Tensor, sids: Tensor) -> Tensor:
    """Return log-probabilities of items, float32 [n, W]: hidden [n, D], SIDs int64 [n, W, L]."""
    levels = code_log_probs(student, hidden, sids)
    steps = [p.expand(*sids.shape[:2], -1).gather(-1, sids[..., i, None])[..., 0] for i, p in enumerate(levels)]
    return torch.stack(steps).sum(0)


def cross_entropy(logits: list[Tensor], target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the summed cross-entropy of all levels: L logits [n, K], true SIDs [n, L]."""
    losses = [
        F.cross_entropy(level.float(), target[:, n], reduction="sum", label_smoothing=label_smoothing)
        for n, level in enumerate(logits)
    ]
    return torch.stack(losses).sum()


def expected_cross_entropy(student: Student, hidden: Tensor, sids: Tensor, weights: Tensor, count: int) -> Tensor:
    """Return an unbiased estimate of Σ_i w_i · −log p(i) over weighted items, summed over positions.

    The term of the first level is exact. For every other level `count` prefixes are drawn by weight, and the next codes
    are matched with their conditional distribution under the prefix, not with the drawn item's code alone:
    sequence-level distillation (Kim & Rush 2016, section 3.2) with the sums that the trie allows computed exactly
    (Rao-Blackwell).

    :param hidden: [n, D]. sids: int64 [n, M, L]. weights: float [n, M], with a positive sum in every row.
    :param count: prefixes drawn per position.
    """
    log_p = student.code_logits(0, hidden, sids[:, :1]).float().log_softmax(-1)[:, 0]  # [n, K]
    total = -(weights * log_p.gather(1, sids[..., 0])).sum()
    drawn = torch.multinomial(weights, count, replacement=True)  # [n, count]
    prefixes = sids.gather(1, drawn[..., None].expand(-1, -1, sids.shape[2]))  # [n, count, L]
    each = weights.sum(1, keepdim=True) / count  # weight that a drawn prefix represents
    mass = weights[:, None].expand(-1, count, -1)  # of the items behind each drawn prefix, [n, count, M]
    for level in range(1, student.levels):
        mass = mass * (sids[:, None, :, level - 1] == prefixes[..., level - 1, None])
        goal = torch.zeros(*drawn.shape, student.codes, device=hidden.device)
        goal.scatter_add_(2, sids[:, None, :, level].expand_as(mass), mass / mass.sum(2, keepdim=True))
        log_p = student.code_logits(level, hidden, prefixes).float().log_softmax(-1)
        total = total - (each[..., None] * goal * log_p).sum()
    return total


def level_marginals(sids: Tensor, probabilities: Tensor, target: Tensor, codes: int) -> list[Tensor]:
    """Return, per level, the distribution of codes among the given items that share the target's prefix.

    Where no item has the prefix, the target's code has probability 1.

    :param sids: int64 [n, M, L]. probabilities: float [n, M]. target: int64 [n, L].
    :returns: L tensors [n, codes], each row summing to 1.
    """
    goals = []
    mass = probabilities
    for level in range(target.shape[1]):
        code = target[:, level, None]
        total = mass.sum(1, keepdim=True)
        known = total > 1e-6
        goal = torch.zeros(len(target), codes, device=target.device)
        goal.scatter_add_(1, sids[..., level], mass / total.clamp(min=1e-6) * known)
        goal.scatter_add_(1, code, (~known).to(goal))
        goals.append(goal)
        mass = mass * (sids[..., level] == code)
    return goals
