"""The native engine: encoder and search in compiled C, one call each, without ONNX Runtime.

The extension module `pocketrec.runtime._native` is compiled when pocketrec is installed, if there is a C compiler;
without it, the ONNX engine does the same. It reads the weight file of the ONNX graphs, and in float32 its scores agree
with theirs to 1e-4.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import TOKENS_KIND, WEIGHTS_FILE, Bundle, ModelSpec
from pocketrec.runtime.bundle.weights import read_weights
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.compiled import native, native_build
from pocketrec.runtime.engines.protocol import Engine, FastPath, Found, State
from pocketrec.runtime.engines.reference import LazyReference
from pocketrec.runtime.engines.validate import ROUNDING, TOO_HIGH, beam_width, check_search_output
from pocketrec.runtime.errors import BundleError, ConfigError, MissingExtraError
from pocketrec.runtime.experts.fusion import Experts


def runs_here(bundle: Bundle) -> bool:
    """Tell whether this engine can run a bundle in this installation."""
    return WEIGHTS_FILE in bundle.manifest.files and native is not None


class NativeEngine(Engine):
    """Runs a bundle's weights. Thread-safe: a model never changes, and calls release the interpreter's lock.

    Attributes: `kernels`, the instruction set that is used.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, int8: bool = False, kernels: str | None = None) -> None:
        """Read the weights and lay them out.

        :param bundle: an opened bundle.
        :param threads: 1; a call is too short to be shared between threads.
        :param int8: round weights and activations to int8 before they are multiplied, if this processor has
            instructions for it; otherwise float32 products.
        :param kernels: a name of `_native.kernels()`; None: the best that this processor has.
        :raises MissingExtraError: if the engine was not compiled when pocketrec was installed.
        :raises ConfigError: on more than one thread.
        :raises BundleError: if the bundle's weights are missing, damaged, or of a shape that is not supported.
        """
        if native is None:
            raise MissingExtraError(
                f"the native engine was not compiled when pocketrec was installed: {native_build().reason}; install "
                "gcc or clang and pocketrec again, or use the engine 'onnx'"
            )
        if threads != 1:
            raise ConfigError(f"threads is {threads}, and the native engine uses 1; leave it out, or use 'onnx'")
        spec = bundle.manifest.model
        if int8 and kernels is None:
            kernels = next((name for name in native.kernels() if name.endswith("int8")), None)
        self.name = "native-int8" if int8 else "native"
        self._spec = spec
        self._llama = spec.kind == TOKENS_KIND
        self._reference = LazyReference(bundle)
        weights = read_weights(bundle.file(WEIGHTS_FILE), spec)
        bundle.check_unchanged()
        try:
            self._model: Any = native.Model(sizes(spec, weights), spec.norm_eps, tensors(spec, weights), kernels)
        except ValueError as error:
            raise BundleError(f"the native engine cannot run this model ({error}); use the engine 'onnx'") from error
        self.kernels: str = self._model.kernels

    def search(
        self,
        history: NDArray[np.int32],
        trie: ItemTrie,
        exclude: NDArray[np.int32],
        beam: int,
        limit: int | None = None,
        widen: bool = False,
    ) -> Found:
        """Return leaf rows and log-probabilities, best first (see `Engine.search`)."""
        return self._find(self._model.encode_and_search, history, None, trie, exclude, beam, None, limit, widen)

    def read(self, items: NDArray[np.int32], state: State | None = None) -> State:
        """Read a history, or continue from a state at the cost of the new items (see `Engine.read`)."""
        if state is not None and len(items) == 0:
            return state
        spec = self._spec
        if state is not None and state.items == 0 and self._llama and spec.prompt == 0:
            state = None  # the start token stood for an empty history
        before = 0 if state is None else state.memory.shape[3]
        tokens = (
            before + (0 if before else self._leading(len(items))) + len(items) * (spec.levels if self._llama else 1)
        )
        hidden = np.empty((1, spec.dim), np.float32)
        present = np.empty((spec.layers, 2, spec.kv_heads, tokens, spec.head_dim), np.float32)
        given = items if items.flags.c_contiguous else np.ascontiguousarray(items)
        self._model.encode(given, None if state is None else state.memory, hidden, present)
        return State(len(items) if state is None else state.items + len(items), hidden, present)

    def _leading(self, items: int) -> int:
        """Tokens before the first item; a Llama without a prompt has a start token only if there are no items."""
        return (self._spec.prompt or int(items == 0)) if self._llama else 1

    def search_from(
        self,
        state: State,
        trie: ItemTrie,
        exclude: NDArray[np.int32],
        beam: int,
        bias: NDArray[np.float32] | None = None,
        limit: int | None = None,
        widen: bool = False,
    ) -> Found:
        """Return leaf rows and scores, best first (see `Engine.search_from`)."""
        return self._find(self._model.search, state.hidden, state.memory, trie, exclude, beam, bias, limit, widen)

    def _find(
        self,
        call: Any,
        given: NDArray[Any],
        cache: NDArray[np.float32] | None,
        trie: ItemTrie,
        exclude: NDArray[np.int32],
        beam: int,
        bias: NDArray[np.float32] | None,
        limit: int | None,
        widen: bool,
    ) -> Found:
        beam = beam_width(beam, trie)
        room = beam if limit is None else min(beam, limit)
        rows, scores = np.empty(room, np.int32), np.empty(room, np.float32)
        known = np.ascontiguousarray(given)
        count = call(known, cache, trie.first_child, trie.codes, exclude, beam, widen, bias, rows, scores)
        if count < room:
            rows, scores = rows[:count], scores[:count]
        if bias is not None:
            return check_search_output(rows, scores, len(trie), exclude, bias[trie.n_internal :])
        if count and scores[0] > ROUNDING:
            raise BundleError(f"the bundle's model {TOO_HIGH.format(scores[0])}; export the bundle again")
        return rows, scores

    def fast_path(self, trie: ItemTrie, item_type: type, experts: Experts | None = None) -> FastPath | None:
        """Prepare compiled calls for a whole catalogue; None for a sub-catalogue or an empty one.

        The C function is `recommend_items` of the extension's `Model` (runtime/native/python/fast_path.c).
        """
        table = trie.table
        if trie.subset is not None or len(trie) == 0:
            return None
        catalogue = native.Catalogue(  # type: ignore[union-attr]
            table.index, table.id_bytes, table.id_offsets, table.title_bytes, table.title_offsets, trie.rows,
            trie.first_child, trie.codes, item_type,
        )  # fmt: skip
        floor = None if experts is None else experts.compiled_floor(trie)
        return FastPath(catalogue.leaf, functools.partial(self._model.recommend_items, catalogue, floor))

    def level_scores(self, history: NDArray[np.int32], sid: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probability of each code of one semantic ID, float32 [L], by the numpy reference on the same weights."""
        return self._reference.level_scores(history, sid)

    def close(self) -> None:
        """Free the weights."""
        self._model = None
        self._reference.close()


def sizes(spec: ModelSpec, weights: dict[str, NDArray[Any]]) -> tuple[int, ...]:
    """In the order of `Model` in runtime/native/core/model.h."""
    pairs = len(weights["pair.keys"]) if spec.pair_dim else 0
    return (
        spec.levels, spec.codes, spec.dim, spec.layers, spec.blocks or spec.layers, spec.heads, spec.kv_heads,
        spec.head_dim, spec.ffn, spec.decoder_dim, spec.pair_dim, pairs, spec.max_history, spec.vocab, spec.prompt,
    )  # fmt: skip


Tensors = list[NDArray[Any] | None]


def tensors(spec: ModelSpec, weights: dict[str, NDArray[Any]]) -> tuple[NDArray[Any] | None, ...]:
    """A model's tensors in the order of `take_all` in runtime/native/python/loading.c; None: no bias."""
    out: Tensors = [weights["norm"], weights["rope.cos"], weights["rope.sin"]]
    for block in range(spec.blocks or spec.layers):
        out += _block(spec, weights, f"layers.{block}")
    out += _llama_head(spec, weights) if spec.kind == TOKENS_KIND else _student_decoder(spec, weights)
    return tuple(None if tensor is None else np.require(tensor, requirements=["C", "A"]) for tensor in out)


def _block(spec: ModelSpec, w: dict[str, NDArray[Any]], block: str) -> Tensors:
    """Queries apart from keys and values, because the last layer needs queries of the newest token alone."""
    queries = [spec.heads * spec.head_dim]
    q, kv = np.split(w[f"{block}.qkv"], queries, axis=1)
    bias = w.get(f"{block}.qkv_bias")
    q_bias, kv_bias = (None, None) if bias is None else np.split(bias, queries)
    out: Tensors = [q, q_bias, kv, kv_bias]
    for name in ("o", "gate_up", "down"):
        out += [w[f"{block}.{name}"], w.get(f"{block}.{name}_bias")]
    return out


def _llama_head(spec: ModelSpec, w: dict[str, NDArray[Any]]) -> Tensors:
    places = w["embed"] if "embed" in w else w["head"][w["tokens"]]
    return [w["tokens"][: spec.levels * spec.codes].astype(np.int32), places, w["head"].T]


def _student_decoder(spec: ModelSpec, w: dict[str, NDArray[Any]]) -> Tensors:
    """What codes add behind a level is looked up: the product of embeddings and the level's matrix is made here."""
    out: Tensors = [w["start"], *(w[f"embed.{level}"] for level in range(spec.levels))]
    out += [w["decoder.hidden"], w["decoder.bias"]]
    for level in range(spec.levels):
        out += [w[f"decoder.{level}.out"], w[f"decoder.{level}.out_bias"]]
        out += [w[f"embed.{earlier}"] @ w[f"decoder.{level}.prefix"] for earlier in range(level)]
        if spec.pair_dim and level > 1:
            out.append(w["pair.into"] @ w[f"decoder.{level}.prefix"])
    if spec.pair_dim:
        out += [w["pair.keys"].astype(np.int32), w["pair.table"], w["pair.into"], w["pair.query"]]
    return out
