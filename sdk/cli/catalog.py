"""`pocketrec catalog`: a trained model with a new catalogue, and crowd and words from newer data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketrec.cli.options import Json, example
from pocketrec.cli.output import print_json, print_pairs, progress, stdout
from pocketrec.runtime.errors import ConfigError

if TYPE_CHECKING:
    from pocketrec.run.refresh import Refreshed
    from pocketrec.run.refresh_experts import NewerLog

catalog_app = typer.Typer(name="catalog", help="Refresh the catalogue of a trained model.", no_args_is_help=True)


@catalog_app.command(
    "refresh",
    epilog=example(
        "pocketrec catalog refresh runs/first --items today.csv --interactions week.csv --out bundles/today",
        note=", then [bold]pocketrec publish bundles/today …[/bold]",
    ),
)
def refresh(
    model: Annotated[
        Path, typer.Argument(help="Folder of a finished run, or of a bundle, which takes no new items.", metavar="RUN")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    items: Annotated[
        Path | None,
        typer.Option(help="The whole new catalogue, with the columns of the training catalogue. Left out: as it is."),
    ] = None,
    interactions: Annotated[
        list[Path] | None,
        typer.Option(
            help="A newer log, with the columns of the training log: the crowd is built from both. May be repeated."
        ),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Build the crowd from --interactions alone, without the training log.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(help="A bundle of the run to start from, such as yesterday's; the run's own if left out."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Image vectors of the new catalogue (.npy).")] = None,
    as_json: Json = False,
) -> None:
    """Refresh items, crowd and words; the model does not change.

    With --items, new items get semantic IDs from the frozen codebooks, old items are removed, and all words are built
    again. With --interactions, the crowd is built again: edges between items, and popularity.
    """
    from pocketrec.run.refresh_experts import NewerLog

    if items is None and not interactions:
        raise ConfigError("there is nothing to refresh; give --items, --interactions, or both")
    if alone and not interactions:
        raise ConfigError("--alone is about --interactions; give a log, or leave it out")
    log = NewerLog(interactions, alone) if interactions else None
    done = _refresh(model, items, out, bundle, images, log)
    result = {**dataclasses.asdict(done), "bundle": str(out)}
    if as_json:
        print_json(result)
        return
    crowding, experts = result.pop("crowding"), result.pop("experts")
    print_pairs("refreshed", {**result, **experts})
    for level, one in enumerate(crowding):
        stdout().print(
            f"level {level}: a prefix has {one['mean']} continuations on average and {one['largest']} at most; "
            f"there is room for {one['room']}"
        )


def _refresh(
    model: Path, items: Path | None, out: Path, bundle: Path | None, images: Path | None, log: NewerLog | None
) -> Refreshed:
    """Refresh from a run, or from a bundle alone."""
    from pocketrec.run.refresh import refresh_bundle, refresh_catalogue
    from pocketrec.run.run import Run
    from pocketrec.runtime.bundle.bundle import MANIFEST_FILE

    if not (model / MANIFEST_FILE).is_file():
        run = Run.open(model, [f"data.images={json.dumps(str(images))}"] if images else [])
        return refresh_catalogue(run, items, out, bundle, progress(), log)
    if bundle is not None or images is not None:
        raise ConfigError(f"{model} is a bundle; --bundle and --images are for a run's folder")
    return refresh_bundle(model, items, out, progress(), log)
