"""Sizes that are planned are those that come out."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.config import load_config
from pocketrec.distill.config import SidConfig, StudentConfig
from pocketrec.distill.models.student import Student
from pocketrec.sizes import DataFacts, bundle_parts, dense_parameters, pair_rows, student_parameters

SHAPES = {
    "usual": StudentConfig(),
    "few key-value heads": StudentConfig(dim=64, heads=4, kv_heads=2, ffn=96, decoder_dim=80),
    "wide heads, shared layers": StudentConfig(dim=64, heads=2, kv_heads=2, head_dim=48, share_layers=True),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_parameters_of_a_student_without_a_pair_table_are_exact(shape):
    student = Student(shape, 3, 32)
    counted = sum(p.numel() for p in student.parameters())
    assert student_parameters(shape, SidConfig(codes=32), 500) == counted
    assert dense_parameters(shape, SidConfig(codes=32)) == counted - 3 * 32 * shape.dim


def test_the_pair_table_is_estimated_from_the_number_of_items():
    sids = np.random.default_rng(0).integers(0, 32, (500, 3))
    shape = StudentConfig(pair_dim=8)
    counted = sum(p.numel() for p in Student(shape, 3, 32, sids).parameters())
    assert student_parameters(shape, SidConfig(codes=32), 500) == pytest.approx(counted, rel=0.02)
    assert pair_rows(12_101, 256) == pytest.approx(7_820, rel=0.25)  # Amazon Beauty, whose items are clustered
    assert pair_rows(9_066, 256) == pytest.approx(7_078, rel=0.05)  # MovieLens


def test_the_parts_of_a_bundle_are_about_as_large_as_those_of_a_real_one():
    beauty = DataFacts(22_363, 12_101, 198_502, text_bytes=1_417_183, name_bytes=858_903)
    settings = ["student.pair_dim=24", "experts.enabled=true", "experts.neighbours=8", "experts.terms=12"]
    parts = bundle_parts(load_config(None, [*settings, "export.quantize=int8"]), beauty)
    real = {  # of files exported from a run on Amazon Beauty; crowd and words before rare edges were dropped
        "student": 1_027_574,
        "ids and titles of the items": 944_114,
        "crowd": 362_738,
        "words": 315_593,
        "graphs and manifest": 72_919,
    }
    assert parts.keys() == real.keys()
    for name, size in real.items():
        assert parts[name] == pytest.approx(size, rel=0.15)
    assert sum(real.values()) <= sum(parts.values()) <= 1.05 * sum(real.values())
