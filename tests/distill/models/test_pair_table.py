"""The pair table: its own memory for pairs of first codes, and none for pairs that nobody has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.models.pair_table import PairTable
from pocketrec.distill.models.student import Student
from pocketrec.runtime.errors import ConfigError

SIDS = np.array([[0, 1, 0], [0, 1, 2], [2, 3, 1], [3, 0, 0]])


def table(width=4):
    torch.manual_seed(0)
    made = PairTable(6, width, 4, SIDS, dropout=0.0)
    made.initialise()
    return made


def test_items_with_the_same_pair_share_a_row_and_unknown_pairs_have_none():
    pairs = table()
    tokens = pairs.tokens(torch.from_numpy(SIDS))
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])
    assert not pairs.tokens(torch.tensor([[1, 1, 0], [3, 3, 3]])).any()
    assert pairs.table.num_embeddings == 4  # three pairs, and the row of none


def test_logits_are_the_query_times_the_embedding_and_zero_for_unknown_pairs():
    pairs, hidden = table(), torch.randn(3, 6)
    first = torch.tensor([[0, 2], [1, 3], [0, 0]])
    logits = pairs.logits(hidden, first)
    assert logits.shape == (3, 2, 4)
    for row, column, second in np.ndindex(3, 2, 4):
        place = int(pairs.row[first[row, column], second])
        expected = float(pairs.query(hidden[row]) @ pairs.table.weight[place]) if place else 0.0
        assert float(logits[row, column, second]) == pytest.approx(expected, abs=1e-6)


def test_the_logits_of_one_first_code_are_those_of_all_columns_and_train_the_same_rows():
    generator = np.random.default_rng(0)
    sids = np.unique(generator.integers(0, 16, (120, 2)), axis=0)
    torch.manual_seed(0)
    pairs = PairTable(6, 2, 16, sids, dropout=0.0)
    pairs.initialise()
    assert pairs.branch.shape[1] * 2 < pairs.table.num_embeddings  # so that one first code takes its own pairs alone
    hidden, first = torch.randn(9, 6), torch.arange(0, 9)[:, None]
    weights, found = torch.randn(9, 1, 16), []
    for logits in (pairs.logits(hidden, first), pairs.logits(hidden, first.repeat(1, 2))[:, :1]):
        pairs.zero_grad()
        (logits * weights).sum().backward()
        found.append((logits.detach(), pairs.table.weight.grad.clone()))
    torch.testing.assert_close(*(logits for logits, _ in found))
    torch.testing.assert_close(*(gradient for _, gradient in found))


def test_embeddings_begin_as_the_mean_of_their_items_vectors():
    pairs = table()
    before = pairs.table.weight.detach().clone()
    vectors = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    pairs.start_from(vectors, SIDS)
    change = (pairs.table.weight - before).detach().numpy()
    np.testing.assert_allclose(change[int(pairs.row[0, 1])], 0.5 * vectors[:2].mean(0), atol=1e-6)
    np.testing.assert_allclose(change[int(pairs.row[2, 3])], 0.5 * vectors[2], atol=1e-6)
    assert not pairs.table.weight[0].any()


def test_training_leaves_the_row_of_unknown_pairs_at_zero():
    pairs = table()
    optimiser = torch.optim.AdamW(pairs.parameters(), 0.1)
    for _ in range(3):
        loss = pairs.logits(torch.randn(2, 6), torch.tensor([[0, 1], [2, 3]])).square().sum()
        (loss + pairs.tokens(torch.tensor([[1, 1], [0, 1]])).sum()).backward()
        optimiser.step()
        optimiser.zero_grad()
    assert not pairs.table.weight[0].any()
    assert pairs.table.weight[1:].any()


def test_a_student_without_a_catalogue_or_with_one_level_has_no_table():
    shape = StudentConfig(dim=16, heads=2, kv_heads=2, pair_dim=4)
    assert Student(shape, 3, 4).pairs is None
    assert Student(shape, 1, 4, SIDS[:, :1]).pairs is None
    assert Student(shape, 3, 4, SIDS).pairs is not None


def test_a_map_of_too_many_pairs_is_refused():
    with pytest.raises(ConfigError, match=r"student\.pair_dim"):
        PairTable(6, 4, 65536, SIDS, dropout=0.0)
