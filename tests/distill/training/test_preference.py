"""Preference losses against plain sums over single histories; the stage keeps only what is better."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.config import PreferenceConfig, TrainConfig
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.distill.evaluation.student_ranker import StudentRanker
from pocketrec.distill.semantic_ids.codebooks import Codebooks
from pocketrec.distill.semantic_ids.fusion import ItemSpace
from pocketrec.distill.semantic_ids.quality import SidQuality
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.distill.training.preference import (
    group_advantages,
    group_rewards,
    make_preference,
    newest_positions,
    refine,
    without_target,
)
from pocketrec.distill.training.student_training import save_student
from pocketrec.distill.training.trainer import fit
from pocketrec.runtime.errors import ConfigError
from tiny import CODES, LEVELS, brute_force, random_rows, tiny_student

ITEMS, HISTORY, BETA = 12, 6, 0.7
ROWS = random_rows(ITEMS)
SIDS = torch.from_numpy(ROWS.astype(np.int64))
METHODS = ("s-dpo", "grpo")
# Every history fits into one window, whose targets are all of its items.
# The second takes the first item of the trie, which slots of a beam that do not exist name, too.
FIRST = int(np.lexsort(ROWS.T[::-1])[0])
TRAIN = Sequences.from_lists([[3, 4], [FIRST], [0, 5, 6, 8, 9], [1, 2, 3], [2, 2, 2, 4], [11, 10, 9, 8, 7, 6]])


def config_of(method, negatives=4, beta=BETA, **train):
    fixed = {"batch_size": 3, "epochs": 3, "record_every": 1, "validate_every": 1, "checkpoint_steps": 1, "cpu": True}
    return PreferenceConfig(method=method, beta=beta, negatives=negatives, train=TrainConfig(**{**fixed, **train}))


def model_of(method, moved=True, student=None, **settings):
    """A preference module; with `moved`, its student has left the reference."""
    model = make_preference(student or tiny_student(), ROWS, config_of(method, **settings))
    if moved:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.student.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def batch_of(train=TRAIN):
    ((batch,),) = WindowBatches(train, HISTORY, 100, seed=0).epoch(0)
    return batch


def positions_of(batch, train=TRAIN):
    """The batch's positions, as (event, history, target, is it the newest of its history)."""
    out = []
    for event, target in zip(batch.events.tolist(), batch.targets.tolist(), strict=True):
        row = int(np.flatnonzero((train.starts <= event) & (event < train.ends))[0])
        out.append((event, train.items[train.starts[row] : event], target, event + 1 == train.ends[row]))
    return out


def code_log_probs(student, history, item):
    """Log-probabilities of every code along one item's SID after one history, [L, K]: nothing packed or shared."""
    tokens = torch.cat((torch.zeros(1, LEVELS, dtype=torch.int64), SIDS[history.tolist()]))
    hidden = student(tokens[None])[0, -1:]
    return torch.cat(student.level_logits(hidden, SIDS[item][None])).log_softmax(-1)


def item_log_prob(student, history, item):
    return code_log_probs(student, history, item)[range(LEVELS), SIDS[item]].sum()


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.student.parameters()))


def step(model, loss, rate):
    """Go down the gradient by so much that first order decides."""
    with torch.no_grad():
        for parameter, gradient in zip(model.student.parameters(), gradients(model, loss), strict=True):
            parameter.sub_(rate * gradient)


# What both methods promise


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_depends_on_the_batch_only_not_on_the_random_state_or_its_split(method):
    model = model_of(method, student=tiny_student(dropout=0.5)).train()
    torch.manual_seed(1)
    whole = model(batch_of())
    torch.manual_seed(2)
    parts = [model(part) for (part,) in WindowBatches(TRAIN, HISTORY, 2, seed=5).epoch(1)]
    assert torch.equal(whole, model(batch_of()))
    torch.testing.assert_close(sum(parts), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_student_learns(method):
    model = model_of(method)
    model(batch_of()).backward()
    assert all(p.grad is not None for p in model.student.parameters())
    assert all(p.grad is None and not p.requires_grad for p in model.reference.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_student_in_half_precision(method):
    model = model_of(method)
    exact = gradients(model, model(batch_of()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(batch_of())
    for half, full in zip(gradients(model, loss), exact, strict=True):
        assert torch.linalg.norm(half - full) < 0.3 * torch.linalg.norm(full) + 1e-3


def test_a_catalogue_of_one_item_is_refused():
    with pytest.raises(ConfigError, match="fewer than 2 items"):
        make_preference(tiny_student(), ROWS[:1], config_of("s-dpo"))


# S-DPO


@settings(max_examples=80)
@given(st.lists(st.permutations(range(ITEMS)), min_size=1, max_size=6), st.integers(2, ITEMS), st.data())
def test_the_target_is_never_rejected_and_nothing_else_is_lost(groups, width, data):
    targets = [data.draw(st.integers(0, ITEMS - 1)) for _ in groups]
    alive = [data.draw(st.integers(1, width)) for _ in groups]
    group = torch.tensor(groups)[:, :width]
    exist = torch.arange(width) < torch.tensor(alive)[:, None]
    sids, left = without_target(SIDS[group], exist, SIDS[targets])
    for row, target in enumerate(targets):
        before = group[row, : alive[row]].tolist()
        after = [SIDS.tolist().index(sid) for sid in sids[row][left[row]].tolist()]
        assert after == ([item for item in before if item != target] if target in before else before[: width - 1])


def rejected_of(model, history, target, number):
    """What the reference recommends as evaluation has it, without the target."""
    ranker = StudentRanker(model.reference, ROWS, beam=number + 1)
    (row,) = ranker.rank(Sequences.from_lists([history.tolist()]), number + 1, exclude_seen=False).tolist()
    return [item for item in row if item not in (target, -1)][:number]


@torch.no_grad()
@pytest.mark.parametrize("number", [3, ITEMS + 5])
def test_the_loss_of_s_dpo_is_the_papers_by_brute_force(number):
    # A beam wider than the catalogue has slots that do not exist.
    model, total = model_of("s-dpo", negatives=number), 0.0
    for _, history, target, _ in positions_of(batch_of()):
        after, before = (brute_force(m, ROWS[history], ROWS) for m in (model.student, model.reference))
        reward = (BETA * (after - before)).tolist()
        rejected = rejected_of(model, history, target, number)
        x = -math.log(sum(math.exp(reward[d] - reward[target]) for d in rejected))
        total += -math.log(1 / (1 + math.exp(-x)))
    assert model(batch_of()).item() == pytest.approx(total, rel=1e-4)


@torch.no_grad()
def test_s_dpo_begins_at_the_loss_of_a_guess():
    model = model_of("s-dpo", moved=False)
    assert model(batch_of()).item() == pytest.approx(len(batch_of().targets) * math.log(1 + 4), rel=1e-5)


def test_a_step_of_s_dpo_raises_the_chosen_over_the_rejected():
    model = model_of("s-dpo", moved=False, negatives=ITEMS - 1)

    def margins():
        out = []
        for _, history, target, _ in positions_of(batch_of()):
            scores = brute_force(model.student, ROWS[history], ROWS)
            out.append(scores[target] - scores[rejected_of(model, history, target, ITEMS - 1)].mean())
        return np.array(out)

    before = margins()
    step(model, model(batch_of()), rate=1e-3)
    assert (margins() - before).mean() > 1e-3


# GRPO


def test_each_window_gives_its_newest_positions():
    window = torch.tensor([4, 4, 4, 0, 2, 2])
    assert newest_positions(window, 1).tolist() == [2, 3, 5]
    assert newest_positions(window, 2).tolist() == [1, 2, 3, 4, 5]


def test_rewards_are_the_hit_and_the_shared_penalty_of_the_ranks_above_and_below():
    hits = torch.tensor([[False, True, False, False], [False] * 4, [True, False, False, False]])
    alive = torch.tensor([[True] * 3 + [False], [True] * 4, [True] + [False] * 3])
    expected = torch.tensor([[-2 / 3, 1, -1 / 3, 0], [0] * 4, [1, 0, 0, 0]])  # 1/log2(2) : 1/log2(4) = 2 : 1
    torch.testing.assert_close(group_rewards(hits, alive), expected)


def test_advantages_are_normalised_within_the_group_and_nothing_without_the_target():
    hits = torch.tensor([[False, True, False, False], [False] * 4, [True, False, False, False]])
    alive = torch.tensor([[True] * 3 + [False], [True] * 4, [True] + [False] * 3])
    found = group_advantages(hits, alive)
    rewards = np.array([-2 / 3, 1, -1 / 3])
    np.testing.assert_allclose(found[0, :3], (rewards - rewards.mean()) / rewards.std(), rtol=1e-5)
    assert not found[0, 3:].any()
    assert not found[1:].any()


def plain_grpo(model, negatives):
    """GRPO one history and one item at a time, the group by sorting the whole catalogue: the value, and a surrogate
    with the same gradient."""  # fmt: skip
    value, surrogate = torch.zeros(()), torch.zeros(())
    for _, history, target, newest in positions_of(batch_of()):
        if not newest:
            continue
        order = np.argsort(-brute_force(model.student, ROWS[history], ROWS), kind="stable")[:negatives].tolist()
        rewards = np.zeros(len(order))
        if target in order:
            others = [rank for rank, item in enumerate(order, 1) if item != target]
            shares = sum(1 / math.log2(rank + 1) for rank in others)
            rewards = np.array([
                1.0 if item == target else -1 / math.log2(rank + 1) / shares for rank, item in enumerate(order, 1)
            ])  # fmt: skip
        advantages = (rewards - rewards.mean()) / max(rewards.std(), 1e-6)
        for item, advantage in zip(order, advantages.tolist(), strict=True):
            p = code_log_probs(model.student, history, item)
            q = code_log_probs(model.reference, history, item).detach()
            kl = BETA * (p.exp() * (p - q)).sum() / LEVELS / len(order)
            value = value + kl - advantage / len(order)
            surrogate = surrogate + kl - advantage * item_log_prob(model.student, history, item) / LEVELS / len(order)
    return value, surrogate


@pytest.mark.parametrize("negatives", [ITEMS, ITEMS + 5])
def test_value_and_gradient_of_grpo_by_brute_force(negatives):
    # A beam as wide as the catalogue is the whole catalogue in order; a wider one has slots that do not exist.
    model = model_of("grpo", negatives=negatives)
    value, surrogate = plain_grpo(model, negatives)
    loss = model(batch_of())
    assert loss.item() == pytest.approx(value.item(), rel=1e-3)
    for found, expected in zip(gradients(model, loss), gradients(model, surrogate), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def ranked(student, history=(0, 5)):
    return np.argsort(-brute_force(student, ROWS[list(history)], ROWS), kind="stable").tolist()


def test_a_step_of_grpo_raises_the_hit_over_what_stood_above_it():
    student = tiny_student()
    order = ranked(student)
    third = order[2]
    model = model_of("grpo", moved=False, student=student, negatives=ITEMS)

    def scores():
        return brute_force(model.student, ROWS[[0, 5]], ROWS)[order]

    before = scores()
    step(model, model(batch_of(Sequences.from_lists([[0, 5, third]]))), rate=1e-3)
    gain = scores() - before
    assert gain[2] > 0
    assert gain[2] > max(gain[0], gain[1])


def test_a_group_without_the_target_moves_nothing_at_the_start():
    student = tiny_student()
    train = Sequences.from_lists([[0, 5, ranked(student)[-1]]])
    model = model_of("grpo", moved=False, student=student, negatives=3)
    loss = model(batch_of(train))
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert all(g.abs().max() < 1e-6 for g in gradients(model, loss))


# The stage


class Interrupted(Exception):
    pass


def ring(users=24):
    """Each user walks round a ring of the items: the next one is certain."""
    starts = np.random.default_rng(0).integers(0, ITEMS, users)
    return leave_one_out(Sequences.from_lists([(np.arange(s, s + 6) % ITEMS).tolist() for s in starts]))


def train(method, folder, stop_at=None):
    config = config_of(method).train
    model = model_of(method, moved=False)
    seen = []

    def validate(kept):
        seen.append(1)
        if len(seen) == stop_at:
            raise Interrupted
        return {"ndcg@10": float(len(seen))}

    def batches(rank, world):
        return WindowBatches(TRAIN, HISTORY, config.batch_size, config.seed, rank=rank, world=world)

    return fit(model, batches, validate, config, folder), model


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_stage_resumes_exactly_where_it_was(tmp_path, method):
    whole, expected = train(method, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(method, tmp_path / "cut", stop_at=2)
    resumed, model = train(method, tmp_path / "cut")
    assert [p["loss"] for p in resumed.losses] == [p["loss"] for p in whole.losses]
    assert all(torch.equal(v, expected.state_dict()[k]) for k, v in model.state_dict().items())


@pytest.fixture(scope="module")
def ids():
    space = ItemSpace({}, None)
    codebooks = Codebooks(np.zeros((LEVELS, CODES, 2), np.float32))
    return SemanticIds(ROWS, codebooks, space, SidQuality(ITEMS, CODES, [], [], [], 0, 1.0))


@pytest.mark.parametrize("method", METHODS)
def test_a_stage_that_improves_validation_is_kept(tmp_path, ids, method):
    start = tiny_student()
    config = config_of(method, negatives=ITEMS, beta=0.1, epochs=6, batch_size=8, learning_rate=1e-2, warmup=0.0)
    refined, result = refine(start, ring(), ids, config, tmp_path)
    assert result["kept"]
    assert refined is not start
    assert result["after"]["ndcg@10"] > result["before"]["ndcg@10"]
    assert result["after"]["ndcg@10"] == max(v["ndcg@10"] for v in result["validations"])
    save_student(refined, tmp_path)  # as the stage does; a second call must not mistake it for its own weights
    again, same = refine(start, ring(), ids, config, tmp_path)
    assert same["after"] == result["after"]
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in refined.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_a_stage_that_does_not_improve_validation_gives_the_start_back(tmp_path, ids, method):
    start = tiny_student()
    weights = copy.deepcopy(start.state_dict())
    refined, result = refine(start, ring(), ids, config_of(method, learning_rate=0.0), tmp_path)
    assert not result["kept"]
    assert refined is start
    assert result["after"] == result["before"]
    assert all(torch.equal(v, weights[k]) for k, v in start.state_dict().items())


def test_no_method_leaves_the_student_alone(tmp_path, ids):
    start = tiny_student()
    refined, result = refine(start, ring(), ids, config_of("none"), tmp_path)
    assert refined is start
    assert result == {"method": "none", "kept": False}
    with pytest.raises(ConfigError, match=r"preference\.method"):
        make_preference(start, ROWS, config_of("none"))
