"""`pocketrec prune`: a finished run's student made smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.options import FinishedRun, Json, Set, example
from pocketrec.cli.output import print_json, progress, stdout

EXAMPLE = example("pocketrec prune runs/first --ratio 0.2 --out runs/first/small")


def prune(
    run: FinishedRun,
    out: Annotated[Path, typer.Option(help="Folder of the pruned weights; an interrupted pruning there is resumed.")],
    ratio: Annotated[float | None, typer.Option(help="Share of the student's parameters to keep, such as 0.2.")] = None,
    parameters: Annotated[int | None, typer.Option(help="Number of parameters to keep at most.")] = None,
    size: Annotated[int | None, typer.Option("--bytes", help="Bytes of the float32 weight file, at most.")] = None,
    criterion: Annotated[str | None, typer.Option(help="taylor or magnitude.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Folder of the weights to prune, such as an earlier result; the run's own if left out."),
    ] = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Prune the student of a finished run: remove the layers, heads, channels and widths that raise the loss least.

    The student is cut gradually while it is trained (with the run's soft labels, if there are any); then the smaller
    student is trained until it has recovered.
    """
    from pocketrec.processes import Processes
    from pocketrec.run.prune import prune_checkpoint
    from pocketrec.run.run import Run

    targets = {"ratio": ratio, "parameters": parameters, "bytes": size}
    chosen: list[str] = []
    if any(value is not None for value in targets.values()):  # in place of the run's own target, if it has one
        chosen += [f"prune.{name}={json.dumps(value)}" for name, value in targets.items()]
    if criterion:
        chosen.append(f"prune.criterion={criterion}")
    opened, processes = Run.open(run, [*chosen, *(settings or ())]), Processes.launched()
    result = prune_checkpoint(opened, start, out, progress(), processes)
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
