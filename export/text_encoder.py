"""A text encoder for the device: a transformers directory to ONNX, by optimum, checked against torch.

optimum-onnx 0.1 needs transformers below 4.58, while the rest of pocketrec also runs with 5. So it is an extra of its
own (`optimum`), best installed in its own environment. The exported encoder needs neither:
`pocketrec.runtime.text_encoder` runs it with ONNX Runtime and tokenizers.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.distill.config import TextConfig
from pocketrec.distill.semantic_ids.text_vectors import encode_texts
from pocketrec.runtime.errors import ConfigError, MissingExtraError, TrainingError
from pocketrec.runtime.files.atomic import atomic_write, partial_folder, put_in_place
from pocketrec.runtime.text_encoder import SETTINGS_FILE, TOKENIZER_FILE, TextEncoder, TextEncoderSettings

GRAPH, OUTPUT = "model.onnx", "last_hidden_state"
SAMPLES = (
    "",
    "Argan oil shampoo",
    "Toy Story (1995), animation, children, comedy",
    "Crème brûlée – 6 × 80 g, ohne Zucker 😀",
    "a long description " * 200,
)
_MISSING = (
    "exporting a text encoder needs optimum-onnx, which needs transformers below 4.58; "
    "in a separate environment, run: pip install 'pocketrec[optimum]'"
)


def export_text_encoder(
    directory: Path,
    out: Path,
    *,
    max_tokens: int = 64,
    tolerance: float = 1e-4,
    samples: Sequence[str] = SAMPLES,
) -> dict[str, Any]:
    """Export a text encoder; it replaces an older folder of the same name when it has passed its check.

    :param directory: a local transformers directory with a fast tokenizer (tokenizer.json).
    :param out: the folder to write.
    :param max_tokens: longer texts are cut; use the value that the item vectors were made with (`text.max_tokens`).
    :param tolerance: largest difference allowed between the vectors of torch and of the exported files.
    :param samples: texts that both encode for this check.
    :returns: {"encoder": path, "dim": n, "max_tokens": n, "bytes": n, "largest_difference": x}.
    :raises ConfigError: if the directory does not hold an encoder that can be exported.
    :raises MissingExtraError: without optimum-onnx.
    :raises TrainingError: if the exported encoder differs from the torch model.
    """
    for name in ("config.json", TOKENIZER_FILE):
        if not (directory / name).is_file():
            raise ConfigError(f"{directory} has no {name}; give a local transformers directory with a fast tokenizer")
    partial = partial_folder(out)
    shutil.rmtree(partial, ignore_errors=True)
    _run_optimum(directory, partial)
    _strip(partial / GRAPH)
    expected = encode_texts(samples, TextConfig(encoder=str(directory), max_tokens=max_tokens))
    settings = TextEncoderSettings(graph=GRAPH, output=OUTPUT, dim=int(expected.shape[1]), max_tokens=max_tokens)
    atomic_write(partial / SETTINGS_FILE, [settings.to_json()])
    difference = float(np.abs(TextEncoder(partial).encode(samples) - expected).max())
    if not difference <= tolerance:
        raise TrainingError(
            f"the exported encoder differs from the torch model by {difference:.2g}, more than the tolerance of "
            f"{tolerance}; {out} is unchanged, and the exported files are kept in {partial}"
        )
    put_in_place(partial, out)
    size = sum(path.stat().st_size for path in out.iterdir())
    return {
        "encoder": str(out), "dim": settings.dim, "max_tokens": max_tokens, "bytes": size,
        "largest_difference": difference,
    }  # fmt: skip


def _run_optimum(directory: Path, out: Path) -> None:
    try:
        from optimum.exporters.onnx import main_export
    except ModuleNotFoundError as error:
        raise MissingExtraError(_MISSING) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about tracing; the check below decides
        try:
            main_export(
                str(directory), output=str(out), task="feature-extraction", library_name="transformers",
                do_validation=False, local_files_only=True,
            )  # fmt: skip
        except (OSError, KeyError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"optimum cannot export {directory} ({reason}); give an encoder that it supports"
            ) from error


def _strip(path: Path) -> None:
    """Remove the exporter's traces of its machine: stack traces, source lines, metadata."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for entry in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del entry.metadata_props[:]
    atomic_write(path, [model.SerializeToString(deterministic=True)])
