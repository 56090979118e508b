"""A causal Llama trained elsewhere to generate semantic-ID tokens (LC-Rec, TIGER flattened) becomes a bundle.

In: the directory that `save_pretrained` wrote, and the index that spells every item in tokens. Out: a bundle whose
graphs hold the same search as ours (`export/onnx/llama.py`), so every engine and every host language runs it as it is.
No model code of transformers is used; its tokenizer is, if tokens or a prompt are given as text.

The model must read [prompt ; tokens of the oldest item ; ... ; tokens of the newest] and go on with the next item's
tokens. Text between items or after the history is not supported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.export.bundle import Measured, _finish, begin_folder, put_in_place, slots
from pocketrec.export.llama.index import TokenIndex, read_index
from pocketrec.export.llama.read import Llama, read_llama
from pocketrec.export.llama.weights import token_spec, token_weights
from pocketrec.export.onnx.llama import write_token_graphs
from pocketrec.export.quantize import save_weights
from pocketrec.runtime.bundle.bundle import TRIE_FILE, Manifest
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.engines.numpy_student import WEIGHTS
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
            raise ConfigError(f"the prompt has token {token}, but the model has {llama.shape.vocab}; give its own")
    return Source(llama, items, tuple(ids))


def convert_llama(
    directory: Path,
    index: Path,
    out: Path,
    *,
    item_titles: Mapping[str, str] | None = None,
    prompt: str | Sequence[int] = "",
    max_history: int = 20,
    beam: int = 20,
    headroom: float = 1.5,
    quantize: str = "none",
) -> Manifest:
    """Convert a `LlamaForCausalLM` directory to a bundle; an older one of the same name is replaced when it is whole.

    :param directory: config.json, safetensors and, if texts are given, the tokenizer.
    :param index: JSON, {item id: tokens, as strings or ids}.
    :param out: the bundle's folder.
    :param item_titles: titles by item id; items may be missing.
    :param prompt: what stands before every history, word for word: text (special tokens such as `<s>` are not added
        but may be written) or token ids. Without one, the model reads the items alone.
    :param max_history: newest items of a history that the model reads.
    :param beam: beam width unless a call asks for another.
    :param headroom: how much wider than today's the widest branch of the trie may become.
    :param quantize: how weights are stored, a name of `export.quantize.SCHEMES`.
    :raises ConfigError: if the model or an option cannot be converted.
    :raises DataError: if the index is not one of this model.
    """
    if min(max_history, beam) < 1 or headroom < 1:
        raise ConfigError(
            f"max_history {max_history} and beam {beam} must be at least 1, and headroom {headroom} at least 1.0"
        )
    source = read_source(directory, index, prompt)
    llama, items = source.llama, source.index
    longest = len(source.prompt) + (max_history + 1) * items.levels
    if longest > llama.shape.positions:
        raise ConfigError(
            f"{max_history} items of history and the next are {longest} tokens with the prompt, but the model was made "
            f"for {llama.shape.positions} (max_position_embeddings); lower max_history"
        )
    titles = None if item_titles is None else [item_titles.get(item) for item in items.item_ids]
    trie = ItemTrie.from_rows(
        items.rows, items.item_ids, codes_per_level=items.codes, titles=titles, sid_space=items.sid_space
    )
    spec = token_spec(llama, items, source.prompt, max_history, beam, slots(trie, headroom), quantize)
    partial = begin_folder(out)
    trie.save(partial / TRIE_FILE)
    save_weights(token_weights(llama, items, source.prompt, max_history), partial / WEIGHTS, quantize)
    graphs = write_token_graphs(spec, partial / WEIGHTS)
    provenance = {"converted": {"architecture": "LlamaForCausalLM", "prompt_tokens": list(source.prompt)}}
    manifest = _finish(partial, spec, trie, graphs, provenance, Measured())
    put_in_place(partial, out)
    return manifest


def _encoded(directory: Path, prompt: str) -> list[int]:
    """Token ids of a prompt, nothing added."""
    if not prompt:
        return []
    ids: list[int] = _tokenizer(directory).encode(prompt, add_special_tokens=False)
    return ids


def _tokenizer(directory: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # what it raises differs between versions and kinds of tokenizer
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{directory} has no tokenizer that loads ({reason}); give token ids in the index and the prompt"
        ) from error
