"""A student so small that every right answer can be found by trying everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.models.student import Student
from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle
from pocketrec.export.refresh import write_refreshed
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie

LEVELS, CODES = 3, 8
SPACE = "0" * 32


def tiny_student(seed: int = 0, **shape: float) -> Student:
    """Random weights, far enough from zero that scores differ; half of all pairs have a row in the pair table."""
    torch.manual_seed(seed)
    settings = {
        "dim": 16,
        "layers": 2,
        "heads": 2,
        "kv_heads": 2,
        "ffn": 24,
        "decoder_dim": 12,
        "max_history": 6,
        "pair_dim": 4,
    }
    student = Student(StudentConfig(**{**settings, **shape}), LEVELS, CODES, random_rows(60, seed=7)).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if student.pairs is not None:
            student.pairs.table.weight[0] = 0.0  # where training leaves it
    return student


def random_rows(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """n distinct SIDs."""
    numbers = np.random.default_rng(seed).choice(CODES**LEVELS, n, replace=False)
    return np.stack(np.unravel_index(numbers, (CODES,) * LEVELS), 1).astype(np.uint8)


def tiny_bundle(folder: Path, student: Student, rows: NDArray[np.uint8], beam: int = 4, **how: str) -> Path:
    """Write a bundle whose graphs have room for any catalogue of the SID space."""
    ids = [f"item-{i}" for i in range(len(rows))]
    titles = [f"Title {i}" for i in range(len(rows))]
    write_bundle(folder, student, BundleItems(rows, ids, titles, SPACE), BundleSettings(beam, CODES, **how))
    return folder


def tiny_refresh(folder: Path, base: Path, rows: NDArray[np.uint8]) -> Path:
    """The model of a tiny bundle over other items: an item's id is its semantic ID's."""
    ids = ["item-" + "-".join(map(str, row)) for row in rows.tolist()]
    trie = ItemTrie.from_rows(rows, ids, codes_per_level=CODES, titles=ids, sid_space=SPACE)
    write_refreshed(open_bundle(base), trie, folder)
    return folder


@torch.no_grad()
def brute_force(student: Student, history: NDArray[np.integer], rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Log-probability of every row after a history, by teacher forcing each: no search at all."""
    tokens = np.concatenate((np.zeros((1, LEVELS), np.int64), history.astype(np.int64)))[None]
    hidden = student(torch.from_numpy(tokens))[0, -1]
    sids = torch.from_numpy(rows.astype(np.int64))
    logits = student.level_logits(hidden.expand(len(rows), -1), sids)
    steps = [level.log_softmax(-1).gather(1, sids[:, n : n + 1]) for n, level in enumerate(logits)]
    return torch.cat(steps, 1).sum(1).numpy()
