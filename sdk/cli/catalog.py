"""`pocketrec catalog`: a trained run with a new catalogue."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from pocketrec.cli.options import FinishedRun, Json, example
from pocketrec.cli.output import print_json, print_pairs, progress, stdout

catalog_app = typer.Typer(name="catalog", help="Refresh the catalogue of a trained run.", no_args_is_help=True)


@catalog_app.command(
    "refresh",
    epilog=example(
        "pocketrec catalog refresh runs/first --items today.csv --out bundles/today",
        note=", then [bold]pocketrec publish bundles/today …[/bold]",
    ),
)
def refresh(
    run: FinishedRun,
    items: Annotated[Path, typer.Option(help="The whole new catalogue, with the columns of the training catalogue.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    bundle: Annotated[
        Path | None,
        typer.Option(help="A bundle of the run to start from, such as yesterday's; the run's own if left out."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Image vectors of the new catalogue (.npy).")] = None,
    as_json: Json = False,
) -> None:
    """Give new items semantic IDs from the frozen codebooks and remove old items; the model does not change."""
    from pocketrec.run.refresh import refresh_catalogue
    from pocketrec.run.run import Run

    opened = Run.open(run, [f"data.images={json.dumps(str(images))}"] if images else [])
    done = refresh_catalogue(opened, items, out, bundle, progress())
    result = {**dataclasses.asdict(done), "bundle": str(out)}
    if as_json:
        print_json(result)
        return
    crowding = result.pop("crowding")
    print_pairs("refreshed", result)
    for level, one in enumerate(crowding):
        stdout().print(
            f"level {level}: a prefix has {one['mean']} continuations on average and {one['largest']} at most; "
            f"there is room for {one['room']}"
        )
