"""Where the command line writes: results on stdout, everything else on stderr, and only from the main process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from pocketrec.processes import Processes

if TYPE_CHECKING:
    from rich.console import Console

    from pocketrec.distill.progress import Progress
    from pocketrec.runtime.recommendation import Recommendations


def stderr() -> Console:
    """The console for progress and warnings."""
    from rich.console import Console

    return Console(stderr=True, quiet=not Processes.launched().main)


def stdout() -> Console:
    """The console for results."""
    from rich.console import Console

    return Console(quiet=not Processes.launched().main)


def progress() -> Progress:
    """Progress bars on stderr; none in processes other than the main one."""
    from pocketrec.cli.console import RichProgress
    from pocketrec.distill.progress import SILENT

    return RichProgress(stderr()) if Processes.launched().main else SILENT


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    if Processes.launched().main:
        typer.echo(json.dumps(value, ensure_ascii=False))


def print_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """Print a table of names and values."""
    from pocketrec.cli.console import plain_table

    shown = [(k, f"{v:.4f}" if isinstance(v, float) else v) for k, v in pairs.items()]
    stdout().print(plain_table(title, ("", ""), shown))


def print_recommendations(title: str, found: Recommendations) -> None:
    """Print a ranked list of items."""
    from pocketrec.cli.console import plain_table

    rows = [(n, r.item_id, r.title or "", f"{r.score:.3f}") for n, r in enumerate(found, start=1)]
    stdout().print(plain_table(title, ("", "item", "title", "log-probability"), rows))
