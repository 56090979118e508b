"""Bundles and keys to publish with."""

from __future__ import annotations

import pytest

from pocketrec.export.publish.keys import create_keys, load_keys
from tiny import random_rows, tiny_bundle, tiny_refresh, tiny_student


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Five bundles of one model over different catalogues."""
    folder = tmp_path_factory.mktemp("bundles")
    first = tiny_bundle(folder / "0", tiny_student(), random_rows(60, seed=1))
    return [tiny_refresh(folder / str(i), first, random_rows(60 + i, seed=i)) for i in range(1, 6)]


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    create_keys(folder)
    return load_keys(folder, environment={})
