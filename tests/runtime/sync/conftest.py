"""Bundles that differ in their catalogues, keys, and a world for each test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from repository_server import World, make_bundles, unencrypted_keys


@pytest.fixture(scope="session")
def sync_bundles(tmp_path_factory):
    """Four bundles of one model over different catalogues, and one of another model."""
    return make_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def sync_keys(tmp_path_factory):
    return unencrypted_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def world(tmp_path, sync_bundles, sync_keys):
    return World(tmp_path, sync_bundles, sync_keys)
