"""Causal Llamas small enough that transformers' own logits can judge every item, and indexes that spell items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from pocketrec.export.llama.convert import convert_llama
from pocketrec.runtime.bundle.bundle import Manifest
from tiny import CODES, LEVELS, random_rows

VOCAB, FIRST = 40, 9  # token of level l and code c: FIRST + l * CODES + c; others are text
BOS, PROMPT = 1, (1, 5, 3)
ITEMS = 60


def tiny_llama(folder: Path, seed: int = 0, **settings: Any) -> LlamaForCausalLM:
    """Random weights, far enough from zero that scores differ, saved as transformers saves them."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 64, "bos_token_id": BOS, "eos_token_id": 2,
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**{**shape, **settings})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def tokens_of(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Token ids of SIDs, [n, L]."""
    return rows.astype(np.int64) + FIRST + np.arange(LEVELS) * CODES


def write_index(path: Path, rows: NDArray[np.integer]) -> Path:
    """Spell items `item-0`, `item-1`, ... by token ids."""
    path.write_text(json.dumps({f"item-{i}": tokens for i, tokens in enumerate(tokens_of(rows).tolist())}))
    return path


def tiny_source(folder: Path, **settings: Any) -> tuple[LlamaForCausalLM, Path, NDArray[np.uint8]]:
    """What a conversion starts from, in a folder: a model, and the index of a small catalogue with these SIDs."""
    rows = random_rows(ITEMS)
    return tiny_llama(folder / "model", **settings), write_index(folder / "index.json", rows), rows


def tiny_conversion(folder: Path, index: Path | None = None, **options: Any) -> Manifest:
    """Convert what `tiny_source` left in a folder to `folder / "bundle"`."""
    options = {"max_history": 6, "beam": 8, **options}
    return convert_llama(folder / "model", index or folder / "index.json", folder / "bundle", **options)


def whole_space() -> NDArray[np.uint8]:
    """Every SID there can be, sorted: an index of all of them gives every level all its codes."""
    return np.stack(np.unravel_index(np.arange(CODES**LEVELS), (CODES,) * LEVELS), 1).astype(np.uint8)


@torch.no_grad()
def judge_codes(
    model: LlamaForCausalLM, prompt: tuple[int, ...], history: NDArray[np.integer], rows: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Log-probability of each code of each row after a history, [n, L], by transformers' logits alone."""
    read = [*prompt, *tokens_of(history).reshape(-1).tolist()] or [BOS]
    sequences = torch.tensor(np.concatenate((np.tile(read, (len(rows), 1)), tokens_of(rows)), axis=1))
    log_p = model(sequences).logits.log_softmax(-1)[:, len(read) - 1 : -1]
    return log_p.gather(2, sequences[:, len(read) :, None])[..., 0].numpy()


def judge(
    model: LlamaForCausalLM, prompt: tuple[int, ...], history: NDArray[np.integer], rows: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Log-probability of every row after a history, [n]."""
    return judge_codes(model, prompt, history, rows).sum(1)
