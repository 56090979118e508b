"""Reads everything that a conversion needs: a model, its item index and the prompt in front of every history.

No model code of transformers is used; its tokenizer is, if tokens or a prompt are given as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.export.llama.index import TokenIndex, read_index
from pocketrec.export.llama.read import Llama, read_llama
from pocketrec.runtime.errors import ConfigError


@dataclass(frozen=True)
class Source:
    """A model read for conversion: weights, items and the token ids in front of every history."""

    llama: Llama
    index: TokenIndex
    prompt: tuple[int, ...]


def read_source(directory: Path, index: Path, prompt: str | Sequence[int] = "") -> Source:
    """Read and check a model directory, its item index and its prompt; parameters as for `convert_llama`.

    :raises ConfigError: if the model or the prompt cannot be converted.
    :raises DataError: if the index is not one of this model.
    """
    llama = read_llama(directory)
    items = read_index(index, llama.shape.vocab, lambda: _tokenizer(directory).get_vocab())
    ids = prompt if not isinstance(prompt, str) else _encoded(directory, prompt)
    for token in ids:
        if not 0 <= token < llama.shape.vocab:
            raise ConfigError(
                f"the prompt has token {token}, but the model's vocabulary has {llama.shape.vocab} tokens; "
                "give token ids of this model"
            )
    return Source(llama, items, tuple(ids))


def _encoded(directory: Path, prompt: str) -> list[int]:
    """Token ids of a prompt, without the special tokens that a tokenizer adds."""
    if not prompt:
        return []
    ids: list[int] = _tokenizer(directory).encode(prompt, add_special_tokens=False)
    return ids


def _tokenizer(directory: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # the type differs between versions and kinds of tokenizer
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"the tokenizer of {directory} cannot be loaded ({reason}); give token ids in the index and the prompt"
        ) from error
