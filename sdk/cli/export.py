"""`pocketrec export`: a trained student as a bundle of any format, past the gates; or a model trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.convert import Beam, Index, MaxHistory, Prompt, PromptIds, Titles, convert, prompt_of
from pocketrec.cli.output import print_json, print_pairs, stderr, stdout
from pocketrec.runtime.errors import ConfigError

EXAMPLE = (
    "Examples: [bold]pocketrec export runs/first --quantize int8 --out bundles/int8[/bold] · "
    "[bold]pocketrec export models/lc-rec --index index.json --out bundles/lc-rec[/bold]"
)


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_CHECKPOINT",
            help="Folder of a finished run, what `pocketrec prune` left, or with --index a LlamaForCausalLM's folder.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; an older one is replaced when this one has passed.")],
    format: Annotated[str | None, typer.Option("--format", help="onnx or gguf.")] = None,
    quantize: Annotated[str | None, typer.Option("--quantize", help="How weights are stored; none: float32.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="arm64 or x86: what suits such CPUs.")] = None,
    max_drop: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of ndcg@10 that may be lost against float32.")
    ] = 0.02,
    questions: Annotated[int, typer.Option(min=0, help="Validation users asked; 0: all.")] = 4000,
    compare: Annotated[bool, typer.Option("--compare", help="Measure every other format beside it.")] = False,
    index: Index = None,
    titles: Titles = None,
    prompt: Prompt = "",
    prompt_ids: PromptIds = "",
    max_history: MaxHistory = 20,
    beam: Beam = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Export a trained student, measure the files, refuse them if they lost too much.

    onnx: none (float32), fp16, int8 (a scale per channel), int4 (a scale per block of 32). gguf: none, f16, q8_0, q4_0,
    q6_k, q4_k. What each measured stands in the bundle's manifest and in the run's report.

    With --index, a causal Llama that generates semantic-ID tokens (LC-Rec, TIGER flattened) is converted instead: it
    must read the prompt, then the tokens of each item, oldest first, and go on with the next item's. There is no run
    to measure it on.
    """
    from pocketrec.export.formats import find_format

    if index is not None:
        row = find_format(format, quantize, preset)
        before = prompt_of(prompt, prompt_ids)
        written = convert(source, index, out, (row.name, row.quantize), titles, before, max_history, beam)
        if as_json:
            print_json({**written, "gates": []})
        else:
            print_pairs("converted", written)
        return
    if titles or prompt or prompt_ids:
        raise ConfigError("--titles, --prompt and --prompt-ids are for a causal Llama; give its --index, too")
    _export_run(source, out, (format, quantize, preset), max_drop, questions, compare, as_json)


def _export_run(
    source: Path,
    out: Path,
    wanted: tuple[str | None, str | None, str | None],
    max_drop: float,
    questions: int,
    compare: bool,
    as_json: bool,
) -> None:
    from pocketrec.cli.console import RichProgress, plain_table
    from pocketrec.run.export import TrainedStudent

    exported = TrainedStudent.load(source).export(
        out, *wanted, max_drop=max_drop, questions=questions, compare=compare, progress=RichProgress(stderr())
    )
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
