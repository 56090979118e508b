"""`pocketrec convert` and `pocketrec export-text-encoder`: models trained elsewhere."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli_output import print_json, print_pairs
from pocketrec.runtime.errors import ConfigError, DataError

FORMATS = ("onnx", "gguf")


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    convert_example = "pocketrec convert models/lc-rec --index index.json --out bundle"
    app.command(epilog=f"Example: [bold]{convert_example}[/bold]")(convert)
    encoder_example = "pocketrec export-text-encoder models/minilm --out text-encoder"
    app.command(epilog=f"Example: [bold]{encoder_example}[/bold]")(export_text_encoder)


def convert(
    model_dir: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="What save_pretrained wrote.")],
    index: Annotated[Path, typer.Option(help='JSON: {"item id": ["<a_12>", "<b_7>", ...]}, or token ids.')],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; an older one is replaced.")],
    titles: Annotated[Path | None, typer.Option(help="CSV with the columns item_id and title.")] = None,
    prompt: Annotated[str, typer.Option(help="Text before every history, word for word, specials included.")] = "",
    prompt_ids: Annotated[str, typer.Option(metavar="N,N,...", help="The prompt as token ids.")] = "",
    max_history: Annotated[int, typer.Option(min=1, help="Newest items of a history that are read.")] = 20,
    beam: Annotated[int, typer.Option(min=1, help="Beam width.")] = 20,
    file_format: Annotated[str, typer.Option("--format", help="onnx or gguf.")] = "onnx",
    outtype: Annotated[str, typer.Option(help="Weights of a GGUF: f32, f16 or q8_0.")] = "f16",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Convert a LlamaForCausalLM that generates semantic-ID tokens to a bundle, or to a GGUF for llama.cpp.

    The model must read the prompt, then the tokens of each item, oldest first, and go on with the next item's.
    """
    if file_format not in FORMATS:
        raise ConfigError(f"--format {file_format}: choose {' or '.join(FORMATS)}")
    if prompt and prompt_ids:
        raise ConfigError("--prompt and --prompt-ids are both given; give one")
    before = _numbers(prompt_ids) if prompt_ids else prompt
    if file_format == "gguf":
        from pocketrec.export.convert_gguf import convert_llama_gguf

        written: dict[str, Any] = convert_llama_gguf(model_dir, index, out, prompt=before, outtype=outtype)
    else:
        from pocketrec.export.convert import convert_llama

        manifest = convert_llama(
            model_dir, index, out, item_titles=_read_titles(titles) if titles else None, prompt=before,
            max_history=max_history, beam=beam,
        )  # fmt: skip
        spec = manifest.model
        written = {
            "bundle": str(out), "items": manifest.catalogue.items, "levels": spec.levels, "codes": spec.codes,
            "prompt_tokens": spec.prompt, "parameters": spec.parameters, "sid_space": spec.sid_space,
            "bytes": sum(entry.bytes for entry in manifest.files.values()),
        }  # fmt: skip
    if as_json:
        print_json(written)
    else:
        print_pairs("converted", written)


def export_text_encoder(
    model_dir: Annotated[Path, typer.Argument(metavar="DIR", help="A local transformers directory.")],
    out: Annotated[Path, typer.Option(help="Folder of the encoder; an older one is replaced.")],
    max_tokens: Annotated[int, typer.Option(min=1, help="Longer texts are cut; as text.max_tokens in training.")] = 64,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest difference from torch that passes.")] = 1e-4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Export a text encoder to ONNX, so that an app can embed the text of new items; checked against torch.

    Needs pocketrec[optimum], which pins transformers below 4.58; use an environment of its own.
    """
    from pocketrec.export.text_encoder import export_text_encoder as export

    written = export(model_dir, out, max_tokens=max_tokens, tolerance=tolerance)
    if as_json:
        print_json(written)
    else:
        print_pairs("exported", {**written, "largest_difference": f"{written['largest_difference']:.2g}"})


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--prompt-ids {text!r}: give whole numbers separated by commas") from error


def _read_titles(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := {"item_id", "title"} - set(reader.fieldnames or ()):
                raise DataError(f"{path} has no column {min(missing)!r}; it needs item_id and title")
            return {row["item_id"]: row["title"] for row in reader if row["title"]}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); give a CSV file with item_id and title") from error
