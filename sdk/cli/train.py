"""`pocketrec train` and `pocketrec quickstart`: from a log and a catalogue to a bundle and a report."""

from __future__ import annotations

import enum
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
    byte_count,
    columns,
    example,
)
from pocketrec.cli.output import print_json, print_recommendations, progress, stderr, stdout
from pocketrec.cli.plan import StageLines, about, show_config, show_plan, show_stages

if TYPE_CHECKING:
    from pocketrec.run.pipeline import RunResult
    from pocketrec.run.plan import Plan

QUICKSTART_EXAMPLE = example("pocketrec quickstart --out my-first-run")
EXAMPLE = example(
    "pocketrec train --interactions log.csv.gz --items items.csv --out runs/first",
    "pocketrec train --interactions log.csv.gz --items items.csv --out runs/small --max-bytes 2MB --plan",
    "pocketrec train --interactions log.csv.gz --out runs/plain --no-teacher --set train.epochs=20",
)


class Size(str, enum.Enum):
    """Sizes of a student."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("pocketrec-quickstart"),
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Train, export and try a movie recommender on real MovieLens ratings: the whole path, in minutes."""
    from pocketrec.config import config_of, given_settings, merged
    from pocketrec.quickstart import DEFAULTS, SAMPLE_HISTORY, write_movielens
    from pocketrec.run.plan import make_plan

    given = merged(DEFAULTS, given_settings(None, settings or ()))
    config_of(given)  # a wrong setting is refused before anything is written
    ratings, movies = write_movielens(out / "input")
    lines = StageLines()
    result = _run(make_plan(out, ratings, movies, given, progress(), lines), lines, None, as_json)
    if not as_json:
        _show_sample(result, SAMPLE_HISTORY)
        _show_shortfall(result)


def train(
    interactions: Interactions,
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there is resumed.")],
    items: Items = None,
    size: Annotated[
        Size | None,
        typer.Option("--size", help="Of the student: about half a million, 1 million, or 4 million parameters."),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            "--max-bytes",
            metavar="BYTES",
            parser=byte_count,
            help="Largest bundle, with its titles: 2MB, 500kB or a number. The student and the experts shrink to fit.",
        ),
    ] = None,
    no_teacher: Annotated[
        bool, typer.Option("--no-teacher", help="Train on the log alone: faster, and less accurate.")
    ] = False,
    config_file: ConfigFile = None,
    settings: Set = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run this stage and all after it again.")
    ] = None,
    user: User = None,
    item: Item = None,
    timestamp: Timestamp = None,
    position: Position = None,
    plan_only: Annotated[
        bool,
        typer.Option(
            "--plan", "--stages", help="Read the data, show the settings, the stages and their time; train nothing."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a student on a log and a catalogue, export it, measure it through the runtime, write the report.

    Settings follow from the data's size and are shown with the expected time; a configuration file and --set override
    single ones. Finished stages whose inputs are unchanged are skipped; an interrupted run is resumed where it stopped.
    """
    from pocketrec.config import given_settings
    from pocketrec.run.plan import make_plan

    flags = [*columns(user, item, timestamp, position), *([f"recipe.size={size.value}"] if size else [])]
    flags += [f"recipe.max_bytes={max_bytes}"] if max_bytes is not None else []
    flags += ["teacher.enabled=false"] if no_teacher else []
    given = given_settings(config_file, [*flags, *(settings or ())])
    lines = StageLines()
    plan = make_plan(out, interactions, items, given, progress(), lines)
    if plan_only:
        show_stages(plan, as_json)
    else:
        result = _run(plan, lines, start, as_json)
        if not as_json:
            _show_shortfall(result)


def _run(plan: Plan, lines: StageLines, start: str | None, as_json: bool) -> RunResult:
    lines.expect(plan)
    show_config(plan.pipeline.config)
    show_plan(plan, stderr())
    expected = plan.seconds_left()
    result = plan.pipeline.run(start, lines)
    if as_json:
        print_json({**_as_dict(result), "expected_seconds": round(expected, 1)})
    else:
        _show_result(result, expected)
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
        "shortfall": result.shortfall,
        "seconds": result.seconds,
    }


def _show_result(result: RunResult, expected: float) -> None:
    from pocketrec.cli.console import metrics_table

    size = sum(p.stat().st_size for p in result.bundle.iterdir())
    out = stdout()
    out.print(metrics_table(result.systems, "Test split, all items ranked"))
    out.print(result.verdict, soft_wrap=True, highlight=False)
    out.print(f"\nbundle  {result.bundle}  ({size / 1e6:.1f} MB)\nreport  {result.report}", soft_wrap=True)
    if result.privacy:
        out.print(f"privacy {result.privacy}", soft_wrap=True, highlight=False)
    out.print(f"time    {about(result.seconds).removeprefix('about ')}; expected {about(expected)}", highlight=False)


def _show_shortfall(result: RunResult) -> None:
    """Say, as the last line, that simple baselines are better than the bundle, if any is."""
    if result.shortfall:
        stdout().print(
            f"\n{result.shortfall['text']}", style="bold yellow", soft_wrap=True, highlight=False, markup=False
        )


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
