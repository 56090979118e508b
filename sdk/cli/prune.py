"""`pocketrec prune`: a finished run's student made smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.output import print_json, stderr, stdout
from pocketrec.processes import Processes

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="One setting, over the run's own.")]


def prune(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run; its input files are not needed.")],
    out: Annotated[Path, typer.Option(help="Folder of the pruned weights; an interrupted one is continued.")],
    ratio: Annotated[float | None, typer.Option(help="Share of the student's parameters to keep, such as 0.2.")] = None,
    parameters: Annotated[int | None, typer.Option(help="Parameters to keep at most.")] = None,
    size: Annotated[int | None, typer.Option("--bytes", help="Bytes of the float32 weight file, at most.")] = None,
    criterion: Annotated[str | None, typer.Option(help="taylor or magnitude.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Folder of the weights to prune, such as an earlier result; the run's if left out."),
    ] = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Prune the student of a finished run: layers, heads, feed-forward, widths, by what the loss misses least.

    Cuts gradually while it trains on (with the run's soft labels, if there are any), removes what is cut, and lets the
    smaller student recover.
    """
    from pocketrec.cli.console import RichProgress
    from pocketrec.config import load_config
    from pocketrec.distill.progress import SILENT
    from pocketrec.run.prune import prune_checkpoint

    targets = {"ratio": ratio, "parameters": parameters, "bytes": size}
    given = [f"prune.{name}={json.dumps(value)}" for name, value in targets.items()]
    asked = given if any(value is not None for value in targets.values()) else []
    asked += [f"prune.criterion={criterion}"] if criterion else []
    config = load_config(run / "config.json", [*asked, *(settings or ())])
    processes = Processes.launched()
    progress = RichProgress(stderr()) if processes.main else SILENT
    result = prune_checkpoint(run, start, config, out, progress, processes)
    if not processes.main:
        return
    summary = {"checkpoint": str(out), **{name: result[name] for name in ("before", "after", "valid")}}
    if as_json:
        print_json(summary)
    else:
        _show(out, result)


def _show(out: Path, result: dict[str, Any]) -> None:
    from pocketrec.cli.console import plain_table

    before, after, valid = result["before"], result["after"], result["valid"]
    rows: list[tuple[str, object, object]] = [(n, f"{before[n]:,}", f"{after[n]:,}") for n in ("parameters", "bytes")]
    rows += [
        (name, value, after["shape"][name]) for name, value in before["shape"].items() if after["shape"][name] != value
    ]
    rows += [
        (f"{name} (validation)", f"{valid['before'][name]:.4f}", f"{valid['after'][name]:.4f}")
        for name in valid["after"]
    ]
    console = stdout()
    console.print(plain_table("pruned", ("", "before", "after"), rows))
    console.print(f"\ncheckpoint  {out}", soft_wrap=True)
