"""A student and its files: written, read back, and refused when they do not belong together."""

from __future__ import annotations

import pytest

from pocketrec.distill.training.student_training import load_student, save_student
from pocketrec.runtime.errors import TrainingError
from prunable import prunable_ids
from tiny import tiny_student


@pytest.fixture(scope="module")
def ids():
    return prunable_ids()


def test_a_folder_without_a_student_is_refused(tmp_path, ids):
    with pytest.raises(TrainingError, match=r"student\.json"):
        load_student(tmp_path, ids)
    save_student(tiny_student(), tmp_path)
    (tmp_path / "best.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be read"):
        load_student(tmp_path, ids)
