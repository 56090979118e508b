"""How long work reports its progress. Library code calls `track`; only the CLI draws anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[..., None]


class Progress:
    """Reports nothing. `pocketrec.cli.console.RichProgress` draws bars."""

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Advance]:
        """Yield `advance(n=1, note="")`, to be called as `n` of `total` steps get done.

        :param label: what is being done, a few words.
        :param total: number of steps in all.
        """
        yield lambda n=1, note="": None


SILENT = Progress()
