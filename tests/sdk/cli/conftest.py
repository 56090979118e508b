"""A small log, and a run trained on it, for all tests of commands."""

from __future__ import annotations

import json

import pytest
from command import train_ring, write_ring


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    """Folder of log.csv and items.csv."""
    return write_ring(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="session")
def trained(log, tmp_path_factory):
    """The folder of a finished run, and what `train --json` printed."""
    run = tmp_path_factory.mktemp("runs") / "first"
    code, out, err = train_ring(log, run, "--json")
    assert code == 0, err
    return run, json.loads(out)
