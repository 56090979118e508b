"""The summary of a run: its JSON form, and what is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from small_summary import HOSTILE, summary

from pocketrec.report.summary import RunSummary, from_json, to_json
from pocketrec.runtime.errors import DataError


def test_json_gives_the_same_summary():
    whole = summary(HOSTILE)
    again = from_json(to_json(whole))
    assert again == whole
    assert to_json(again) == to_json(whole)


def test_what_has_no_json_form_is_refused():
    with pytest.raises(DataError, match="object"):
        to_json(RunSummary(title="t", configuration={"what": object()}))


def test_numpy_and_values_that_are_not_finite_become_plain():
    whole = from_json(
        to_json(
            RunSummary(
                title="t",
                losses=[
                    {
                        "model": "m",
                        "step": np.int64(1),
                        "epoch": 1.0,
                        "loss": float("nan"),
                        "learning_rate": None,
                    }
                ],
                semantic_ids={"counts": np.array([[2, 1]])},
                configuration={"out": Path("runs") / "a"},
            )
        )
    )
    assert whole.losses[0]["loss"] is None
    assert whole.losses[0]["step"] == 1
    assert whole.semantic_ids == {"counts": [[2, 1]]}
    assert whole.configuration == {"out": os.path.join("runs", "a")}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"title": "t", "losses": [{"model": "m"}]}', "$.losses"),
        ('{"title": 3}', "$.title"),
        ('{"title": "t", "seconds": {"train": "long"}}', "$.seconds"),
        ("{}", "title"),
        ("not JSON", "malformed"),
    ],
)
def test_a_summary_of_another_shape_is_refused_with_the_place(text, place):
    with pytest.raises(DataError, match=re.escape(place)):
        from_json(text)


def test_shares_that_do_not_match_their_bins_are_refused():
    with pytest.raises(DataError, match="has 2 bins, but 1 shares for 'student'"):
        RunSummary(
            title="t",
            popularity_bias={
                "bins": ["a", "b"],
                "catalogue": [0.5, 0.5],
                "interactions": [0.5, 0.5],
                "recommended": {"student": [1.0]},
            },
        )
