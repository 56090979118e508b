"""A peer of `pocketrec bench`: a flattened Llama in llama.cpp, with the beam search in Python.

Beams are sequences of one cache. The history is read once; a surviving beam copies the sequence of its parent, which
takes no memory in llama.cpp. Needs `pocketrec[gguf]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.engines.gguf import F32, load_llama_cpp
from pocketrec.runtime.errors import ExportError

Item = tuple[int, ...]
MAX_BEAMS = 31  # llama.cpp aborts the process above 64 sequences


class LlamaCpp:
    """A model and one context with room for two generations of beams."""

    def __init__(self, path: Path, tokens: int, beam: int) -> None:
        """Open a GGUF; `tokens` is the longest sequence."""
        if beam > MAX_BEAMS:
            raise ExportError(f"llama.cpp can hold {MAX_BEAMS} beams here, not {beam}; lower --beam")
        self.llama: Any = load_llama_cpp()
        model_settings = self.llama.llama_model_default_params()
        model_settings.n_gpu_layers = 0
        self.model = self.llama.llama_model_load_from_file(str(path).encode(), model_settings)
        settings = self.llama.llama_context_default_params()
        settings.n_seq_max = 2 * beam + 1
        settings.n_ctx, settings.n_batch, settings.n_ubatch = tokens + 4 * beam, tokens + beam, tokens + beam
        settings.n_threads = settings.n_threads_batch = 1
        settings.type_k = settings.type_v = F32
        settings.kv_unified = True
        settings.no_perf = True
        self.context = self.llama.llama_init_from_model(self.model, settings) if self.model else None
        if not self.context:
            raise ExportError(f"llama.cpp cannot open {path.name}; update llama-cpp-python")
        self.memory = self.llama.llama_get_memory(self.context)
        self.vocab = self.llama.llama_vocab_n_tokens(self.llama.llama_model_get_vocab(self.model))

    def read(self, tokens: Sequence[int], positions: Sequence[int], sequences: Sequence[int]) -> NDArray[np.float32]:
        """Decode tokens at positions of sequences.

        :returns: logits [rows, vocabulary]: of the last token if there is one sequence, of all tokens otherwise.
        """
        llama, one = self.llama, len(set(sequences)) == 1
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for i, (token, position, sequence) in enumerate(zip(tokens, positions, sequences, strict=True)):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
                batch.seq_id[i][0], batch.logits[i] = sequence, not one or i + 1 == len(tokens)
            if llama.llama_decode(self.context, batch):
                raise ExportError("llama.cpp could not run the model of the comparison")
            rows = [len(tokens) - 1] if one else range(len(tokens))
            found = [np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, i), (self.vocab,)) for i in rows]
            return np.array(found, np.float32)
        finally:
            llama.llama_batch_free(batch)


def llama_loop(
    path: Path, items: Mapping[str, Item], children: Mapping[Item, Sequence[int]], longest: int, beam: int, k: int
) -> Callable[[Sequence[str]], list[str]]:
    """Beam search in Python over a GGUF.

    :param items: item id → its tokens.
    :param children: prefix of tokens → the tokens that may follow it.
    :param longest: largest number of items of a history.
    :param beam: beam width.
    :param k: number of items to recommend.
    """
    levels = len(next(iter(items.values())))
    model = LlamaCpp(path, 1 + (longest + 1) * levels, beam)
    item_of = {tokens: item_id for item_id, tokens in items.items()}

    def recommend(history: Sequence[str]) -> list[str]:
        model.llama.llama_memory_clear(model.memory, True)
        prompt = [1, *(token for item_id in history for token in items[item_id])]
        logits = model.read(prompt, range(len(prompt)), [0] * len(prompt))
        beams: list[tuple[Item, float, int]] = [((), 0.0, 0)]
        for level in range(levels):
            log_p = logits - logits.max(-1, keepdims=True)
            log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
            found = [
                (score + float(log_p[row, token]), (*prefix, token), sequence)
                for row, (prefix, score, sequence) in enumerate(beams)
                for token in children[prefix]
            ]
            found.sort(key=lambda candidate: -candidate[0])
            first = 1 + (level % 2) * beam
            beams = [(prefix, score, first + i) for i, (score, prefix, _) in enumerate(found[:beam])]
            if level + 1 < levels:
                for i, (_, _, parent) in enumerate(found[:beam]):
                    model.llama.llama_memory_seq_rm(model.memory, first + i, -1, -1)
                    model.llama.llama_memory_seq_cp(model.memory, parent, first + i, -1, -1)
                position = len(prompt) + level
                logits = model.read([b[0][-1] for b in beams], [position] * len(beams), [b[2] for b in beams])
        return [item_of[prefix] for prefix, _, _ in beams[:k]]

    return recommend
