"""Shared fixtures; see tests/tiny.py for the model they stand on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("untimed", deadline=None)  # on a busy machine any example may take long
settings.load_profile("untimed")
# Several test processes on two cores are faster with one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def beauty() -> Path:
    """Return the folder with Amazon Beauty's interactions.csv.gz and items.csv.gz."""
    folder = os.environ.get("POCKETREC_BEAUTY")
    if not folder:
        pytest.skip("set POCKETREC_BEAUTY to the folder with the Amazon Beauty files")
    return Path(folder)
