"""Models trained elsewhere: `pocketrec export MODEL_DIR --index …` and `pocketrec export-text-encoder`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.options import Json, example
from pocketrec.cli.output import print_json, print_pairs
from pocketrec.runtime.errors import ConfigError, DataError

EXAMPLE = example("pocketrec export-text-encoder models/minilm --out text-encoder")
PANEL = "A causal Llama trained elsewhere"

Index = Annotated[
    Path | None,
    typer.Option("--index", help='JSON: {"item id": ["<a_12>", …]}; token ids work as well.', rich_help_panel=PANEL),
]
Titles = Annotated[
    Path | None, typer.Option("--titles", help="CSV with the columns item_id and title.", rich_help_panel=PANEL)
]
Prompt = Annotated[
    str, typer.Option("--prompt", help="Text before every history, special tokens included.", rich_help_panel=PANEL)
]
PromptIds = Annotated[
    str, typer.Option("--prompt-ids", metavar="N,N,…", help="The prompt as token ids.", rich_help_panel=PANEL)
]
MaxHistory = Annotated[
    int,
    typer.Option(
        "--max-history", min=1, help="Number of newest items of a history that are used.", rich_help_panel=PANEL
    ),
]
Beam = Annotated[int, typer.Option("--beam", min=1, help="Beam width.", rich_help_panel=PANEL)]


def convert(
    model: Path,
    index: Path,
    out: Path,
    wanted: tuple[str, str],
    titles: Path | None,
    prompt: str | list[int],
    max_history: int,
    beam: int,
) -> dict[str, Any]:
    """Convert a `LlamaForCausalLM` that generates semantic-ID tokens into a bundle or a GGUF file.

    :param wanted: format and quantisation.
    :returns: facts about the files, for the user.
    """
    name, quantize = wanted
    if name == "gguf":
        from pocketrec.export.gguf.llama import convert_llama_gguf

        return convert_llama_gguf(model, index, out, prompt=prompt, quantize=quantize)
    from pocketrec.export.llama.convert import convert_llama

    manifest = convert_llama(
        model, index, out, item_titles=_read_titles(titles) if titles else None, prompt=prompt,
        max_history=max_history, beam=beam, quantize=quantize,
    )  # fmt: skip
    spec = manifest.model
    return {
        "bundle": str(out), "items": manifest.catalogue.items, "levels": spec.levels, "codes": spec.codes,
        "prompt_tokens": spec.prompt, "parameters": spec.parameters, "sid_space": spec.sid_space,
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
    }  # fmt: skip


def prompt_of(text: str, ids: str) -> str | list[int]:
    """Return the prompt as text or token ids, whichever was given.

    :raises ConfigError: if both were given, or the ids are not numbers.
    """
    if text and ids:
        raise ConfigError("--prompt and --prompt-ids are both given; give one of them")
    try:
        return [int(part) for part in ids.split(",")] if ids else text
    except ValueError as error:
        raise ConfigError(f"--prompt-ids {ids!r}: give whole numbers separated by commas") from error


def export_text_encoder(
    model_dir: Annotated[Path, typer.Argument(metavar="DIR", help="A local transformers directory.")],
    out: Annotated[Path, typer.Option(help="Folder of the encoder; an older encoder there is replaced.")],
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longer texts are cut; the same as text.max_tokens in training.")
    ] = 64,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest difference from torch that is accepted.")] = 1e-4,
    as_json: Json = False,
) -> None:
    """Export a text encoder to ONNX, so that an app can embed the texts of new items; its output is checked.

    Needs the extra `optimum`, which requires transformers below 4.58: install it in a separate environment.
    """
    from pocketrec.export.text_encoder import export_text_encoder as export

    written = export(model_dir, out, max_tokens=max_tokens, tolerance=tolerance)
    if as_json:
        print_json(written)
    else:
        print_pairs("exported", {**written, "largest_difference": f"{written['largest_difference']:.2g}"})


def _read_titles(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := {"item_id", "title"} - set(reader.fieldnames or ()):
                raise DataError(f"{path} has no column {min(missing)!r}; it needs item_id and title")
            return {row["item_id"]: row["title"] for row in reader if row["title"]}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); give a CSV file with item_id and title") from error
