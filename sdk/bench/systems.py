"""The systems that `pocketrec bench` times, each a function from the item ids of a history to recommended item ids.

Peers run a Llama with the bundle's depth, width, heads and feed-forward over the same semantic IDs, flattened to a
token per code; random weights do not change its speed. A system writes the files that it needs to its own folder when
it is first started there, so that a fresh process only runs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.runtime.bundle.bundle import WEIGHTS_FILE, open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.recommender import Recommender

BOS, EOS, SPECIALS = 1, 2, 3  # tokens of the language model; codes follow
Recommend = Callable[[Sequence[str]], list[str]]
Item = tuple[int, ...]


def ours(bundle: Path, folder: Path, beam: int, k: int, engine: str | None = None) -> Recommend:
    """`Recommender.recommend`, with the default engine or another one."""
    recommender = Recommender.load(bundle, engine)
    return lambda history: [item.item_id for item in recommender.recommend(history, k, beam=beam)]


class SessionCalls:
    """`Session.observe` and `Session.recommend`, in a session that has read the history except for its last item."""

    def __init__(self, bundle: Path, folder: Path, beam: int, k: int, engine: str | None = None) -> None:
        self.recommender, self.beam, self.k = Recommender.load(bundle, engine), beam, k

    def __call__(self, history: Sequence[str]) -> list[str]:
        """Recommend for a history, as the other systems do."""
        return self.begin(history)()

    def begin(self, history: Sequence[str]) -> Callable[[], list[str]]:
        """Read the history except for its last item; return the call to time."""
        session = self.recommender.session(history[:-1])
        session.recommend(self.k, beam=self.beam)

        def timed() -> list[str]:
            session.observe(history[-1])
            return [item.item_id for item in session.recommend(self.k, beam=self.beam)]

        return timed


def dense(bundle: Path, folder: Path, beam: int, k: int) -> Recommend:
    """The same encoder, and a dot product with every item of a random table; items of the history are excluded."""
    recommender = Recommender.load(bundle)
    engine, trie = recommender.engine, recommender.trie
    width = recommender.manifest.model.dim
    items = np.random.default_rng(0).normal(size=(len(trie), width)).astype(np.float32)

    def recommend(history: Sequence[str]) -> list[str]:
        leaves = trie.find(list(history))
        hidden = engine.read(trie.rows[leaves[-recommender.manifest.model.max_history :]].astype(np.int32)).hidden
        scores = items @ hidden[0]
        scores[leaves] = -np.inf
        best = np.argpartition(scores, -k)[-k:]
        return trie.table.ids(best[np.argsort(-scores[best])])

    return recommend


def generate(bundle: Path, folder: Path, beam: int, k: int) -> Recommend:
    """`generate` of transformers, with beams and a prefix function."""
    import torch

    trie, items = _catalogue(bundle)
    children = prefix_table(items.values())
    item_of = {tokens: item_id for item_id, tokens in items.items()}
    torch.set_num_threads(1)
    model: Any = _llama(bundle).eval()
    levels = trie.levels

    def recommend(history: Sequence[str]) -> list[str]:
        prompt = torch.tensor([[BOS, *(token for item_id in history for token in items[item_id])]])
        length = prompt.shape[1]
        found = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), num_beams=beam, num_return_sequences=k,
            max_new_tokens=levels, do_sample=False,
            prefix_allowed_tokens_fn=lambda _, tokens: children[tuple(tokens[length:].tolist())],
        )  # fmt: skip
        return [item_of[tuple(tokens)] for tokens in found[:, length:].tolist()]

    return recommend


def onnx_loop(bundle: Path, folder: Path, beam: int, k: int) -> Recommend:
    """ONNX Runtime over a graph with a cache, the beam search in Python."""
    from pocketrec.bench.onnx_loop import onnx_loop as loop

    flat = folder / "flat"
    if not flat.exists():
        from pocketrec.export.llama.convert import convert_llama
        from pocketrec.export.onnx.step import step_graph

        model, index = _saved(bundle, folder)
        longest = open_bundle(bundle).manifest.model.max_history
        spec = convert_llama(model, index, flat, prompt=[BOS], max_history=longest).model
        (flat / "step.onnx").write_bytes(step_graph(spec, flat / WEIGHTS_FILE))
    trie = open_bundle(flat).load_trie()
    items = {name: tuple(row) for name, row in zip(trie.table.ids(range(len(trie))), trie.rows.tolist(), strict=True)}
    return loop(flat, items, prefix_table(items.values()), beam, k)


def llama_cpp(bundle: Path, folder: Path, beam: int, k: int) -> Recommend:
    """llama.cpp over the same Llama as GGUF, the beam search in Python."""
    from pocketrec.bench.llama_loop import llama_loop

    if not (folder / "gguf").exists():
        from pocketrec.export.gguf.llama import convert_llama_gguf

        model, index = _saved(bundle, folder)
        convert_llama_gguf(model, index, folder / "gguf")
    _, items = _catalogue(bundle)
    longest = open_bundle(bundle).manifest.model.max_history
    return llama_loop(folder / "gguf" / "model.gguf", items, prefix_table(items.values()), longest, beam, k)


SYSTEMS: dict[str, Callable[[Path, Path, int, int], Recommend]] = {
    "pocketrec": ours,
    "pocketrec session": SessionCalls,
    "pocketrec int8": partial(ours, engine="native-int8"),
    "pocketrec int8 session": partial(SessionCalls, engine="native-int8"),
    "pocketrec onnx": partial(ours, engine="onnx"),
    "pocketrec onnx session": partial(SessionCalls, engine="onnx"),
    "dense": dense,
    "generate": generate,
    "onnx-loop": onnx_loop,
    "llama.cpp": llama_cpp,
}
OURS = tuple(name for name in SYSTEMS if name.startswith("pocketrec"))
PEERS = ("dense", "generate", "onnx-loop", "llama.cpp")


def prefix_table(items: Iterable[Item]) -> dict[Item, list[int]]:
    """Map every prefix of an item's tokens to the tokens that may follow it, in ascending order."""
    children: dict[Item, set[int]] = {}
    for tokens in items:
        for end, token in enumerate(tokens):
            children.setdefault(tokens[:end], set()).add(token)
    return {prefix: sorted(following) for prefix, following in children.items()}


def _catalogue(bundle: Path) -> tuple[ItemTrie, dict[str, Item]]:
    """The bundle's trie, and the tokens of every item."""
    trie = open_bundle(bundle).load_trie()
    tokens = trie.rows + (np.arange(trie.levels) * trie.codes_per_level + SPECIALS)
    return trie, dict(zip(trie.table.ids(range(len(trie))), map(tuple, tokens.tolist()), strict=True))


def _llama(bundle: Path) -> Any:
    """A random Llama of the bundle's shape."""
    import torch
    import transformers

    spec = open_bundle(bundle).manifest.model
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=SPECIALS + spec.levels * spec.codes, hidden_size=spec.dim, intermediate_size=spec.ffn,
        num_hidden_layers=spec.layers, num_attention_heads=spec.heads, num_key_value_heads=spec.kv_heads,
        head_dim=spec.head_dim, max_position_embeddings=1 + (spec.max_history + 1) * spec.levels, pad_token_id=0,
        bos_token_id=BOS, eos_token_id=EOS,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def _saved(bundle: Path, folder: Path) -> tuple[Path, Path]:
    """The Llama as a directory of transformers, and the items' index."""
    _, items = _catalogue(bundle)
    _llama(bundle).save_pretrained(folder / "llama")
    (folder / "index.json").write_text(json.dumps(items))
    return folder / "llama", folder / "index.json"
