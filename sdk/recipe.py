"""The recipe: which settings `pocketrec train` uses for data of a given size, and why. Pure, and a table.

RULES are read from top to bottom, and a later rule overrides an earlier one. The student's shape then follows from
SHAPES and the limit on bytes, and copies and epochs from the limits on memory and time. A configuration file and
`--set` override single settings afterwards (`pocketrec.run.plan`). The numbers were chosen on validation splits;
docs/how-to/choose-a-size.md explains them for users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pocketrec.config import config_of, nested
from pocketrec.distill.config import RunConfig
from pocketrec.forecast import Machine, reference_seconds
from pocketrec.runtime.errors import ConfigError
from pocketrec.sizes import DataFacts, bundle_parts, pair_rows, student_parameters

Size = Literal["small", "medium", "large"]


@dataclass(frozen=True)
class Case:
    """What a recipe is chosen for.

    teacher: whether a committee teaches the student. own: the user's settings, section → name → value; they win over
    the recipe, so sizes and times are those with them.
    """

    facts: DataFacts
    machine: Machine = field(default_factory=Machine)
    size: Size = "medium"
    max_bytes: int | None = None
    teacher: bool = True
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sasrec(self) -> bool:
        """Whether the user leaves SASRec in."""
        return bool(self.own.get("sasrec", {}).get("enabled", True))

    def config(self, settings: Mapping[str, Any]) -> RunConfig:
        """Return the configuration that these settings of the recipe give."""
        return config_of(self.own, nested(settings))


@dataclass(frozen=True)
class Recipe:
    """Settings by name ("train.epochs"), and a sentence for each choice that follows from the data."""

    settings: Mapping[str, Any]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """Settings for cases of a kind. why: told to the user; "": not worth a sentence."""

    applies: Callable[[Case], bool]
    why: str
    settings: Mapping[str, Any]


RULES: tuple[Rule, ...] = (
    Rule(lambda c: True, "", {
        "experts.enabled": True, "export.beam": 48, "export.quantize": "int8", "student.dropout": 0.2,
        "sasrec.dropout": 0.5, "sasrec.train.epochs": 20, "sasrec.train.batch_size": 256,
        "sasrec.train.learning_rate": 2e-3,
    }),
    Rule(lambda c: c.teacher, "a committee of SASRec and the transition graph teaches the student", {
        "teacher.enabled": True, "soft_labels.members": ["sasrec", "graph"], "soft_labels.copies": 1,
        "distill.hard": 0.0, "distill.soft": 1.0, "distill.temperature": 0.33,
        "train.epochs": 12, "train.batch_size": 128, "train.learning_rate": 2e-3, "train.patience": 8,
        "train.unlikelihood": 2.0,
    }),
    Rule(lambda c: c.teacher and not c.sasrec, "without SASRec, the transition graph alone teaches", {
        "soft_labels.members": ["graph"],
    }),
    Rule(lambda c: not c.teacher, "no teacher: the student learns from the log alone", {
        "teacher.enabled": False, "train.epochs": 60, "train.patience": 8,
    }),
    Rule(lambda c: c.facts.repeats > 0.05, "people come back to items: the bundle has a weight for it", {
        "train.unlikelihood": 0.0, "soft_labels.returns": False,
    }),
    Rule(lambda c: c.facts.users < 5_000 and c.facts.positions > max(40 * c.facts.users, 5 * c.facts.items),
         "few people with long histories: small batches, a graph of many neighbours", {
        "sid.text_dim": 32, "sid.collaborative_dim": 96, "sid.collaborative_weight": 2.0, "sid.window": 3,
        "soft_labels.copies": 0, "train.batch_size": 32, "train.epochs": 14, "train.unlikelihood": 0.0,
        "student.dropout": 0.1, "train.validate_users": 0, "experts.neighbours": 64,
        "sasrec.dim": 64, "sasrec.dropout": 0.4, "sasrec.train.epochs": 8,
        "sasrec.train.batch_size": 64, "sasrec.train.learning_rate": 3e-3, "sasrec.train.validate_every": 1,
        "sasrec.train.validate_users": 0,
    }),
    Rule(lambda c: c.facts.users >= 60_000 and c.facts.positions < 10 * c.facts.users,
         "many short sessions: fewer labels and epochs, measured on a sample", {
        "soft_labels.copies": 0, "soft_labels.top": 64, "train.epochs": 6, "train.batch_size": 256,
        "sasrec.dim": 64, "sasrec.dropout": 0.3, "sasrec.train.epochs": 8, "sasrec.train.batch_size": 256,
        "evaluation.users": 20_000,
    }),
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A student's widths. pair_dim: of the pair table, at most; parameters: which a smaller table keeps to."""

    dim: int
    heads: int
    ffn: int
    decoder_dim: int
    pair_dim: int
    parameters: int

    def settings(self, pair_dim: int) -> dict[str, Any]:
        """Return the student's settings."""
        return {
            "student.dim": self.dim, "student.heads": self.heads, "student.kv_heads": self.heads,
            "student.ffn": self.ffn, "student.decoder_dim": self.decoder_dim, "student.pair_dim": pair_dim,
        }  # fmt: skip


SHAPES: Mapping[Size, Shape] = {
    "small": Shape(64, 2, 192, 160, 24, 550_000),
    "medium": Shape(128, 4, 256, 256, 24, 1_050_000),
    "large": Shape(320, 5, 640, 512, 96, 4_500_000),
}
# What a limit on bytes can lead to, from the best to the smallest: a shape, and the share of the experts' budgets.
STEPS: tuple[Shape, ...] = (
    SHAPES["large"],
    Shape(256, 4, 512, 384, 64, 2_800_000),
    Shape(192, 6, 384, 320, 48, 1_800_000),
    SHAPES["medium"],
    Shape(96, 3, 256, 192, 24, 750_000),
    SHAPES["small"],
    Shape(64, 2, 128, 96, 16, 400_000),
    Shape(32, 1, 96, 64, 8, 200_000),
)
MIN_PAIR_DIM = 8
EXPERTS = (1.0, 0.5, 0.25)  # shares of experts.neighbours and experts.terms that a limit on bytes tries, in this order
MARGIN = 1.03  # of the expected bytes of a bundle
MINUTES: Mapping[Size, float] = {"small": 30, "medium": 45, "large": 150}  # on two idle cores, or what they are worth
MIN_EPOCHS = 4
LABEL_BYTES = 1 << 30  # of soft labels on disk
LOGIT_BYTES = 1 << 29  # of SASRec's scores of all items for a batch


def recipe(case: Case) -> Recipe:
    """Choose the settings for a case; settings that are not named keep their defaults.

    :raises ConfigError: if no bundle of these items can have at most `max_bytes`; the message names the parts.
    """
    settings: dict[str, Any] = {}
    reasons: list[str] = []
    for rule in RULES:
        if rule.applies(case):
            settings.update(rule.settings)
            reasons += [rule.why] if rule.why else []
    _shape(case, settings, reasons)
    _limit_memory(case, settings, reasons)
    _limit_time(case, settings, reasons)
    return Recipe(settings, tuple(reasons))


def fits(config: RunConfig, facts: DataFacts, max_bytes: int) -> bool:
    """Whether the bundle is expected to have at most `max_bytes`."""
    return sum(bundle_parts(config, facts).values()) * MARGIN <= max_bytes


def does_not_fit(config: RunConfig, facts: DataFacts, max_bytes: int) -> ConfigError:
    """Say which parts of a bundle are too large together, and what to do."""
    parts = bundle_parts(config, facts)
    listed = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in parts.items())
    needed = sum(parts.values()) * MARGIN
    titles = ", or leave the titles out with --set export.titles=false" if config.export.titles else ""
    return ConfigError(
        f"a bundle of these {facts.items:,} items does not fit into {max_bytes / 1e6:.2f} MB: {listed}; "
        f"allow at least {needed / 1e6 + 0.005:.2f} MB{titles}"
    )


def _shape(case: Case, settings: dict[str, Any], reasons: list[str]) -> None:
    """Choose the student's shape, and smaller budgets of the experts where bytes are short."""
    wanted = SHAPES[case.size]
    settings.update(wanted.settings(_pair_dim(wanted, case, settings)))
    if case.max_bytes is None:
        return
    usual = case.config(settings)
    for share in EXPERTS:
        settings["experts.neighbours"] = max(2, round(usual.experts.neighbours * share))
        settings["experts.terms"] = max(2, round(usual.experts.terms * share))
        for shape in STEPS[STEPS.index(wanted) :]:
            settings.update(shape.settings(_pair_dim(shape, case, settings)))
            if fits(case.config(settings), case.facts, case.max_bytes):
                if shape is not wanted or share < 1:
                    reasons.append(f"at most {case.max_bytes / 1e6:.2f} MB: a smaller student or smaller experts")
                return
    raise does_not_fit(case.config(settings), case.facts, case.max_bytes)


def _pair_dim(shape: Shape, case: Case, settings: Mapping[str, Any]) -> int:
    """Width of the pair table that keeps to the shape's parameters; it did not help students without a teacher."""
    if not case.teacher:
        return 0
    config = case.config({**settings, **shape.settings(0)})
    rest = shape.parameters - student_parameters(config.student, config.sid, case.facts.items)
    each = pair_rows(case.facts.items, config.sid.codes) + 2 * shape.dim
    return max(MIN_PAIR_DIM, min(shape.pair_dim, rest // each // 4 * 4))


def _limit_memory(case: Case, settings: dict[str, Any], reasons: list[str]) -> None:
    config, facts = case.config(settings), case.facts
    labels = config.soft_labels
    positions = facts.positions * (1 + labels.copies)
    if case.teacher and positions * min(labels.top, facts.items) * 6 > LABEL_BYTES:
        settings["soft_labels.copies"] = 0
        settings["soft_labels.top"] = max(16, min(labels.top, LABEL_BYTES // (6 * facts.positions)))
        reasons.append(f"soft labels have at most {LABEL_BYTES >> 20} MiB: {settings['soft_labels.top']} a position")
    targets = min(facts.positions / facts.users, config.evaluation.max_history)  # of a history in a batch
    batch = config.sasrec.train.batch_size
    while batch > 32 and batch * targets * facts.items * 4 > LOGIT_BYTES:
        batch //= 2
    settings["sasrec.train.batch_size"] = batch


def _limit_time(case: Case, settings: dict[str, Any], reasons: list[str]) -> None:
    """Leave out copies, then epochs, until the expected time is within MINUTES."""
    limit = 60 * MINUTES[case.size] * max(1.0, case.machine.speed)

    def excess() -> float:
        return sum(reference_seconds(case.config(settings), case.facts).values()) / limit

    if excess() <= 1:
        return
    if settings.get("soft_labels.copies"):
        settings["soft_labels.copies"] = 0
    for _ in range(4):
        if (over := excess()) <= 1:
            break
        for name in ("train.epochs", "sasrec.train.epochs"):
            settings[name] = max(MIN_EPOCHS, min(settings[name], int(settings[name] / over)))
    reasons.append(f"much data for this machine: {settings['train.epochs']} epochs, no changed copies of histories")
