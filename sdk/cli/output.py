"""Where the command line writes: results on stdout, everything else on stderr, and only from the main process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from pocketrec.processes import Processes

if TYPE_CHECKING:
    from rich.console import Console


def stderr() -> Console:
    """The console for progress and warnings."""
    from rich.console import Console

    return Console(stderr=True, quiet=not Processes.launched().main)


def stdout() -> Console:
    """The console for results."""
    from rich.console import Console

    return Console(quiet=not Processes.launched().main)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    if Processes.launched().main:
        typer.echo(json.dumps(value, ensure_ascii=False))


def print_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """Print a table of names and values."""
    from pocketrec.cli.console import plain_table

    shown = [(k, f"{v:.4f}" if isinstance(v, float) else v) for k, v in pairs.items()]
    stdout().print(plain_table(title, ("", ""), shown))
