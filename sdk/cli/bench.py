"""`pocketrec bench`: a bundle beside other ways to recommend over the same semantic IDs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.output import print_json, stderr, stdout

EXAMPLE = "Example: [bold]pocketrec bench runs/first/export/bundle --against dense --against generate[/bold]"


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="dense, generate, onnx-loop or llama.cpp; all if left out."),
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Compare with nothing.")] = False,
    calls: Annotated[int, typer.Option(min=1, help="Calls of each system, over all rounds.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; every system has a turn in each.")] = 10,
    k: Annotated[int, typer.Option("-k", min=1, help="Items asked for.")] = 10,
    beam: Annotated[int | None, typer.Option(min=1, help="Beam width; the bundle's own if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random histories.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Write a chart of the medians to this SVG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Measure latency (warm, session, cold), throughput, memory and size of a bundle, beside its peers, in turns.

    Rows: pocketrec as an app loads it (the native engine where it is compiled), with products of whole numbers (int8),
    and through ONNX Runtime (onnx).

    Peers: dense (the same encoder, a dot product with every item), generate (transformers, with a prefix function),
    onnx-loop (ONNX Runtime with a cache, beam search in Python), llama.cpp (the same, on a GGUF). They run a Llama of
    the bundle's shape over the same semantic IDs. One thread each. A peer whose packages are missing is left out.
    """
    from pocketrec.bench.bench import bench as measure
    from pocketrec.bench.systems import PEERS
    from pocketrec.cli.console import RichProgress, plain_table

    chosen = () if alone else tuple(against or PEERS)
    result = measure(bundle, chosen, calls, rounds, k, beam, seed, RichProgress(stderr()))
    if plot is not None:
        from pocketrec.bench.bench_plot import latency_chart
        from pocketrec.run.run_files import write_text

        write_text(plot, latency_chart(result))
    if as_json:
        print_json(result)
        return
    names = ("", "p50 ms", "p95 ms", "calls/s", "cold start s", "peak MB")
    stdout().print(plain_table(_title(result), names, [_row(row) for row in result["rows"]]))
    for ours, ratios in result["ratios"].items():
        for name, ratio in ratios.items() if "session" not in ours else ():
            said = f"{ratio:.1f} times as fast as" if ratio >= 1 else f"{1 / ratio:.1f} times slower than"
            stdout().print(f"{ours} is {said} {name}", soft_wrap=True)
    for name, why in result["left_out"].items():
        stderr().print(f"left out: {name} ({why})", soft_wrap=True)


def _title(result: dict[str, Any]) -> str:
    asked = result["settings"]
    return (
        f"history of {asked['history']}, beam {asked['beam']}, k = {asked['k']}, one thread; "
        f"{result['items']:,} items, {result['parameters']:,} parameters, {result['bytes'] / 1e6:.2f} MB"
    )


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["system"], f"{row['p50_ms']:.2f}", f"{row['p95_ms']:.2f}", f"{row['calls_per_s']:.0f}",
        f"{row['cold_s']:.2f}", f"{row['rss_mb']:.0f}",
    )  # fmt: skip
