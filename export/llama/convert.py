"""A causal Llama trained elsewhere to generate semantic-ID tokens (LC-Rec, TIGER flattened) becomes a bundle.

In: the directory that `save_pretrained` wrote, and the index that gives the tokens of every item. Out: a bundle whose
graphs hold the same search as our student's (`export/onnx/search.py`), so every engine and every host language runs it.

The model must read [prompt ; tokens of the oldest item ; ... ; tokens of the newest] and continue with the next item's
tokens. Text between items or after the history is not supported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketrec.export.bundle import BundleItems, BundleSettings, Contents, finish_bundle
from pocketrec.export.llama.source import Source, read_source
from pocketrec.export.llama.weights import token_spec, token_weights
from pocketrec.export.onnx.write import write_graphs
from pocketrec.export.quantize import save_weights
from pocketrec.runtime.bundle.bundle import TRIE_FILE, WEIGHTS_FILE, Manifest
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.files.atomic import atomic_folder


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
    """Convert a `LlamaForCausalLM` directory to a bundle; it replaces an older one of that name when it is complete.

    :param directory: config.json, safetensors and, if texts are given, the tokenizer.
    :param index: JSON, {item id: tokens, as strings or ids}.
    :param out: the bundle's folder.
    :param item_titles: titles by item id; items may be missing.
    :param prompt: the start of every sequence, before the history: text (special tokens such as `<s>` are not added
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
    _check_length(source, max_history)
    settings = BundleSettings(beam, headroom, quantize=quantize)
    titles = None if item_titles is None else [item_titles.get(item) for item in source.index.item_ids]
    items = BundleItems(source.index.rows, source.index.item_ids, titles, source.index.sid_space)
    with atomic_folder(out) as folder:
        trie = items.trie(source.index.codes)
        spec = token_spec(source, max_history, settings, settings.max_branch(trie))
        trie.save(folder / TRIE_FILE)
        save_weights(token_weights(source, max_history), folder / WEIGHTS_FILE, quantize)
        graphs = write_graphs(spec, folder / WEIGHTS_FILE)
        provenance = {"converted": {"architecture": "LlamaForCausalLM", "prompt_tokens": list(source.prompt)}}
        return finish_bundle(folder, Contents(spec, trie, graphs, provenance))


def _check_length(source: Source, max_history: int) -> None:
    """Make sure that the model has positions for a whole history and the next item."""
    longest = len(source.prompt) + (max_history + 1) * source.index.levels
    if longest > source.llama.shape.positions:
        raise ConfigError(
            f"{max_history} items of history and the next are {longest} tokens with the prompt, but the model was made "
            f"for {source.llama.shape.positions} (max_position_embeddings); lower max_history"
        )
