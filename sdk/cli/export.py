"""`pocketrec export`: a trained student, or a model trained elsewhere, as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.convert import Beam, Index, MaxHistory, Prompt, PromptIds, Titles, convert, prompt_of
from pocketrec.cli.options import Json, example
from pocketrec.cli.output import print_json, print_pairs, progress, stdout
from pocketrec.runtime.errors import ConfigError

EXAMPLE = example(
    "pocketrec export runs/first --quantize int8 --out bundles/int8",
    "pocketrec export models/lc-rec --index index.json --out bundles/lc-rec",
)


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_CHECKPOINT",
            help="Folder of a finished run, of a checkpoint of `pocketrec prune`, or, with --index, of a "
            "LlamaForCausalLM.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the bundle; an older bundle there is replaced once this one has passed.")
    ],
    format: Annotated[str | None, typer.Option("--format", help="onnx or gguf.")] = None,
    quantize: Annotated[str | None, typer.Option("--quantize", help="How weights are stored; none: float32.")] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="arm64 or x86: the format that suits such processors.")
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of ndcg@10 that it may lose against float32.")
    ] = 0.02,
    questions: Annotated[int, typer.Option(min=0, help="Validation users to measure on; 0: all.")] = 4000,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse it also if there are too few users to tell whether it lost more.")
    ] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Measure every other format as well.")] = False,
    index: Index = None,
    titles: Titles = None,
    prompt: Prompt = "",
    prompt_ids: PromptIds = "",
    max_history: MaxHistory = 20,
    beam: Beam = 20,
    as_json: Json = False,
) -> None:
    """Export a trained student, measure the files, and refuse them if they lost too much quality.

    onnx: none (float32), fp16, int8 (a scale per channel), int4 (a scale per block of 32). gguf: none, f16, q8_0, q4_0,
    q6_k, q4_k. The measures are written to the bundle's manifest and to the run's report.

    With --index, a causal Llama that generates semantic-ID tokens (LC-Rec, TIGER flattened) is converted instead. Its
    input must be the prompt and then the tokens of each item, oldest first; its output, the tokens of the next item.
    Nothing is measured, since there is no run to measure on.
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
        raise ConfigError("--titles, --prompt and --prompt-ids are for a causal Llama; give its --index as well")
    _export_run(source, out, (format, quantize, preset), (max_drop, questions, strict), compare, as_json)


def _export_run(
    source: Path,
    out: Path,
    wanted: tuple[str | None, str | None, str | None],
    gate: tuple[float, int, bool],
    compare: bool,
    as_json: bool,
) -> None:
    from pocketrec.cli.console import plain_table
    from pocketrec.export.quality_gates import described
    from pocketrec.run.export import TrainedStudent

    max_drop, questions, strict = gate
    exported = TrainedStudent.load(source).export(
        out, *wanted, max_drop=max_drop, questions=questions, strict=strict, compare=compare, progress=progress()
    )
    rows = [gate.to_dict() for gate in exported.gates]
    if as_json:
        print_json({"bundle": str(exported.bundle), "gates": rows})
        return
    names = ("", "bytes", "recall@10", "ndcg@10", "lost", "same top 10", "p50 ms", "peak MB")
    stdout().print(plain_table("validation users, seen items kept", names, [_row(row) for row in rows]))
    last = exported.gates[-1]
    if last.verdict == "undecided":
        stdout().print(
            f"{last.questions:,} questions are not enough to tell whether {last.artifact} lost more than "
            f"{max_drop:.1%} of ndcg@10: it lost {described(last)}. It is exported all the same; --strict refuses it.",
            soft_wrap=True,
        )
    stdout().print(f"\nbundle  {exported.bundle}  ({rows[-1]['bytes'] / 1e6:.2f} MB)", soft_wrap=True)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["artifact"], f"{row['bytes']:,}", f"{row['recall@10']:.4f}", f"{row['ndcg@10']:.4f}",
        f"{row['loss']:.1%} {row['verdict']}", f"{row['agreement@10']:.1%}",
        f"{row['p50_ms']:.2f}", f"{row['peak_mb']:.0f}",
    )  # fmt: skip
