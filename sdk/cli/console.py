"""What the command line shows on a terminal: progress bars and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBars
from rich.table import Table

from pocketrec.distill.progress import Advance, Progress

CONVENTIONS = ("seen kept", "seen excluded")


class RichProgress(Progress):
    """Draws a bar per task, with its count, the time left and a note (loss, best score)."""

    def __init__(self, console: Console) -> None:
        """Draw on a console; if it is not a terminal, print one line per task."""
        self.console = console

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Advance]:
        """Show one task while the `with` block runs."""
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with RichBars(*columns, console=self.console, disable=not self.console.is_terminal) as bars:
            task = bars.add_task(label, total=total, note="")
            if not self.console.is_terminal:
                self.console.print(f"  {label} …")

            def advance(n: int = 1, note: str | None = None) -> None:
                bars.advance(task, n)
                if note is not None:
                    bars.update(task, note=note)

            yield advance


def metrics_table(metrics: Mapping[str, Mapping[str, Mapping[str, float]]], title: str) -> Table:
    """Lay out metrics: a row per system, seen items kept and excluded side by side.

    :param metrics: system → convention → measure → value.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("system")
    for convention in CONVENTIONS:
        for measure in ("recall@10", "ndcg@10"):
            table.add_column(f"{measure}\n{convention}", justify="right")
    table.add_column("mrr\nseen kept", justify="right")
    for name, by_convention in metrics.items():
        cells = [f"{by_convention[c][m]:.4f}" for c in CONVENTIONS for m in ("recall@10", "ndcg@10")]
        table.add_row(name, *cells, f"{by_convention[CONVENTIONS[0]]['mrr']:.4f}")
    return table


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Lay out rows of values, written by `str`."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table
