"""`pocketrec catalog`: a trained run over a new catalogue."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from pocketrec.cli.output import print_json, print_pairs, stderr, stdout

catalog_app = typer.Typer(help="Refresh the catalogue of a trained run.", no_args_is_help=True)


@catalog_app.command(
    "refresh",
    epilog="Example: [bold]pocketrec catalog refresh runs/first --items today.csv --out bundles/today[/bold], then "
    "[bold]pocketrec publish bundles/today …[/bold]",
)
def refresh(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    items: Annotated[Path, typer.Option(help="The whole new catalogue, with the columns of the training one.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    bundle: Annotated[
        Path | None,
        typer.Option(help="The run's bundle to go on from, such as yesterday's; the run's own if left out."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Vectors of the new catalogue's images (.npy).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Give new items semantic IDs from the frozen codebooks, let gone ones go; the model does not change."""
    from pocketrec.cli.console import RichProgress
    from pocketrec.run.refresh import refresh_catalogue

    done = refresh_catalogue(run, items, out, bundle, images, RichProgress(stderr()))
    told = {**dataclasses.asdict(done), "bundle": str(out)}
    if as_json:
        print_json(told)
        return
    crowding = told.pop("crowding")
    print_pairs("refreshed", told)
    for level, one in enumerate(crowding):
        stdout().print(
            f"level {level}: {one['mean']} continuations of a prefix on average, {one['largest']} at most, "
            f"room for {one['room']}"
        )
