"""Several processes at one run, as `accelerate launch` starts them: who does what, and who waits for whom."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Processes:
    """Number of this process among `world`; the first one is the main one."""

    rank: int = 0
    world: int = 1

    @staticmethod
    def launched() -> Processes:
        """What the launcher says (torchrun's variables, which `accelerate launch` sets too); alone without one."""
        return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all have come this far."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()
