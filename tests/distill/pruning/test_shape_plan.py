"""The planned shape: within budget, valid, cheapest cuts first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pocketrec.distill.pruning.masks import open_masks
from pocketrec.distill.pruning.shape_plan import close_masks, loss_curves, plan_shape, unit_counts
from pocketrec.runtime.errors import ConfigError
from prunable import SHAPES, budget
from tiny import tiny_student


def test_masks_close_by_score_fade_and_stay_closed():
    masks, scores = torch.ones(1, 4), torch.tensor([[3.0, 1.0, 2.0, 0.0]])
    masks = close_masks(masks, scores, 2.25)
    assert masks.tolist() == [[1.0, 0.25, 1.0, 0.0]]
    masks = close_masks(masks, torch.tensor([[0.0, 5.0, 4.0, 9.0]]), 2.0)
    assert masks.tolist() == [[0.0, 1.0, 1.0, 0.0]]


def flat_curves(student, multiple=4, dimensions=None, seed=None):
    """A loss for each number of units: 1 for each unit that is gone, or random and falling with units."""
    curves, generator = {}, np.random.default_rng(seed)
    for name in dimensions or open_masks(student):
        units = unit_counts(student.config, name, multiple)
        added = generator.random(len(units)).cumsum() if seed is not None else [units[0] - u for u in units]
        curves[name] = dict(zip(units, map(float, added), strict=True))
    return curves


@settings(max_examples=10)
@given(shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 10_000), ratio=st.floats(0.3, 0.95))
def test_a_planned_shape_is_within_budget_valid_and_not_a_step_below_it(shape, seed, ratio):
    student = tiny_student(**SHAPES[shape])
    curves, limit = flat_curves(student, seed=seed), budget(student, ratio)
    planned = plan_shape(student.config, curves, limit)
    assert limit.cost(planned) <= limit.limit
    assert planned == plan_shape(student.config, curves, limit)
    assert planned.dim % planned.heads == 0
    for name in ("dim", "ffn", "decoder_dim"):
        units, whole = getattr(planned, name), getattr(student.config, name)
        assert units == whole or units % 4 == 0
        if units < whole:
            more = replace(planned, **{name: min(whole, units + 4)})
            assert more.dim % more.heads or limit.cost(more) > limit.limit


def test_only_the_dimensions_named_are_cut_and_the_least_for_its_parameters_goes_first():
    student = tiny_student()
    planned = plan_shape(student.config, flat_curves(student, 8, ["ffn"]), budget(student, 0.9))
    assert planned == replace(student.config, ffn=planned.ffn, head_dim=8)
    assert planned.ffn < student.config.ffn
    curves = flat_curves(student, 4, ["ffn", "decoder_dim"])
    curves["decoder_dim"] = dict.fromkeys(curves["decoder_dim"], 0.0)
    planned = plan_shape(student.config, curves, budget(student, 0.97))
    assert (planned.ffn, planned.decoder_dim < 12) == (24, True)


def test_a_budget_that_cannot_be_met_is_refused_with_what_can_be():
    student = tiny_student()
    with pytest.raises(ConfigError, match=r"smallest student of [\d,]+ parameters, over the target"):
        plan_shape(student.config, flat_curves(student, 8, ["ffn"]), budget(student, 0.2))


def test_curves_cut_each_dimension_alone_the_lowest_scores_first():
    student, seen = tiny_student(), []
    scores = {name: torch.rand(mask.shape) for name, mask in open_masks(student).items()}

    def loss(masks):
        seen.append(masks)
        return float(sum(mask.sum() for mask in masks.values()))

    curves = loss_curves(student.config, scores, ("ffn", "heads"), 8, loss)
    assert {name: list(curve) for name, curve in curves.items()} == {"heads": [2, 1], "ffn": [24, 16, 8]}
    assert curves["heads"][2] - curves["heads"][1] == student.config.layers
    for masks in seen:
        assert sum(not bool(mask.all()) for mask in masks.values()) <= 1
        for row, score in zip(masks["ffn"], scores["ffn"], strict=True):
            if not row.all():
                assert score[row == 0].max() < score[row == 1].min()
