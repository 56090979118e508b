"""Students to prune, and what is compared before and after."""

from __future__ import annotations

import copy

import numpy as np
import torch

from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.distill.models.student import Student
from pocketrec.distill.pruning.shape_plan import Budget
from pocketrec.distill.semantic_ids.codebooks import Codebooks
from pocketrec.distill.semantic_ids.fusion import ItemSpace
from pocketrec.distill.semantic_ids.quality import SidQuality
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from tiny import CODES, LEVELS, random_rows

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


def parameters(student):
    """Cost of a shape, for students on the tiny catalogue."""
    pairs = None if student.pairs is None else student.pairs.pairs.numpy()
    return lambda shape: Student(shape, LEVELS, CODES, pairs).parameters_count


def budget(student, ratio):
    return Budget(int(ratio * student.parameters_count), "parameters", parameters(student))


def prunable_ids():
    """Semantic IDs of the ring's items, with empty codebooks."""
    codebooks = Codebooks(np.zeros((LEVELS, CODES, 2), np.float32))
    return SemanticIds(ROWS, codebooks, ItemSpace({}, None), SidQuality(20, CODES, [], [], [], 0, 1.0))
