"""Losses of distillation against plain sums over the catalogue."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pocketrec.distill.committee.soft_labels import SoftLabels, write_soft_labels
from pocketrec.distill.config import DistillConfig, SoftLabelConfig
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.training.losses import Distillation, HardLabels, level_marginals, unlikelihood_of_seen
from pocketrec.runtime.errors import ConfigError
from tiny import random_rows, tiny_student

ROWS = random_rows(20)
N_ITEMS = len(ROWS)


@pytest.fixture
def train():
    generator = np.random.default_rng(0)
    return Sequences.from_lists([generator.integers(0, N_ITEMS, 5).tolist() for _ in range(8)])


def batch_of(train):
    (micro_batches,) = WindowBatches(train, 6, 100, seed=0).epoch(0)
    return micro_batches[0]


def fixed_teacher(batch):
    generator = torch.Generator().manual_seed(3)
    return 2 * torch.randn(N_ITEMS, generator=generator).expand(len(batch.loss_at), -1)


def labels_of(train, folder, features=None, top=N_ITEMS):
    write_soft_labels(folder, fixed_teacher, train, N_ITEMS, 6, SoftLabelConfig(top=top), features=features)
    return SoftLabels(folder, train)


def loss(train, labels, student=None, **weights):
    settings = {"hard": 0.0, "soft": 0.0, "sampled": 0, "temperature": 1.0, **weights}
    model = Distillation(student or tiny_student(seed=0), ROWS, labels, DistillConfig(**settings)).eval()
    return model(batch_of(train))


def test_marginals_are_the_conditional_code_probabilities_by_brute_force():
    generator = np.random.default_rng(0)
    codes = int(ROWS.max()) + 1
    p = generator.dirichlet(np.ones(N_ITEMS), 4).astype(np.float32)
    sids = torch.from_numpy(ROWS.astype(np.int64)).expand(4, -1, -1)
    target = torch.from_numpy(ROWS[[1, 5, 7, 7]].astype(np.int64))
    goals = level_marginals(sids, torch.from_numpy(p), target, codes)
    for row, level in itertools.product(range(4), range(ROWS.shape[1])):
        same = (ROWS[:, :level] == target[row, :level].numpy()).all(1)
        expected = np.array([p[row][same & (ROWS[:, level] == c)].sum() for c in range(codes)]) / p[row][same].sum()
        assert np.allclose(goals[level][row], expected, atol=1e-6)


def test_a_prefix_the_teacher_says_nothing_of_falls_back_to_the_true_code():
    sids = torch.from_numpy(ROWS[:1].astype(np.int64))[None]
    other = next(row for row in ROWS if row[0] != ROWS[0, 0])
    goals = level_marginals(sids, torch.ones(1, 1), torch.from_numpy(other.astype(np.int64))[None], int(ROWS.max()) + 1)
    assert int(goals[0].argmax()) == ROWS[0, 0]
    assert int(goals[1].argmax()) == other[1]
    assert int(goals[2].argmax()) == other[2]


def test_hard_labels_alone_are_the_hard_loss(train, tmp_path):
    student = tiny_student(seed=0)
    expected = HardLabels(student, ROWS).eval()(batch_of(train))
    assert loss(train, labels_of(train, tmp_path), student, hard=1.0).item() == pytest.approx(expected.item())


def test_unlikelihood_is_that_of_every_seen_item_on_average(train):
    """Brute force over all seen items, against the mean of many draws."""
    student, batch = tiny_student(seed=0).eval(), batch_of(train)
    sids = torch.from_numpy(ROWS.astype(np.int64))
    with torch.no_grad():
        hidden = student(sids[batch.inputs], batch.is_start, batch.mask).flatten(0, 1)[batch.loss_at]
        exact = 0.0
        for row, event in enumerate(batch.events.tolist()):
            history = train.items[train.starts[train.starts <= event].max() : event]
            for item in history[history != train.items[event]]:
                code = sids[int(item)][None]
                logits = student.level_logits(hidden[row : row + 1], code)
                log_p = sum(x.log_softmax(1)[0, code[0, n]] for n, x in enumerate(logits))
                exact -= float(torch.log1p(-log_p.exp()))
        torch.manual_seed(0)
        draws = [float(unlikelihood_of_seen(student, sids, hidden, batch)) for _ in range(800)]
    assert np.mean(draws) == pytest.approx(exact, rel=0.05)


def test_unlikelihood_is_added_to_either_loss(train, tmp_path):
    student, labels, batch = tiny_student(seed=0).eval(), labels_of(train, tmp_path), batch_of(train)
    sids = torch.from_numpy(ROWS.astype(np.int64))
    with torch.no_grad():
        hidden = student(sids[batch.inputs], batch.is_start, batch.mask).flatten(0, 1)[batch.loss_at]
        torch.manual_seed(0)
        expected = 0.7 * float(unlikelihood_of_seen(student, sids, hidden, batch))
        hard = DistillConfig(hard=1.0, soft=0.0)
        for without, with_it in (
            (HardLabels(student, ROWS), HardLabels(student, ROWS, 0.0, 0.7)),
            (Distillation(student, ROWS, labels, hard), Distillation(student, ROWS, labels, hard, 0.7)),
        ):
            torch.manual_seed(0)
            found = float(with_it.eval()(batch)) - float(without.eval()(batch))
            assert found == pytest.approx(expected, rel=1e-3)


def test_a_certain_teacher_makes_soft_labels_hard(train, tmp_path):
    student = tiny_student(seed=0)

    def certain(batch):
        return 100.0 * torch.nn.functional.one_hot(batch.targets, N_ITEMS).float()

    write_soft_labels(tmp_path, certain, train, N_ITEMS, 6, SoftLabelConfig(top=4))
    labels = SoftLabels(tmp_path, train)
    expected = HardLabels(student, ROWS).eval()(batch_of(train)).item()
    assert loss(train, labels, student, soft=1.0).item() == pytest.approx(expected, rel=1e-5)
    assert loss(train, labels, student, soft=1.0, sampled=2).item() == pytest.approx(expected, rel=1e-5)


def test_sampled_targets_estimate_the_cross_entropy_over_items(train, tmp_path):
    """Brute force: the sum over all items of the teacher's probability times the student's negative log-likelihood."""
    student, labels, batch = tiny_student(seed=0).eval(), labels_of(train, tmp_path), batch_of(train)
    items, p = labels.at(batch.events.numpy())
    sids = torch.from_numpy(ROWS.astype(np.int64))
    with torch.no_grad():
        hidden = student(sids[batch.inputs], batch.is_start, batch.mask).flatten(0, 1)[batch.loss_at]
        exact = 0.0
        for place in range(items.shape[1]):
            target = sids[torch.from_numpy(items[:, place].astype(np.int64))]
            logits = student.level_logits(hidden, target)
            nll = -sum(x.log_softmax(1).gather(1, target[:, n, None])[:, 0] for n, x in enumerate(logits))
            exact += float((nll * torch.from_numpy(p[:, place] / p.sum(1))).sum())
        torch.manual_seed(0)
        estimate = loss(train, labels, student, soft=1.0, sampled=4000).item()
    assert estimate == pytest.approx(exact, rel=0.01)


def test_hard_and_sampled_soft_labels_are_one_mixture(train, tmp_path):
    """On average, hard · CE(true item) + soft · Σ_i q(i) · −log p(i), whatever the shares."""
    student, labels = tiny_student(seed=0).eval(), labels_of(train, tmp_path)
    with torch.no_grad():
        torch.manual_seed(0)
        apart = 0.3 * loss(train, labels, student, hard=1.0) + 0.7 * loss(
            train, labels, student, soft=1.0, sampled=4000, temperature=0.5
        )
        together = loss(train, labels, student, hard=0.3, soft=0.7, sampled=4000, temperature=0.5)
        single = [loss(train, labels, student, hard=0.3, soft=0.7, sampled=1, temperature=0.5) for _ in range(400)]
    assert float(together) == pytest.approx(float(apart), rel=0.01)
    assert float(np.mean(single)) == pytest.approx(float(apart), rel=0.02)


def test_soft_labels_at_temperature_are_weighted_by_its_square(train, tmp_path):
    """T² · CE(q^(1/T), p^(1/T)) at level 0, by hand; a student of equal logits makes it a constant."""
    student = tiny_student(seed=0)
    for parameter in [*student.decoder.out.parameters(), student.pairs.query.weight]:
        torch.nn.init.zeros_(parameter)
    found = loss(train, labels_of(train, tmp_path), student, soft=1.0, temperature=2.0).item()
    positions, levels = len(batch_of(train).events), ROWS.shape[1]
    assert found == pytest.approx(4.0 * positions * levels * np.log(student.codes), rel=1e-4)


def test_features_are_cosine_and_distance_through_the_projection(train, tmp_path):
    labels = labels_of(train, tmp_path, features=lambda b: b.events[:, None, None].expand(-1, 2, 7) % 5 + 1.0)
    student = tiny_student(seed=0, layers=2).eval()
    model = Distillation(student, ROWS, labels, DistillConfig(hard=0, soft=0, cosine=1.0, norm=0.1)).eval()
    batch = batch_of(train)
    sids = torch.from_numpy(ROWS.astype(np.int64))
    with torch.no_grad():
        found = model(batch).item()
        states = student.states(sids[batch.inputs], batch.is_start, batch.mask)
        expected = 0.0
        for state, project in zip(states, model.projections, strict=True):
            mine = (state.flatten(0, 1)[batch.loss_at] @ project.weight.T).numpy()
            theirs = labels.features_at(batch.events.numpy())[:, 0]
            cosine = (mine * theirs).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(theirs, axis=1)
            expected += (1 - cosine).sum() + 0.1 * np.linalg.norm(mine - theirs, axis=1).sum()
    assert found == pytest.approx(expected, rel=1e-4)


def test_intermediate_blocks_have_a_loss_too(train, tmp_path):
    student = tiny_student(seed=0, layers=2)
    labels = labels_of(train, tmp_path)
    assert loss(train, labels, student, intermediate=1.0).item() > 0
    assert (
        loss(train, labels, student, hard=1.0, intermediate=0.5).item() > loss(train, labels, student, hard=1.0).item()
    )


def test_impossible_alignments_are_refused(train, tmp_path):
    labels = labels_of(train, tmp_path)
    with pytest.raises(ConfigError, match="layers"):
        loss(train, labels, tiny_student(seed=0, layers=1), intermediate=1.0)
    with pytest.raises(ConfigError, match=r"soft_labels\.features"):
        loss(train, labels, tiny_student(seed=0, layers=2), cosine=1.0)
