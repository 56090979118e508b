"""Embed item texts on the device, with the encoder that `pocketrec export-text-encoder` wrote, by ONNX Runtime.

The vectors are the same as those that semantic IDs were made from (`pocketrec.distill.semantic_ids.text_vectors`): the
mean over the tokens, of length one. So an app can embed the text of a new item. Needs the `tokenizers` package (extra
`text`), but no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.engines.onnx import open_session
from pocketrec.runtime.errors import BundleError, ConfigError, MissingExtraError, one_line
from pocketrec.runtime.files.strict_json import parse_json

SETTINGS_FILE: Final = "text-encoder.json"
TOKENIZER_FILE: Final = "tokenizer.json"
FORMAT: Final = "pocketrec.text-encoder"
MAX_SETTINGS_BYTES: Final = 1 << 16
INPUTS: Final = {"input_ids", "attention_mask", "token_type_ids"}
_REMEDY: Final = "export the encoder again"


@dataclass(frozen=True)
class TextEncoderSettings:
    """Content of `text-encoder.json`."""

    graph: str  # file name of the ONNX graph
    output: str  # name of the output that has a vector per token
    dim: int
    max_tokens: int  # longer texts are cut
    pooling: str = "mean"
    format: str = FORMAT
    version: int = 1

    def to_json(self) -> bytes:
        """Return the file's content."""
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()


class TextEncoder:
    """Texts in, vectors out. Thread-safe."""

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        """Open an exported encoder.

        :param folder: holds `text-encoder.json`, `tokenizer.json` and the graph.
        :param threads: threads for one call.
        :raises BundleError: if a file is missing or damaged.
        :raises MissingExtraError: without the tokenizers package.
        """
        folder = Path(folder)
        self.settings = _read_settings(folder)
        self._tokenizer = _tokenizer(folder / TOKENIZER_FILE, self.settings.max_tokens)
        self._session = open_session(folder / self.settings.graph, {}, threads)
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        results = [entry.name for entry in self._session.get_outputs()]
        if not {"input_ids"} <= {*self._inputs} <= INPUTS or self.settings.output not in results:
            raise BundleError(
                f"{folder / self.settings.graph} is not the graph of a text encoder; export the encoder again"
            )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one L2-normalised vector per text, float32 [n, dim].

        :raises ConfigError: if `texts` is one string instead of a list of them.
        """
        if isinstance(texts, str):
            raise ConfigError(f"the texts are one string, {texts!r:.60}; give a list of texts")
        out = np.zeros((len(texts), self.settings.dim), np.float32)
        for row, text in enumerate(texts):
            encoding = self._tokenizer.encode(text)
            known = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
            known["token_type_ids"] = encoding.type_ids
            feed = {name: np.array([known[name]], np.int64) for name in self._inputs}
            hidden = self._run(feed)
            pooled = hidden[0].mean(axis=0) if hidden.shape[1] else out[row]
            out[row] = pooled / max(float(np.linalg.norm(pooled)), 1e-12)
        return out

    def _run(self, feed: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return a vector per token, float32 [1, tokens, dim]."""
        try:
            (hidden,) = self._session.run([self.settings.output], feed)
        except Exception as error:  # ONNX Runtime's own exception types differ between versions
            raise BundleError(f"ONNX Runtime cannot run the text encoder ({one_line(error)}); {_REMEDY}") from error
        needed = (*feed["input_ids"].shape, self.settings.dim)
        if hidden.dtype != np.float32 or hidden.shape != needed or not np.isfinite(hidden).all():
            found = f"{hidden.dtype} {list(hidden.shape)}"
            raise BundleError(f"the text encoder gives {found}, not finite float32 {list(needed)}; {_REMEDY}")
        return np.asarray(hidden)


def _read_settings(folder: Path) -> TextEncoderSettings:
    path = folder / SETTINGS_FILE
    try:
        if not path.is_file():
            raise OSError(f"it has no file {SETTINGS_FILE}")
        with path.open("rb") as file:
            settings = TextEncoderSettings(**parse_json(file.read(MAX_SETTINGS_BYTES)))
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(
            f"{folder} has no usable text encoder ({error}); export one with export-text-encoder"
        ) from error
    names = all(isinstance(text, str) and text for text in (settings.graph, settings.output))
    in_folder = names and Path(settings.graph).name == settings.graph
    sizes = all(type(size) is int and 1 <= size <= 1 << 20 for size in (settings.dim, settings.max_tokens))
    if (settings.format, settings.version, settings.pooling) != (FORMAT, 1, "mean") or not (in_folder and sizes):
        raise BundleError(f"{path} was not written by this version of pocketrec, or is damaged; {_REMEDY}")
    return settings


def _tokenizer(path: Path, max_tokens: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MissingExtraError("the text encoder needs tokenizers; run: pip install 'pocketrec[text]'") from error
    try:
        if not path.is_file():
            raise OSError("there is no such file")
        tokenizer: Any = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise BundleError(f"{path} cannot be read as a tokenizer ({one_line(error)}); {_REMEDY}") from error
    tokenizer.enable_truncation(max_length=max_tokens)
    tokenizer.no_padding()
    return tokenizer
