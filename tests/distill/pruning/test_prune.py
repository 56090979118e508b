"""Pruning as a whole: it reaches its target, resumes where it was, and leaves an ordinary student."""

from __future__ import annotations

import json

import pytest
import torch
from msgspec.structs import replace

from pocketrec.distill.config import PruneConfig, TrainConfig
from pocketrec.distill.data.batches import window_batches
from pocketrec.distill.models.student import Student
from pocketrec.distill.pruning.cutting import Pruning
from pocketrec.distill.pruning.prune import cutting_model, prune_student
from pocketrec.distill.training.student_training import load_student
from pocketrec.runtime.errors import ConfigError
from prunable import ROWS, assert_same, budget, outputs, prunable_ids, ring
from tiny import CODES, LEVELS, tiny_student


@pytest.fixture(scope="module")
def ids():
    return prunable_ids()


TRAIN = {"epochs": 4, "batch_size": 8, "learning_rate": 0.01, "validate_every": 1, "record_every": 1, "cpu": True}
EXAMPLE = PruneConfig(ratio=0.5, multiple=4, share=0.5, every=2, train=TrainConfig(**TRAIN, checkpoint_steps=2))


class Interrupted(Exception):
    pass


def trained():
    """A student whose pair table is that of the catalogue."""
    student = Student(tiny_student(heads=4, kv_heads=4, dropout=0.2).config, LEVELS, CODES, ROWS)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(
                0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
        student.pairs.table.weight[0] = 0.0
    return student.eval()


def prune(folder, ids, config=EXAMPLE, start=None):
    torch.manual_seed(0)
    start = start or trained()
    return prune_student(start, ring(), ids, config, budget(start, config.ratio), folder)


@pytest.mark.parametrize("criterion", ["taylor", "magnitude"])
def test_a_pruned_student_is_an_ordinary_one_that_loads_and_prunes_again(tmp_path, ids, criterion):
    start = trained()
    student, result = prune(tmp_path / "a", ids, replace(EXAMPLE, criterion=criterion), start)
    assert student.parameters_count <= 0.5 * start.parameters_count
    assert (result.before, result.after) == (start.config, student.config)
    loaded = load_student(tmp_path / "a", ids)
    assert loaded.config == student.config
    assert all(torch.equal(v, student.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert result.valid_after["ndcg@10"] == result.recovery.best_score
    again, _ = prune(tmp_path / "b", ids, replace(EXAMPLE, ratio=0.8), loaded)
    assert again.parameters_count <= 0.8 * student.parameters_count
    assert json.loads((tmp_path / "b" / "student.json").read_text())["dim"] == again.config.dim


def test_a_plan_does_not_depend_on_the_random_state(ids):
    config = replace(EXAMPLE, train=replace(EXAMPLE.train, unlikelihood=2.0))  # a loss that draws
    start, plans = trained(), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model, curves = cutting_model(start, ring(), ids, config, budget(start, 0.5))
        plans.append((curves, model.goal.tolist()))
    assert plans[0] == plans[1]


def test_removal_after_cutting_has_the_outputs_of_the_masked_student(tmp_path, ids):
    start = trained()
    model, _ = cutting_model(start, ring(), ids, EXAMPLE, budget(start, 0.5))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for micro_batches in window_batches(ring().train, 6, EXAMPLE.train)(0, 1).epoch(0):
        model(micro_batches[0]).backward()
        model.on_gradients()
        optimiser.step()
        optimiser.zero_grad()
    removed = model.finish()
    assert removed.parameters_count <= 0.5 * start.parameters_count
    assert_same(outputs(removed)[-LEVELS:], outputs(model.masked_student())[-LEVELS:], atol=1e-5)


@pytest.mark.parametrize("stop_at", [3, 7, 14])
def test_an_interrupted_pruning_cuts_what_it_would_have_cut(tmp_path, ids, stop_at, monkeypatch):
    whole, result = prune(tmp_path / "whole", ids)
    steps, on_gradients = [], Pruning.on_gradients

    def stopping(self):
        steps.append(1)
        if len(steps) == stop_at:
            raise Interrupted
        on_gradients(self)

    monkeypatch.setattr(Pruning, "on_gradients", stopping)
    try:
        prune(tmp_path / "cut", ids)
    except Interrupted:
        monkeypatch.undo()
    resumed, again = prune(tmp_path / "cut", ids)
    assert resumed.config == whole.config
    assert [p["loss"] for p in again.cutting.losses] == [p["loss"] for p in result.cutting.losses]
    assert [p["loss"] for p in again.recovery.losses] == [p["loss"] for p in result.recovery.losses]
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in resumed.state_dict().items())


def test_a_target_that_is_met_already_is_refused(tmp_path, ids):
    with pytest.raises(ConfigError, match="already within the target"):
        prune(tmp_path, ids, replace(EXAMPLE, ratio=1.0))
