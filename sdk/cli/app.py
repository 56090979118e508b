"""The command line, assembled: one module per command. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from pocketrec.cli import (
    bench,
    catalog,
    convert,
    data,
    evaluate,
    export,
    inspect,
    keys,
    prune,
    publish,
    recommend,
    repo,
    serve,
    sync,
    train,
)
from pocketrec.cli.options import help_text

app = typer.Typer(
    name="pocketrec",
    help="A recommender that lives inside the app: train, export, measure and run it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command, epilog in (
    (train.quickstart, train.QUICKSTART_EXAMPLE),
    (train.train, train.EXAMPLE),
    (evaluate.evaluate, evaluate.EXAMPLE),
    (recommend.recommend, recommend.EXAMPLE),
    (inspect.inspect, inspect.EXAMPLE),
    (export.export, export.EXAMPLE),
    (prune.prune, prune.EXAMPLE),
    (bench.bench, bench.EXAMPLE),
    (convert.export_text_encoder, convert.EXAMPLE),
    (publish.publish, publish.EXAMPLE),
    (serve.serve, serve.EXAMPLE),
    (sync.sync, sync.EXAMPLE),
):
    app.command(epilog=epilog, help=help_text(command))(command)
for group in (data.data_app, catalog.catalog_app, keys.keys_app, repo.repo_app):
    app.add_typer(group)


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is going on, on stderr.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"pocketrec {installed('pocketrec')}")
        raise typer.Exit
