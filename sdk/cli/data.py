"""`pocketrec data check`: what is wrong with a log and a catalogue."""

from __future__ import annotations

from typing import Any

import typer

from pocketrec.cli.options import (
    ConfigFile,
    Interactions,
    Item,
    Items,
    Json,
    Position,
    Set,
    Timestamp,
    User,
    columns,
    example,
)
from pocketrec.cli.output import print_json, print_pairs, stdout

SHOWN_ROWS = 5

data_app = typer.Typer(name="data", help="Look at input data.", no_args_is_help=True)


@data_app.command("check", epilog=example("pocketrec data check --interactions log.csv --items items.csv"))
def data_check(
    interactions: Interactions,
    items: Items = None,
    config_file: ConfigFile = None,
    settings: Set = None,
    user: User = None,
    item: Item = None,
    timestamp: Timestamp = None,
    position: Position = None,
    as_json: Json = False,
) -> None:
    """Read a log and a catalogue and list the problems in them, with row numbers; train nothing.

    The exit code is 1 if training would refuse the data.
    """
    from pocketrec.config import load_config
    from pocketrec.distill.data.load import check_data

    config = load_config(config_file, [*columns(user, item, timestamp, position), *(settings or ())])
    report = check_data(interactions, items, config.data)
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report.to_dict())
    if report.errors:
        raise typer.Exit(1)


def _show(report: dict[str, Any]) -> None:
    from pocketrec.cli.console import plain_table

    marks = {"ok": "[green]✔[/green]", "warning": "[yellow]⚠[/yellow]", "error": "[red]✘[/red]"}
    print_pairs("data", {k: v for k, v in report.items() if not isinstance(v, (list, dict))})
    rows = [
        (
            marks.get(finding["severity"], ""), finding["code"], finding["count"], finding["what"], finding["rule"],
            ", ".join(map(str, finding["examples"][:SHOWN_ROWS])),
        )
        for finding in report["findings"]
    ]  # fmt: skip
    stdout().print(plain_table("findings", ("", "code", "count", "what", "rule", "first rows"), rows))
