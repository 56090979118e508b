"""Ranks of the test targets, kept beside the measures so that systems of different stages can be compared by pairs.

File: safetensors, an int32 tensor [users] for each system and convention, named "system/convention".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.evaluation.metrics import Difference, paired_difference
from pocketrec.runtime.files.safetensors import write_tensors

FORMAT, VERSION = "pocketrec.ranks", "1"


class KeptRanks:
    """The rank of each case's target in the list of each system, by system and convention; -1: not in the list."""

    def __init__(self, ranks: Mapping[str, NDArray[np.int32]] | None = None) -> None:
        """Begin with ranks by "system/convention"."""
        self._ranks = dict(ranks or {})

    def add(self, system: str, convention: str, ranks: NDArray[np.int32] | None) -> None:
        """Keep a system's ranks, int32 [users]; None: nothing."""
        if ranks is not None:
            self._ranks[f"{system}/{convention}"] = ranks

    def of(self, system: str, convention: str) -> NDArray[np.int32] | None:
        """Return a system's ranks, int32 [users]; None if they were not kept."""
        return self._ranks.get(f"{system}/{convention}")

    def save(self, path: Path) -> None:
        """Write the file."""
        ranks = {name: ranks.astype(np.int32) for name, ranks in self._ranks.items()}
        write_tensors(path, {"format": FORMAT, "version": VERSION}, ranks)

    @classmethod
    def load(cls, *paths: Path) -> KeptRanks:
        """Read files and join them; a file that does not exist is skipped (runs of older versions have none)."""
        from safetensors.numpy import load_file

        found: dict[str, NDArray[np.int32]] = {}
        for path in paths:
            if path.exists():
                found |= load_file(path)
        return cls(found)

    def difference(self, one: str, other: str, convention: str, metric: str) -> Difference | None:
        """Compare two systems on the same cases (see `paired_difference`); None if one of them was not kept."""
        first, second = self.of(one, convention), self.of(other, convention)
        if first is None or second is None or len(first) != len(second):
            return None
        return paired_difference(first, second, metric)
