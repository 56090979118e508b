"""Progress reports of long work: library code calls `track`; only the command line draws a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[..., None]


class Progress:
    """Reports nothing. `pocketrec.cli.console.RichProgress` draws bars."""

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Advance]:
        """Yield `advance(n=1, note="")`, to be called whenever `n` steps are done.

        :param label: a few words that name the work.
        :param total: number of steps in all.
        """
        yield lambda n=1, note="": None


SILENT = Progress()
