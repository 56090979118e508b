"""How models are compared on validation: by the convention that they are used in, on the same cases for each model.

Where people do not come back to items, what counts is a list without their seen items; where they do, one with them.
Which it is, follows from the validation cases themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pocketrec.distill.config import TrainConfig
from pocketrec.distill.data.splits import EvalSet, Split
from pocketrec.distill.evaluation.protocol import CONVENTIONS, evaluate, sample
from pocketrec.distill.evaluation.ranking import Ranker
from pocketrec.distill.evaluation.student_ranker import StudentRanker
from pocketrec.distill.models.student import Student
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds

RETURNING: Final = 0.05  # share of targets in their own histories, from which on seen items are kept
NEW_CASES: Final = 200  # cases with a new item as the target, from which on weights are fitted on these


def returning_share(cases: EvalSet) -> float:
    """Return the share of cases whose target is in its own history, in [0, 1]; 0 if there are no cases."""
    if not len(cases):
        return 0.0
    case = np.repeat(np.arange(len(cases)), cases.histories.lengths)
    again = np.unique(case[cases.histories.events() == cases.targets[case]])
    return len(again) / len(cases)


def convention_of(cases: EvalSet) -> str:
    """Return the convention that cases are to be measured by first: "seen kept" from a share of RETURNING on."""
    return "seen kept" if returning_share(cases) >= RETURNING else "seen excluded"


def fitting_convention(cases: EvalSet) -> str:
    """Return the convention that weights between models are fitted in: "seen excluded" wherever cases allow it.

    How likely people are to come back to an item is a weight of its own (`seen`), fitted afterwards with seen items
    kept. Fitted together, the many returns of some logs decide everything, and the weights say nothing about new items.
    """
    new = len(cases) * (1 - returning_share(cases))
    return "seen excluded" if new >= NEW_CASES else convention_of(cases)


@dataclass(frozen=True)
class Validation:
    """Validation cases of one run, and the convention by which models are selected on them."""

    cases: EvalSet
    n_items: int
    convention: str

    @classmethod
    def of(cls, split: Split, n_items: int, settings: TrainConfig, convention: str | None = None) -> Validation:
        """Draw the sample that the settings name.

        :param convention: None: all validation cases decide on it.
        """
        cases = sample(split.valid, settings.validate_users, settings.seed)
        return cls(cases, n_items, convention or convention_of(split.valid))

    def scores(self, ranker: Ranker) -> dict[str, float]:
        """Return recall@10 and ndcg@10 by the convention."""
        measured: Mapping[str, float] = evaluate(
            ranker, self.cases, n_items=self.n_items, item_counts=None, exclude_seen=CONVENTIONS[self.convention]
        ).to_dict()
        return {name: measured[name] for name in ("recall@10", "ndcg@10")}

    def student_scores(self, student: Student, ids: SemanticIds) -> dict[str, float]:
        """Return a student's `scores`."""
        return self.scores(StudentRanker(student, ids.rows))


def selection_record(split: Split) -> dict[str, Any]:
    """Return what a run notes beside its validation scores: their convention, and the share that decided on it."""
    return {
        "convention": convention_of(split.valid),
        "returning_share": round(returning_share(split.valid), 4),
        "returning_threshold": RETURNING,
    }
