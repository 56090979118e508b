"""The command-line options that several commands have, each defined once, and the texts of a command's help."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.NAME=VALUE", help="One setting, over the configuration; repeat it for more."
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML or JSON file of settings.")]

Interactions = Annotated[
    Path,
    typer.Option("--interactions", help="The log: CSV(.gz), TSV, Parquet, JSON lines, or a folder of such files."),
]
Items = Annotated[Path | None, typer.Option("--items", help="The catalogue: an id column and any text columns.")]
User = Annotated[str | None, typer.Option("--user", help="The log's user column (guessed if left out).")]
Item = Annotated[str | None, typer.Option("--item", help="The log's item column (guessed if left out).")]
Timestamp = Annotated[str | None, typer.Option("--timestamp", help="The log's time column (guessed if left out).")]
Position = Annotated[str | None, typer.Option("--position", help="The log's order column, if it has no times.")]

Bundle = Annotated[Path, typer.Argument(help="Folder of a bundle.")]
FinishedRun = Annotated[Path, typer.Argument(help="Folder of a finished run; its input files are not needed.")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="native, native-int8, onnx, onnx-split, gguf or reference. If left out: native where it is compiled, "
        "otherwise the bundle's own format.",
    ),
]
BeamWidth = Annotated[int | None, typer.Option("--beam", min=1, help="Beam width; the bundle's own if left out.")]

Repo = Annotated[Path, typer.Option("--repo", help="Folder of the repository; any static web server can serve it.")]
Keys = Annotated[
    Path | None,
    typer.Option("--keys", help="Folder of signing keys; keys in POCKETREC_KEY_<ROLE> are used as well."),
]


def byte_count(text: str) -> int:
    """Read a number of bytes: "2MB", "1.5 MiB", "500kB" or "2000000".

    :raises typer.BadParameter: if the text is none, or not positive.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([kmg]?)(i?)b?", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) == 0 or (found[3] and not found[2]):
        raise typer.BadParameter(f"{text!r} is not a number of bytes; write 2MB, 500kB or 2000000")
    base = 1024 if found[3] else 1000
    factor: int = base ** " kmg".index(found[2].lower() or " ")
    return max(1, round(float(found[1]) * factor))


def columns(user: str | None, item: str | None, timestamp: str | None, position: str | None) -> list[str]:
    """Return the named columns of a log as settings (see `Set`)."""
    given = {"user": user, "item": item, "timestamp": timestamp, "position": position}
    return [f"data.{role}={json.dumps(name)}" for role, name in given.items() if name is not None]


def example(*commands: str, note: str = "") -> str:
    """Return the text below a command's help: commands to copy, and a remark on them."""
    shown = " · ".join(f"[bold]{command}[/bold]" for command in commands)
    return f"{'Example' if len(commands) == 1 else 'Examples'}: {shown}{note}"


def help_text(command: Callable[..., None]) -> str:
    """Return a command's docstring with one line per paragraph, so that the terminal decides where lines break."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
