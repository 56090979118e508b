"""`pocketrec export`: a trained student as a bundle of any format, past the gates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli_output import print_json, stderr, stdout

EXAMPLE = "Example: [bold]pocketrec export runs/first --quantize int8 --out bundles/int8[/bold]"


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or what `pocketrec prune` left.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; an older one is replaced when this one has passed.")],
    format: Annotated[str | None, typer.Option("--format", help="onnx or gguf.")] = None,
    quantize: Annotated[str | None, typer.Option("--quantize", help="How weights are stored; none: float32.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="arm64 or x86: what suits such CPUs.")] = None,
    max_drop: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of ndcg@10 that may be lost against float32.")
    ] = 0.02,
    questions: Annotated[int, typer.Option(min=0, help="Validation users asked; 0: all.")] = 4000,
    compare: Annotated[bool, typer.Option("--compare", help="Measure every other format beside it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Export a trained student, measure the files, refuse them if they lost too much.

    onnx: none (float32), fp16, int8 (a scale per channel), int4 (a scale per block of 32). gguf: none, f16, q8_0, q4_0,
    q6_k, q4_k. What each measured stands in the bundle's manifest and in the run's report.
    """
    from pocketrec.console import RichProgress, plain_table
    from pocketrec.exporting import TrainedStudent

    exported = TrainedStudent.load(run).export(
        out, format, quantize, preset, max_drop=max_drop, questions=questions, compare=compare,
        progress=RichProgress(stderr()),
    )  # fmt: skip
    rows = [gate.to_dict() for gate in exported.gates]
    if as_json:
        print_json({"bundle": str(exported.bundle), "gates": rows})
        return
    names = ("", "bytes", "recall@10", "ndcg@10", "same top 10", "p50 ms", "peak MB")
    stdout().print(plain_table("validation questions, seen items kept", names, [_row(row) for row in rows]))
    stdout().print(f"\nbundle  {exported.bundle}  ({rows[-1]['bytes'] / 1e6:.2f} MB)", soft_wrap=True)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["artifact"], f"{row['bytes']:,}", f"{row['recall@10']:.4f}", f"{row['ndcg@10']:.4f}",
        f"{row['agreement@10']:.1%}", f"{row['p50_ms']:.2f}", f"{row['peak_mb']:.0f}",
    )  # fmt: skip
