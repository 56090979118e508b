"""Bundles that differ in their catalogues, keys, and a world for each test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from far_side import World, plain_keys

from tiny import random_rows, tiny_bundle, tiny_refresh, tiny_student


@pytest.fixture(scope="session")
def sync_bundles(tmp_path_factory):
    """Four bundles of one model over different catalogues, and one of another model."""
    folder = tmp_path_factory.mktemp("bundles")
    first = tiny_bundle(folder / "first", tiny_student(), random_rows(60, seed=1))
    other = tiny_bundle(folder / "other", tiny_student(seed=5), random_rows(60, seed=1))
    rows = random_rows(80, seed=2)
    made = [tiny_refresh(folder / str(i), first, rows[2 * i : 60 + 2 * i]) for i in range(4)]
    return [*made, tiny_refresh(folder / "4", other, rows[8:68])]


@pytest.fixture(scope="session")
def sync_keys(tmp_path_factory):
    return plain_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def world(tmp_path, sync_bundles, sync_keys):
    return World(tmp_path, sync_bundles, sync_keys)
