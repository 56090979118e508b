"""`pocketrec train` and `pocketrec quickstart`: from a log and a catalogue to a bundle and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from pocketrec.cli.output import print_json, print_recommendations, progress, stderr, stdout

if TYPE_CHECKING:
    from pocketrec.distill.config import RunConfig
    from pocketrec.run.pipeline import Pipeline, RunResult

QUICKSTART_EXAMPLE = example("pocketrec quickstart --out my-first-run")
EXAMPLE = example("pocketrec train --interactions log.csv.gz --items items.csv --out runs/first --set train.epochs=20")


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("pocketrec-quickstart"),
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Train, export and try a movie recommender on real MovieLens ratings: the whole path, in minutes."""
    from pocketrec.config import load_config
    from pocketrec.quickstart import DEFAULTS, SAMPLE_HISTORY, write_movielens
    from pocketrec.run.pipeline import Pipeline

    config = load_config(None, settings or (), DEFAULTS)
    ratings, movies = write_movielens(out / "input")
    result = _run(Pipeline(out, ratings, movies, config, progress()), None, as_json)
    if not as_json:
        _show_sample(result, SAMPLE_HISTORY)


def train(
    interactions: Interactions,
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there is resumed.")],
    items: Items = None,
    config_file: ConfigFile = None,
    settings: Set = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run this stage and all after it again.")
    ] = None,
    user: User = None,
    item: Item = None,
    timestamp: Timestamp = None,
    position: Position = None,
    stages: Annotated[bool, typer.Option("--stages", help="List the stages and their state; run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Train a student on a log and a catalogue, export it, measure it through the runtime, write the report.

    Finished stages whose inputs are unchanged are skipped; an interrupted run is resumed where it stopped.
    """
    from pocketrec.config import load_config
    from pocketrec.run.pipeline import Pipeline

    config = load_config(config_file, [*columns(user, item, timestamp, position), *(settings or ())])
    pipeline = Pipeline(out, interactions, items, config, progress())
    if stages:
        _show_stages(pipeline, as_json)
    else:
        _run(pipeline, start, as_json)


def _run(pipeline: Pipeline, start: str | None, as_json: bool) -> RunResult:
    console = stderr()
    _show_config(pipeline.config)

    def on_stage(stage: Any, skipped: bool) -> None:
        mark = "[dim]done before[/dim]" if skipped else "[green]running[/green]"
        console.print(f"[bold]{stage.name}[/bold] {stage.does} — {mark}")

    result = pipeline.run(start, on_stage)
    if as_json:
        print_json(_as_dict(result))
    else:
        _show_result(result)
    return result


def _as_dict(result: RunResult) -> dict[str, Any]:
    from pocketrec.run.pipeline import flat_metrics

    return {
        "run": str(result.run),
        "bundle": str(result.bundle),
        "report": str(result.report),
        "metrics": flat_metrics(result.metrics),
        "alone": {name: flat_metrics(m) for name, m in result.alone.items()},
        "baselines": {name: flat_metrics(m) for name, m in result.baselines.items()},
        "teachers": {name: flat_metrics(m) for name, m in result.teachers.items()},
        "verdict": result.verdict,
        "privacy": result.privacy,
        "seconds": result.seconds,
    }


def _show_config(config: RunConfig) -> None:
    """Print every setting of the run on stderr."""
    from rich.markup import escape

    from pocketrec.config import config_to_dict

    console = stderr()
    console.print("[bold]configuration[/bold]")
    for section, values in config_to_dict(config).items():
        shown = " ".join(f"{k}={json.dumps(v, separators=(',', ':'))}" for k, v in values.items())
        console.print(f"  [cyan]{section}[/cyan] {escape(shown)}", highlight=False)


def _show_result(result: RunResult) -> None:
    from pocketrec.cli.console import metrics_table

    size = sum(p.stat().st_size for p in result.bundle.iterdir())
    out = stdout()
    out.print(metrics_table(result.systems, "Test split, all items ranked"))
    out.print(result.verdict, soft_wrap=True, highlight=False)
    out.print(f"\nbundle  {result.bundle}  ({size / 1e6:.1f} MB)\nreport  {result.report}", soft_wrap=True)
    if result.privacy:
        out.print(f"privacy {result.privacy}", soft_wrap=True, highlight=False)


def _show_stages(pipeline: Pipeline, as_json: bool) -> None:
    from pocketrec.cli.console import plain_table

    states = pipeline.status()
    if as_json:
        print_json({"stages": [{"name": s.name, "state": s.state, "seconds": s.seconds} for s in states]})
        return
    rows = [(s.name, s.does, s.state, "" if s.seconds is None else f"{s.seconds:.1f} s") for s in states]
    stdout().print(plain_table("stages", ("stage", "does", "state", "took"), rows))


def _show_sample(result: RunResult, history: list[str]) -> None:
    """Print what the new bundle recommends after a history, and the command that does the same."""
    from pocketrec.runtime.recommender import Recommender

    with Recommender.load(result.bundle) as recommender:
        table = recommender.trie.table
        rows = table.find(history)
        titles = [t for t in table.titles(rows[rows >= 0]) if t]
        found = recommender.recommend(history, k=10)
    out = stdout()
    out.print(f"\n[bold]after[/bold] {' · '.join(titles)}", soft_wrap=True)
    print_recommendations("recommended", found)
    out.print(
        f"\nnext: pocketrec recommend {result.bundle} --history {','.join(history)} -k 5",
        soft_wrap=True,
        markup=False,
    )
