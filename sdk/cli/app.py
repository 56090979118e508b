"""The command line: thin commands over typed functions. Results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pocketrec.cli.bench import EXAMPLE as BENCH_EXAMPLE
from pocketrec.cli.bench import bench
from pocketrec.cli.catalog import catalog_app
from pocketrec.cli.convert import export_text_encoder
from pocketrec.cli.export import EXAMPLE as EXPORT_EXAMPLE
from pocketrec.cli.export import export
from pocketrec.cli.output import print_json, print_pairs, stderr, stdout
from pocketrec.cli.prune import prune
from pocketrec.cli.publish import PUBLISH_EXAMPLE, keys_app, publish, repo_app, serve
from pocketrec.cli.sync import EXAMPLE as SYNC_EXAMPLE
from pocketrec.cli.sync import sync
from pocketrec.processes import Processes
from pocketrec.runtime.errors import ConfigError

if TYPE_CHECKING:
    from pocketrec.run.pipeline import Pipeline, RunResult

app = typer.Typer(
    name="pocketrec",
    help="A recommender that lives inside the app: train, export, measure and run it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Look at input data.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(catalog_app, name="catalog")
app.command(epilog="Example: [bold]pocketrec export-text-encoder models/minilm --out text-encoder[/bold]")(
    export_text_encoder
)
app.command(epilog="Example: [bold]pocketrec prune runs/first --ratio 0.2 --out runs/first/small[/bold]")(prune)
app.command(epilog=BENCH_EXAMPLE)(bench)
app.command(epilog=PUBLISH_EXAMPLE)(publish)
app.command(epilog=SYNC_EXAMPLE)(sync)
app.add_typer(keys_app, name="keys")
app.add_typer(repo_app, name="repo")
app.command(epilog="Example: [bold]pocketrec serve site --port 8000[/bold]")(serve)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="One setting, over the configuration file.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML or JSON file of settings.")]
Interactions = Annotated[
    Path,
    typer.Option("--interactions", help="The log: CSV(.gz), TSV, Parquet, JSON lines, or a folder of parts."),
]
Items = Annotated[Path | None, typer.Option("--items", help="The catalogue: an id column and any text columns.")]
Start = Annotated[str | None, typer.Option("--from", metavar="STAGE", help="Run again from this stage on.")]
Bundle = Annotated[Path, typer.Argument(help="A bundle's folder.")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="native, native-int8, onnx, onnx-split, gguf or reference. If left out: native where it is compiled, else "
        "the bundle's own.",
    ),
]
User = Annotated[str | None, typer.Option("--user", help="The log's user column (guessed if left out).")]
Item = Annotated[str | None, typer.Option("--item", help="The log's item column.")]
Timestamp = Annotated[str | None, typer.Option("--timestamp", help="The log's time column.")]
Position = Annotated[str | None, typer.Option("--position", help="The log's order column, where it has no time.")]


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


@app.command(epilog="Example: [bold]pocketrec quickstart --out my-first-run[/bold]")
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("pocketrec-quickstart"),
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Train, export and try a movie recommender on real MovieLens ratings: the whole path, in minutes."""
    from pocketrec.config import load_config
    from pocketrec.quickstart import DEFAULTS, SAMPLE_HISTORY, write_movielens

    config = load_config(None, settings or (), DEFAULTS)
    ratings, movies = write_movielens(out / "input")
    result = _run(_pipeline(out, ratings, movies, config), None, as_json)
    if not as_json:
        _show_sample(result, SAMPLE_HISTORY)


@app.command(
    epilog="Example: [bold]pocketrec train --interactions log.csv.gz --items items.csv --out runs/first "
    "--set train.epochs=20[/bold]"
)
def train(
    interactions: Interactions,
    out: Annotated[Path, typer.Option(help="Folder of the run; an earlier one is continued.")],
    items: Items = None,
    config_file: ConfigFile = None,
    settings: Set = None,
    start: Start = None,
    user: User = None,
    item: Item = None,
    timestamp: Timestamp = None,
    position: Position = None,
    stages: Annotated[bool, typer.Option("--stages", help="List the stages and their state, run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Train a student on a log and a catalogue, export it, measure it through the runtime, write the report.

    Finished stages whose inputs are unchanged are skipped; an interrupted run goes on where it was.
    """
    from pocketrec.config import load_config

    columns = _columns(user, item, timestamp, position)
    config = load_config(config_file, [*columns, *(settings or ())])
    pipeline = _pipeline(out, interactions, items, config)
    if stages:
        _show_stages(pipeline, as_json)
    else:
        _run(pipeline, start, as_json)


@data_app.command("check", epilog="Example: [bold]pocketrec data check --interactions log.csv --items items.csv[/bold]")
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
    """Read a log and a catalogue and say what is wrong with them, with row numbers; train nothing.

    Exit code 1 if training would refuse the data.
    """
    from pocketrec.config import load_config
    from pocketrec.distill.data.load import check_data

    columns = _columns(user, item, timestamp, position)
    report = check_data(interactions, items, load_config(config_file, [*columns, *(settings or ())]).data)
    if as_json:
        print_json(report.to_dict())
    else:
        _show_check(report.to_dict())
    if any(finding.severity == "error" for finding in report.findings):
        raise typer.Exit(1)


@app.command(
    epilog="Example: [bold]pocketrec evaluate runs/first/export/bundle --interactions log.csv.gz --json[/bold]"
)
def evaluate(
    bundle: Bundle,
    interactions: Interactions,
    split: Annotated[str, typer.Option(help="test or valid.")] = "test",
    max_history: Annotated[int, typer.Option(min=1, help="Newest items of a history that count.")] = 20,
    beam: Annotated[int | None, typer.Option(min=1, help="Beam width; the bundle's own if left out.")] = None,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="Never recommend items of the history.")] = False,
    engine: Engine = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    settings: Set = None,
    user: User = None,
    item: Item = None,
    timestamp: Timestamp = None,
    position: Position = None,
    as_json: Json = False,
) -> None:
    """Measure a bundle's files on held-out events of a log, through the runtime that ships.

    The log is cleaned and split as it was for training, unless --set data.NAME=VALUE says otherwise.
    """
    from pocketrec.cli.console import RichProgress
    from pocketrec.config import load_config
    from pocketrec.export.measure import evaluate_log
    from pocketrec.runtime.recommender import Recommender

    if split not in ("test", "valid"):
        raise ConfigError(f"--split {split}: choose test or valid")
    with Recommender.load(bundle, engine=engine, threads=threads) as recommender:
        trained = recommender.manifest.provenance.get("config", {})
        defaults = {"data": {**trained.get("data", {}), "images": None}}
        config = load_config(None, [*_columns(user, item, timestamp, position), *(settings or ())], defaults)
        measured = evaluate_log(
            recommender, bundle, interactions, config.data, split=split, max_history=max_history, beam=beam,
            exclude_seen=exclude_seen, progress=RichProgress(stderr()),
        )  # fmt: skip
    if as_json:
        print_json(measured)
    else:
        print_pairs(f"{bundle}, {split}", measured)


@app.command(epilog="Example: [bold]pocketrec recommend runs/first/export/bundle --history 318,296 -k 5[/bold]")
def recommend(
    bundle: Bundle,
    history: Annotated[str, typer.Option(help="Item ids, oldest first, separated by commas; may be empty.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Items of the history may come back.")] = False,
    engine: Engine = None,
    as_json: Json = False,
) -> None:
    """Recommend items for a history."""
    from pocketrec.runtime.recommender import Recommender

    ids = [part.strip() for part in history.split(",") if part.strip()]
    with Recommender.load(bundle, engine=engine) as recommender:
        found = recommender.recommend(ids, k=k, exclude_seen=not include_seen)
    if as_json:
        items = [{"item_id": r.item_id, "score": r.score, "title": r.title} for r in found]
        print_json({"items": items, "unknown": list(found.unknown)})
        return
    _print_recommendations("recommended", found)
    if found.unknown:
        stderr().print(f"[yellow]not in the catalogue, skipped:[/yellow] {', '.join(found.unknown)}")


@app.command(epilog="Example: [bold]pocketrec inspect runs/first/export/bundle --operators[/bold]")
def inspect(
    bundle: Bundle,
    operators: Annotated[bool, typer.Option("--operators", help="List the ONNX operators of the graphs.")] = False,
    ort_config: Annotated[
        Path | None,
        typer.Option("--ort-config", help="Write the operators as ONNX Runtime's reduced builds read them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a bundle's every file and show its manifest: shape, files, provenance, what was measured on it."""
    from pocketrec.runtime.bundle.bundle import open_bundle

    opened = open_bundle(bundle)
    opened.load_trie()
    manifest = opened.manifest.to_dict()
    if operators or ort_config:
        manifest["operators"] = _operators(opened, ort_config)
    if as_json:
        print_json(manifest)
        return
    print_pairs("model", manifest["model"])
    print_pairs("files", {name: f"{entry['bytes']:,} bytes" for name, entry in manifest["files"].items()})
    print_pairs("catalogue", manifest["catalogue"])
    print_pairs("trained from", {k: v for k, v in manifest["provenance"].items() if k != "config"})
    for convention, measured in manifest["metrics"].items():
        print_pairs(f"measured on the test split, {convention}", measured)
    if operators:
        print_pairs("operators", {domain: ", ".join(names) for domain, names in manifest["operators"].items()})


def _operators(opened: Any, ort_config: Path | None) -> dict[str, list[str]]:
    """Operator names by domain; written as ONNX Runtime's configuration where a file is named."""
    from pocketrec.export.operators import operators, reduced_build_config
    from pocketrec.run.run_files import write_text

    found = operators(opened)
    if ort_config:
        write_text(ort_config, reduced_build_config(found).rstrip())
    return {f"{domain} {opset}": sorted(names) for (domain, opset), names in sorted(found.items())}


app.command(epilog=EXPORT_EXAMPLE)(export)


def _columns(*names: str | None) -> list[str]:
    given = zip(("user", "item", "timestamp", "position"), names, strict=True)
    return [f"data.{column}={json.dumps(name)}" for column, name in given if name is not None]


def _pipeline(out: Path, interactions: Path, items: Path | None, config: Any) -> Pipeline:
    from pocketrec.cli.console import RichProgress
    from pocketrec.distill.progress import SILENT
    from pocketrec.run.pipeline import Pipeline

    progress = RichProgress(stderr()) if Processes.launched().main else SILENT
    return Pipeline(out, interactions, items, config, progress)


def _run(pipeline: Pipeline, start: str | None, as_json: bool) -> RunResult:
    from rich.markup import escape

    from pocketrec.cli.console import metrics_table
    from pocketrec.config import config_to_dict
    from pocketrec.run.pipeline import flat_metrics

    console = stderr()
    console.print("[bold]configuration[/bold]")
    for section, values in config_to_dict(pipeline.config).items():
        shown = " ".join(f"{k}={json.dumps(v, separators=(',', ':'))}" for k, v in values.items())
        console.print(f"  [cyan]{section}[/cyan] {escape(shown)}", highlight=False)

    def on_stage(stage: Any, skipped: bool) -> None:
        mark = "[dim]done before[/dim]" if skipped else "[green]running[/green]"
        console.print(f"[bold]{stage.name}[/bold] {stage.does} — {mark}")

    result = pipeline.run(start, on_stage)
    if as_json:
        print_json(
            {
                "run": str(result.run),
                "bundle": str(result.bundle),
                "report": str(result.report),
                "metrics": flat_metrics(result.metrics),
                "baselines": {name: flat_metrics(m) for name, m in result.baselines.items()},
                "teachers": {name: flat_metrics(m) for name, m in result.teachers.items()},
                "seconds": result.seconds,
            }
        )
        return result
    size = sum(p.stat().st_size for p in result.bundle.iterdir())
    out = stdout()
    out.print(
        metrics_table(
            {"student (bundle)": result.metrics, **result.teachers, **result.baselines}, "Test split, all items ranked"
        )
    )
    out.print(f"\nbundle  {result.bundle}  ({size / 1e6:.1f} MB)\nreport  {result.report}", soft_wrap=True)
    return result


def _show_stages(pipeline: Pipeline, as_json: bool) -> None:
    from pocketrec.cli.console import plain_table

    states = pipeline.status()
    if as_json:
        print_json({"stages": [{"name": s.name, "state": s.state, "seconds": s.seconds} for s in states]})
        return
    rows = [(s.name, s.does, s.state, "" if s.seconds is None else f"{s.seconds:.1f} s") for s in states]
    stdout().print(plain_table("stages", ("stage", "does", "state", "took"), rows))


def _show_sample(result: RunResult, history: list[str]) -> None:
    from pocketrec.runtime.recommender import Recommender

    with Recommender.load(result.bundle) as recommender:
        table = recommender.trie.table
        rows = table.find(history)
        titles = [t for t in table.titles(rows[rows >= 0]) if t]
        found = recommender.recommend(history, k=10)
    out = stdout()
    out.print(f"\n[bold]after[/bold] {' · '.join(titles)}", soft_wrap=True)
    _print_recommendations("recommended", found)
    out.print(
        f"\nnext: pocketrec recommend {result.bundle} --history {','.join(history)} -k 5",
        soft_wrap=True,
        markup=False,
    )


def _print_recommendations(title: str, found: Any) -> None:
    from pocketrec.cli.console import plain_table

    rows = [(n, r.item_id, r.title or "", f"{r.score:.3f}") for n, r in enumerate(found, start=1)]
    stdout().print(plain_table(title, ("", "item", "title", "log-probability"), rows))


def _show_check(report: dict[str, Any]) -> None:
    from pocketrec.cli.console import plain_table

    marks = {"ok": "[green]✔[/green]", "warning": "[yellow]⚠[/yellow]", "error": "[red]✘[/red]"}
    facts = {k: v for k, v in report.items() if k != "findings" and not isinstance(v, (list, dict))}
    print_pairs("data", facts)
    rows = [
        (marks.get(f["severity"], ""), f["code"], f["count"], f["what"], f["rule"], _places(f["examples"]))
        for f in report["findings"]
    ]
    out = stdout()
    out.print(plain_table("findings", ("", "code", "count", "what", "rule", "first rows"), rows))


def _places(examples: Any) -> str:
    return ", ".join(str(e) for e in examples[:5])
