"""How long the stages of a run will take, from the data's size: simple cost formulas, calibrated on two idle cores.

`reference_seconds` is pure. `machine_speed` compares this machine with the reference by a matrix product of a second.
The formulas are good to a factor of about 1.5; a busy machine is slower.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from pocketrec.distill.config import RunConfig
from pocketrec.sizes import DataFacts, dense_parameters

REFERENCE_CORES = 2
CORE_RATE = 110.0  # GFLOP/s of a float32 matrix product on one core of the reference machine
GPU_SPEED = 20.0  # of training stages, relative to the reference
# FLOP/s that the stages of the reference machine reach
SASREC_RATE, STUDENT_RATE, TEXT_RATE = 100e9, 68e9, 80e9
TRAINING = ("text", "teacher", "sasrec", "sasrec-folds", "soft-labels", "student", "distill", "prune", "preference")


@dataclass(frozen=True)
class Machine:
    """The processors that a run may use."""

    cores: int = REFERENCE_CORES
    gpu: bool = False

    @staticmethod
    def here() -> Machine:
        """Look at this machine."""
        import torch

        return Machine(available_cores(), torch.cuda.is_available())

    @property
    def speed(self) -> float:
        """Nominal speed of training, relative to two idle cores; more than eight cores add little."""
        return GPU_SPEED if self.gpu else min(self.cores, 8) / REFERENCE_CORES


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_speed(machine: Machine, seconds: float = 1.0) -> float:
    """Return how fast this machine trains at present, relative to two idle cores; takes about `seconds`."""
    if machine.gpu:
        return machine.speed
    import torch

    square = torch.ones(768, 768)
    products, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < seconds:
        square @ square
        products += 1
    rate = products * 2 * 768**3 / taken / 1e9
    return max(0.05, min(rate / (CORE_RATE * REFERENCE_CORES), 8 / REFERENCE_CORES))


def reference_seconds(config: RunConfig, facts: DataFacts) -> dict[str, float]:
    """Return the expected seconds of every stage on two idle cores.

    Stages with an LLM, pruning and preference are not forecast.
    """
    items, users = facts.items, facts.users
    tested = min(config.evaluation.users or users, users)
    out = {"data": 1 + facts.events * 4e-6}
    tokens = items * min(config.text.max_tokens, 2 + facts.text_bytes / items / 4.5)
    encoded = facts.text_bytes and config.text.encoder != "none"
    out["text"] = 5 + tokens * 21e6 / TEXT_RATE if encoded else 0.1
    out["sids"] = 2 + items * 3e-4
    sasrec = _sasrec(config, facts)
    if config.sasrec.enabled:
        out["sasrec"] = sasrec
    if config.teacher.enabled:
        folds = config.soft_labels.sasrec_folds
        if folds > 1:
            out["sasrec-folds"] = sasrec * (folds - 1)
        each = 2 * items * config.sasrec.dim / SASREC_RATE + items * 1e-8
        out["soft-labels"] = 4 + _labelled(config, facts) * each + tested * items * 1e-7
    out["distill" if config.teacher.enabled else "student"] = _student(config, facts)
    out["baselines"] = 1 + tested * items * 1.3e-7
    if config.experts.enabled:
        out["experts"] = 3 + min(users, 4000) * 8e-3
    out["export"] = 3 + tested * 2.5e-3
    out["report"] = 2.0
    return out


def on_this_machine(reference: dict[str, float], machine: Machine, speed: float) -> dict[str, float]:
    """Scale seconds of the reference to this machine: a GPU makes training faster, not the other stages."""
    return {
        name: seconds / (speed if name in TRAINING or not machine.gpu else 1.0) for name, seconds in reference.items()
    }


def _labelled(config: RunConfig, facts: DataFacts) -> int:
    return facts.positions * (1 + config.soft_labels.copies)


def _sasrec(config: RunConfig, facts: DataFacts) -> float:
    settings, train = config.sasrec, config.sasrec.train
    flops = 6 * (facts.items * settings.dim + settings.layers * 12 * settings.dim**2)
    return 3 + train.epochs * facts.positions * flops / SASREC_RATE + _validations(train.epochs, config, facts) * 0.3


def _student(config: RunConfig, facts: DataFacts) -> float:
    copies = 1 + config.soft_labels.copies if config.teacher.enabled else 1
    each = 6 * dense_parameters(config.student, config.sid) / STUDENT_RATE
    training = config.train.epochs * facts.positions * copies * each
    return 5 + training + _validations(config.train.epochs, config, facts)


def _validations(epochs: int, config: RunConfig, facts: DataFacts) -> float:
    cases = min(config.train.validate_users or facts.users, facts.users)
    return epochs / config.train.validate_every * cases * 3.5e-3
