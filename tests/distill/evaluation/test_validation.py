"""Models are selected by the convention that they are used in, which the validation cases decide."""

from __future__ import annotations

import pytest

from pocketrec.distill.config import TrainConfig
from pocketrec.distill.data.splits import Split
from pocketrec.distill.evaluation.protocol import evaluate
from pocketrec.distill.evaluation.validation import (
    Validation,
    convention_of,
    fitting_convention,
    returning_share,
    selection_record,
)
from simple_rankers import N_ITEMS, SumOfHistory, cases


def split_of(valid):
    return Split(valid.histories, valid, valid, "by hand")


def returning(again, others):
    """So many cases whose target is in the history, once or twice, and others."""
    return cases(*[([3, 4, 3, 5], 3)] * again, *[([3, 4], 6)] * others)


def test_the_share_of_returns_counts_each_case_once():
    assert returning_share(returning(1, 3)) == 0.25
    assert returning_share(cases(([], 3), ([3], 3))) == 0.5
    assert returning_share(cases()) == 0.0


@pytest.mark.parametrize(("again", "expected"), [(0, "seen excluded"), (4, "seen excluded"), (5, "seen kept")])
def test_seen_items_are_kept_from_five_percent_of_returns_on(again, expected):
    valid = returning(again, 100 - again)
    assert convention_of(valid) == expected
    assert selection_record(split_of(valid)) == {
        "convention": expected, "returning_share": again / 100, "returning_threshold": 0.05
    }  # fmt: skip


@pytest.mark.parametrize("again", [0, 20])
def test_scores_are_those_of_the_convention(again):
    valid = returning(again, 10)
    validation = Validation.of(split_of(valid), N_ITEMS, TrainConfig(validate_users=0))
    expected = evaluate(SumOfHistory(), valid, n_items=N_ITEMS, item_counts=None, exclude_seen=again == 0).to_dict()
    assert validation.scores(SumOfHistory()) == {name: expected[name] for name in ("recall@10", "ndcg@10")}


def test_all_validation_cases_decide_on_the_convention_and_a_sample_is_measured():
    valid = returning(6, 94)
    assert {Validation.of(split_of(valid), 9, TrainConfig(validate_users=3, seed=s)).convention for s in range(9)} == {
        "seen kept"
    }
    assert len(Validation.of(split_of(valid), 9, TrainConfig(validate_users=3)).cases) == 3


def test_weights_are_fitted_on_new_items_where_cases_allow_it():
    few, many = returning(30, 30), returning(300, 300)
    assert convention_of(few) == convention_of(many) == "seen kept"
    assert fitting_convention(few) == "seen kept"
    assert fitting_convention(many) == "seen excluded"
