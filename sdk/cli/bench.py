"""`pocketrec bench`: a bundle beside other ways to recommend over the same semantic IDs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.options import BeamWidth, Bundle, Json, example
from pocketrec.cli.output import print_json, progress, stderr, stdout

EXAMPLE = example("pocketrec bench runs/first/export/bundle --against dense --against generate")


def bench(
    bundle: Bundle,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="dense, generate, onnx-loop or llama.cpp; repeat it for more. All if left out."
        ),
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Compare with nothing.")] = False,
    calls: Annotated[int, typer.Option(min=1, help="Calls of each system, over all rounds.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds; in each, every system is timed once.")] = 10,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items a call recommends.")] = 10,
    beam: BeamWidth = None,
    seed: Annotated[int, typer.Option(help="Seed of the random histories.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Write a chart of the medians to this SVG file.")] = None,
    as_json: Json = False,
) -> None:
    """Measure latency (warm, session, cold), throughput, memory and size of a bundle and of its peers, in turns.

    Rows of pocketrec: as an app loads the bundle (with the native engine where it is compiled), with int8 products, and
    through ONNX Runtime.

    Peers: dense (the same encoder, and a dot product with every item), generate (transformers with a prefix function),
    onnx-loop (ONNX Runtime with a cache, beam search in Python), llama.cpp (the same on a GGUF). They run a Llama of
    the bundle's shape over the same semantic IDs. Every system has one thread. A peer without its packages is left out.
    """
    from pocketrec.bench.bench import bench as measure
    from pocketrec.bench.systems import PEERS
    from pocketrec.cli.console import plain_table

    if plot is not None:
        from pocketrec.report.render import templates

        templates()  # so that a missing jinja2 is reported before the measurements, not after
    chosen = () if alone else tuple(against or PEERS)
    result = measure(bundle, chosen, calls, rounds, k, beam, seed, progress())
    if plot is not None:
        from pocketrec.bench.bench_plot import latency_chart
        from pocketrec.runtime.files.atomic import atomic_write_text

        atomic_write_text(plot, latency_chart(result))
    if as_json:
        print_json(result)
        return
    names = ("", "p50 ms", "p95 ms", "calls/s", "cold start s", "peak MB")
    stdout().print(plain_table(_title(result), names, [_row(row) for row in result["rows"]]))
    for ours, ratios in result["ratios"].items():
        if "session" not in ours:
            _print_ratios(ours, ratios)
    for name, why in result["left_out"].items():
        stderr().print(f"left out: {name} ({why})", soft_wrap=True)


def _print_ratios(ours: str, ratios: dict[str, float]) -> None:
    for name, ratio in ratios.items():
        words = f"{ratio:.1f} times as fast as" if ratio >= 1 else f"{1 / ratio:.1f} times slower than"
        stdout().print(f"{ours} is {words} {name}", soft_wrap=True)


def _title(result: dict[str, Any]) -> str:
    settings = result["settings"]
    return (
        f"history of {settings['history']}, beam {settings['beam']}, k = {settings['k']}, one thread; "
        f"{result['items']:,} items, {result['parameters']:,} parameters, {result['bytes'] / 1e6:.2f} MB"
    )


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["system"], f"{row['p50_ms']:.2f}", f"{row['p95_ms']:.2f}", f"{row['calls_per_s']:.0f}",
        f"{row['cold_s']:.2f}", f"{row['rss_mb']:.0f}",
    )  # fmt: skip
