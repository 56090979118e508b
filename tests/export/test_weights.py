"""The student's tensors beside the blocks, and the description that belongs to them."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.export.weights import device_weights, model_spec, weight_bytes, write_weights
from pocketrec.runtime.bundle.weights import read_weights
from tiny import CODES, LEVELS, SPACE, tiny_student

SHAPES = [{}, {"pair_dim": 0}, {"layers": 3, "share_layers": True}, {"heads": 4, "kv_heads": 2, "head_dim": 8}]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_file_holds_the_tensors_that_its_description_promises(tmp_path, shape):
    student = tiny_student(**shape)
    write_weights(student, tmp_path / "w.safetensors")
    spec = model_spec(student, SPACE, 4, (CODES,) * LEVELS)
    found = read_weights(tmp_path / "w.safetensors", spec)  # refuses a tensor that is missing or of another shape
    assert found.keys() == device_weights(student).keys()
    assert (tmp_path / "w.safetensors").stat().st_size == weight_bytes(student)


def test_pairs_are_listed_by_rising_codes_and_the_first_row_is_for_all_others():
    student = tiny_student()
    tensors = device_weights(student)
    keys = tensors["pair.keys"].astype(np.int64)
    assert (np.diff(keys) > 0).all()
    assert student.pairs.row.flatten()[keys].tolist() == list(range(1, len(keys) + 1))
    assert not tensors["pair.table"][0].any()
