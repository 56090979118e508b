"""A bundle that is worse than a simple baseline: which one, by how much, and what to try."""

from __future__ import annotations

import pytest

from pocketrec.distill.config import ExpertsConfig, RunConfig, TeacherConfig, TrainConfig
from pocketrec.run.shortfall import baselines_above, remedies


def systems(**values):
    return {
        name.replace("_", " "): {"seen excluded": {"recall@10": recall, "ndcg@10": ndcg}}
        for name, (recall, ndcg) in values.items()
    }


def test_each_better_baseline_is_named_by_the_measure_in_which_it_is_most_ahead():
    found = systems(
        student=(0.10, 0.06), committee=(0.2, 0.2), transition_graph=(0.101, 0.08), popularity=(0.01, 0.005),
        graph_and_words=(0.2, 0.06),
    )  # fmt: skip
    below = baselines_above(found, "seen excluded", lambda baseline, measure: 0.01 if measure == "ndcg@10" else None)
    names = ("baseline", "measure", "bundle", "value", "percent", "p")
    assert [tuple(row[name] for name in names) for row in below] == [
        ("transition graph", "ndcg@10", 0.06, 0.08, 25.0, 0.01),
        ("graph and words", "recall@10", 0.1, 0.2, 50.0, None),
    ]


def test_a_bundle_that_is_level_or_better_falls_short_of_nothing():
    assert baselines_above(systems(student=(0.1, 0.06), popularity=(0.1, 0.05)), "seen excluded") == []
    assert baselines_above(systems(student=(0.1, 0.06), SASRec=(0.2, 0.2)), "seen excluded") == []


@pytest.mark.parametrize(("scores", "rising"), [([0.1, 0.2, 0.3, 0.4], True), ([0.1, 0.4, 0.3, 0.2], False)])
def test_what_to_try_follows_from_the_configuration_and_the_curve(scores, rising):
    plain = remedies(RunConfig(train=TrainConfig(epochs=30)), scores)
    assert ("--set train.epochs=60 (validation was still rising)" in plain) == rising
    assert any("experts.enabled=true" in line for line in plain)
    assert any("teacher.enabled=true" in line for line in plain)
    full = RunConfig(experts=ExpertsConfig(enabled=True), teacher=TeacherConfig(enabled=True))
    assert [line.split(" (")[0] for line in remedies(full, [])] == ["--size large", "pocketrec data check"]
