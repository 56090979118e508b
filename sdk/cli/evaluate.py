"""`pocketrec evaluate`: the quality and the latency of a bundle on a log."""

from __future__ import annotations

from typing import Annotated

import typer

from pocketrec.cli.options import (
    BeamWidth,
    Bundle,
    Engine,
    Interactions,
    Item,
    Json,
    Position,
    Set,
    Timestamp,
    User,
    columns,
    example,
)
from pocketrec.cli.output import print_json, print_pairs, progress
from pocketrec.runtime.errors import ConfigError

EXAMPLE = example("pocketrec evaluate runs/first/export/bundle --interactions log.csv.gz --json")


def evaluate(
    bundle: Bundle,
    interactions: Interactions,
    split: Annotated[str, typer.Option(help="test or valid.")] = "test",
    beam: BeamWidth = None,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="Never recommend items of the history.")] = False,
    engine: Engine = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
    settings: Set = None,
    user: User = None,
    item: Item = None,
    timestamp: Timestamp = None,
    position: Position = None,
    as_json: Json = False,
) -> None:
    """Measure a bundle's files on held-out events of a log, through the runtime that ships.

    The log is cleaned and split as for training, unless --set data.NAME=VALUE says otherwise.
    """
    from pocketrec.config import load_config
    from pocketrec.export.measure import evaluate_log
    from pocketrec.runtime.recommender import Recommender

    if split not in ("test", "valid"):
        raise ConfigError(f"--split {split}: choose test or valid")
    with Recommender.load(bundle, engine=engine, threads=threads) as recommender:
        trained = recommender.manifest.provenance.get("config", {})
        defaults = {"data": {**trained.get("data", {}), "images": None}}
        config = load_config(None, [*columns(user, item, timestamp, position), *(settings or ())], defaults)
        measured = evaluate_log(
            recommender, bundle, interactions, config.data, split=split, beam=beam,
            exclude_seen=exclude_seen, progress=progress(),
        )  # fmt: skip
    if as_json:
        print_json(measured)
    else:
        print_pairs(f"{bundle}, {split}", measured)
