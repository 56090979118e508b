"""Several processes that train one run, as `accelerate launch` starts them: which one writes, and how they wait."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Processes:
    """The place of this process among all that work on a run.

    rank: number of this process, from 0; 0 is the main one. world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @staticmethod
    def launched() -> Processes:
        """Read the launcher's variables (RANK, WORLD_SIZE); one process where there is no launcher."""
        return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


ALONE = Processes()
