"""Pruning takes what was asked for, keeps what it promises to keep, and leaves an ordinary student."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch.func import functional_call

from pocketrec.distill.config import PruneConfig, TrainConfig
from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.distill.models.student import Student
from pocketrec.distill.pruning.masks import gated, open_gates, places, square_sums, taylor_sums
from pocketrec.distill.pruning.prune import Pruning, cutting_model, prune_student
from pocketrec.distill.pruning.removal import at_depth, remove
from pocketrec.distill.pruning.rotation import rotate
from pocketrec.distill.pruning.shape_plan import Budget, close, loss_curves, plan_shape, steps
from pocketrec.distill.semantic_ids.fusion import ItemSpace
from pocketrec.distill.semantic_ids.quality import SidQuality
from pocketrec.distill.semantic_ids.semantic_ids import Codebooks, SemanticIds
from pocketrec.distill.training.losses import HardLabels
from pocketrec.distill.training.student_training import load_student, save_student, window_batches
from pocketrec.runtime.errors import ConfigError, TrainingError
from tiny import CODES, LEVELS, random_rows, tiny_student

ROWS = random_rows(20)
SHAPES = {
    "plain": {"heads": 4, "kv_heads": 4, "layers": 3},
    "grouped": {"heads": 4, "kv_heads": 2},
    "no pairs": {"pair_dim": 0},
    "shared layers": {"layers": 3, "share_layers": True, "heads": 4, "kv_heads": 4},
    "narrow heads": {"heads": 4, "kv_heads": 2, "head_dim": 6},
}


def outputs(student):
    """Everything that a student says, in double precision: states of every layer, and logits of every level."""
    student = copy.deepcopy(student).double().eval()
    tokens = torch.from_numpy(random_rows(24, seed=3).astype(np.int64)).view(4, 6, LEVELS)
    with torch.no_grad():
        states = student.states(tokens)
        hidden = states[-1].flatten(0, 1)
        return [*states, *student.level_logits(hidden, tokens.flatten(0, 1))]


def assert_same(ours, theirs, atol=1e-6):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=atol, rtol=1e-6)


def ring(users=40):
    """Each user walks round a ring of items: the next one is certain."""
    generator = np.random.default_rng(0)
    walks = [(start + np.arange(7)) % 20 for start in generator.integers(0, 20, users)]
    return leave_one_out(Sequences.from_lists([w.tolist() for w in walks]))


@pytest.fixture(scope="module")
def ids():
    codebooks = Codebooks(np.zeros((LEVELS, CODES, 2), np.float32))
    return SemanticIds(ROWS, codebooks, ItemSpace({}, None), SidQuality(20, CODES, [], [], [], 0, 1.0))


def parameters(student):
    """Cost of a shape, for students on the tiny catalogue."""
    pairs = None if student.pairs is None else student.pairs.pairs.numpy()
    return lambda shape: Student(shape, LEVELS, CODES, pairs).parameters_count


def budget(student, ratio):
    return Budget(int(ratio * student.parameters_count), "parameters", parameters(student))


def some_kept(student, seed):
    """Random units, as many in every row."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for name, gate in open_gates(student).items():
        count = int(torch.randint(1, gate.shape[1] + 1, (), generator=generator))
        if name == "dim":
            count = max(4, count // 4 * 4)  # widths must divide into heads
        kept[name] = torch.stack([torch.randperm(gate.shape[1], generator=generator) < count for _ in gate])
    if "heads" in kept:  # 1, 2 or 4 groups
        groups = kept["heads"].shape[1]
        count = int(2 ** torch.randint(0, groups.bit_length(), (), generator=generator))
        kept["heads"] = torch.stack([torch.randperm(groups, generator=generator) < count for _ in kept["heads"]])
    return kept


def masked(student, gates):
    """The student with gates multiplied in, by the definition."""
    weights = dict(student.named_parameters())
    other = copy.deepcopy(student)
    with torch.no_grad():
        for name, weight in gated(weights, gates, places(student)).items():
            dict(other.named_parameters())[name].copy_(weight)
    return other


@settings(max_examples=25)
@given(shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 10_000))
def test_removal_leaves_what_closed_gates_leave(shape, seed):
    student = tiny_student(**SHAPES[shape]).double()
    kept = some_kept(student, seed)
    closed = masked(student, {name: keep.float() for name, keep in kept.items()})
    removed = remove(student, kept)
    stay = kept["dim"][0]
    theirs = outputs(closed)
    layers = kept["layers"][0].tolist() if "layers" in kept else [True] * student.config.layers
    states = [state[..., stay] for state, keep in zip(theirs, layers, strict=False) if keep]
    assert_same(outputs(removed), [*states, *theirs[len(layers) :]])
    assert removed.parameters_count < student.parameters_count or all(bool(k.all()) for k in kept.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_turned_student_answers_as_before(shape):
    student = tiny_student(**SHAPES[shape])
    before = outputs(student)
    batches = [b for micro in window_batches(ring().train, 6, TrainConfig(batch_size=8))(0, 1).epoch(0) for b in micro]
    stream = student.stream(torch.from_numpy(ROWS.astype(np.int64))[None])
    rotate(student, batches, torch.from_numpy(ROWS.astype(np.int64)))
    after = outputs(student)
    layers = student.config.layers
    assert_same(after[layers:], before[layers:], atol=1e-4)  # logits; states are turned
    turned = student.stream(torch.from_numpy(ROWS.astype(np.int64))[None])
    for mine, other in zip(turned, stream, strict=True):
        np.testing.assert_allclose(mine.norm(dim=-1).detach(), other.norm(dim=-1).detach(), rtol=1e-4)


def test_the_strongest_channels_come_first_in_a_turned_student():
    student = tiny_student()
    batches = [b for micro in window_batches(ring().train, 6, TrainConfig(batch_size=8))(0, 1).epoch(0) for b in micro]
    sids = torch.from_numpy(ROWS.astype(np.int64))
    rotate(student, batches, sids)
    strength = torch.zeros(student.config.dim)
    with torch.no_grad():
        for batch in batches:
            for state in student.eval().stream(sids[batch.inputs], batch.is_start, batch.mask):
                x = state.flatten(0, 1)[(batch.segment >= 0).flatten()]
                strength += (x / x.square().mean(1, keepdim=True).sqrt()).square().sum(0)
    assert (strength.diff() <= 1e-3).all()
    columns = student.pairs.table.weight.detach().norm(dim=0)
    assert (columns.diff() <= 1e-4).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_gate_times_gradient_of_the_gate(shape, ids):
    student = tiny_student(**SHAPES[shape])
    loss = HardLabels(student, ROWS).eval()
    ((batch,), *_) = window_batches(ring().train, 6, TrainConfig(batch_size=16))(0, 1).epoch(0)
    where, generator = places(student), torch.Generator().manual_seed(1)
    gates = {n: torch.rand(g.shape, generator=generator).requires_grad_() for n, g in open_gates(student).items()}
    weights = gated(dict(student.named_parameters()), gates, where)
    functional_call(loss, {f"student.{name}": w for name, w in weights.items()}, (batch,)).backward()
    scores = taylor_sums(student, gates, where)
    for name, gate in gates.items():
        expected = (gate * gate.grad).detach()
        np.testing.assert_allclose(scores[name], expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)


def test_magnitudes_are_sums_of_squares_and_nothing_behind_a_closed_gate():
    student = tiny_student()
    gates = open_gates(student)
    gates["ffn"][1, 3] = 0.0
    sums = square_sums(student, gates, places(student))
    down = student.backbone.layers[1].mlp.down_proj.weight.detach()
    assert float(sums["ffn"][1, 2]) == pytest.approx(float(down[:, 2].square().sum()), rel=1e-5)
    assert float(sums["ffn"][1, 3]) == 0.0


def test_gates_close_by_score_fade_and_stay_closed():
    gates, scores = torch.ones(1, 4), torch.tensor([[3.0, 1.0, 2.0, 0.0]])
    gates = close(gates, scores, 2.25)
    assert gates.tolist() == [[1.0, 0.25, 1.0, 0.0]]
    gates = close(gates, torch.tensor([[0.0, 5.0, 4.0, 9.0]]), 2.0)
    assert gates.tolist() == [[0.0, 1.0, 1.0, 0.0]]


def flat_curves(student, multiple=4, dimensions=None, seed=None):
    """A loss for each number of units: 1 for each unit that is gone, or random and falling with units."""
    curves, generator = {}, np.random.default_rng(seed)
    for name in dimensions or open_gates(student):
        units = steps(student.config, name, multiple)
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
    with pytest.raises(ConfigError, match=r"smallest student .* has [\d,]+ parameters, over the"):
        plan_shape(student.config, flat_curves(student, 8, ["ffn"]), budget(student, 0.2))


def test_curves_cut_each_dimension_alone_the_lowest_scores_first():
    student, seen = tiny_student(), []
    scores = {name: torch.rand(gate.shape) for name, gate in open_gates(student).items()}

    def loss(gates):
        seen.append(gates)
        return float(sum(gate.sum() for gate in gates.values()))

    curves = loss_curves(student.config, scores, ("ffn", "heads"), 8, loss)
    assert {name: list(curve) for name, curve in curves.items()} == {"heads": [2, 1], "ffn": [24, 16, 8]}
    assert curves["heads"][2] - curves["heads"][1] == student.config.layers
    for gates in seen:
        assert sum(not bool(gate.all()) for gate in gates.values()) <= 1
        for row, score in zip(gates["ffn"], scores["ffn"], strict=True):
            if not row.all():
                assert score[row == 0].max() < score[row == 1].min()


@pytest.mark.parametrize("shape", [{"layers": 3}, {"layers": 3, "share_layers": True}], ids=["plain", "shared"])
def test_the_first_layers_answer_what_the_whole_student_says_from_there(shape):
    student = tiny_student(**shape)
    whole = outputs(student)
    for depth in (1, 2):
        shallow = at_depth(student, depth)
        assert shallow.config.layers == depth
        assert_same(outputs(shallow)[:depth], whole[:depth])
    for depth in (0, 4):
        with pytest.raises(ConfigError, match=r"export\.depth"):
            at_depth(student, depth)


# --- the whole job -----------------------------------------------------------------------------------------------

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


def test_a_plan_does_not_hang_on_what_was_drawn_before(ids):
    config = replace(EXAMPLE, train=replace(EXAMPLE.train, unlikelihood=2.0))  # a loss that draws
    start, plans = trained(), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model, curves = cutting_model(start, ring(), ids, config, budget(start, 0.5))
        plans.append((curves, model.goal.tolist()))
    assert plans[0] == plans[1]


def test_what_is_removed_after_cutting_answers_as_the_gated_student(tmp_path, ids):
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
    assert_same(outputs(removed)[-LEVELS:], outputs(model.gated_student())[-LEVELS:], atol=1e-5)


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
    with pytest.raises(ConfigError, match="within the"):
        prune(tmp_path, ids, replace(EXAMPLE, ratio=1.0))


def test_a_folder_without_a_student_is_refused(tmp_path, ids):
    with pytest.raises(TrainingError, match=r"student\.json"):
        load_student(tmp_path, ids)
    save_student(tiny_student(), tmp_path)
    (tmp_path / "best.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be read"):
        load_student(tmp_path, ids)
