"""Ways to run a bundle's model, behind one protocol. Each imports its library only when it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.manifest import TOKENS_KIND
from pocketrec.runtime.errors import ConfigError

if TYPE_CHECKING:
    from pocketrec.runtime.bundle.bundle import Bundle
    from pocketrec.runtime.catalogue.trie import ItemTrie

EXACT: Final = ("native", "onnx", "onnx-split", "gguf", "reference")  # the same scores, to 1e-4
ENGINES: Final = (*EXACT, "native-int8")


class State(NamedTuple):
    """What a model has read. States never change, so one may be gone on from twice.

    items: how many it has read. hidden: float32 [1, D]. memory: what the engine needs to go on, its keys and values
    [layers, 2, G, S, d] or the history int32 [items, L] itself.
    """

    items: int
    hidden: NDArray[np.float32]
    memory: NDArray[Any]


class Engine(Protocol):
    """Runs a model over a catalogue. Calls from several threads at once must be safe."""

    name: str

    def search(
        self, history: NDArray[np.int32], trie: ItemTrie, exclude: NDArray[np.int32], beam: int, most: int | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the best items after a history, by the rule of `pocketrec.runtime.catalogue.beam`.

        :param history: int32 [N, L], semantic IDs, oldest first; 0 <= N <= the model's max_history.
        :param trie: the catalogue to choose from.
        :param exclude: int32 [M], leaf rows of `trie` that must not come back, in any order, perhaps more than once.
        :param beam: prefixes kept at each level.
        :param most: how many of what is found the caller will look at; an engine may leave out the rest. None: all.
        :return: leaf rows, int32, and log-probabilities, float32: best first, at most `beam`, all finite.
        """
        ...

    def read(self, items: NDArray[np.int32], state: State | None = None) -> State:
        """Read a history, or go on with one: a state costs what the new items cost, where the engine keeps a cache.

        :param items: int32 [N, L], semantic IDs, oldest first; `state.items` + N <= the model's max_history.
        :param state: what was read before; None: nothing.
        """
        ...

    def search_from(
        self,
        state: State,
        trie: ItemTrie,
        exclude: NDArray[np.int32],
        beam: int,
        bias: NDArray[np.float32] | None = None,
        most: int | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the best items after what was read; as `search`.

        :param bias: float32 [n_nodes], what scores gain on the way to each node (`runtime.control`); None: nothing.
        :raises BundleError: if the bundle's graph knows no bias.
        """
        ...

    def level_scores(self, history: NDArray[np.int32], sid: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probability of each code of one semantic ID [L] after a history, float32 [L]."""
        ...

    def close(self) -> None:
        """Let go of memory and threads. No call may follow."""
        ...


def engine_for(bundle: Bundle) -> str:
    """Name the engine of a bundle's graphs: the one that it was exported for, which runs it in every host language."""
    return "gguf" if "backbone" in bundle.manifest.graphs else "onnx"


def fastest_engine(bundle: Bundle) -> str:
    """Name the fastest engine that this installation has for a bundle, of those that give its exact scores."""
    from pocketrec.runtime.engines.native import runs_here

    return "native" if runs_here(bundle) else engine_for(bundle)


def load_engine(name: str, bundle: Bundle, threads: int = 1, providers: Sequence[str] = ()) -> Engine:
    """Load an engine by name.

    :param name: "native" (compiled C), "native-int8" (the same with products of whole numbers, where the processor has
        them: faster, and lists differ a little), "onnx" (ONNX Runtime: one graph, one call), "onnx-split" (encoder and
        search apart), "gguf" (llama.cpp) or "reference" (numpy).
    :param bundle: a checked bundle.
    :param threads: threads for one call.
    :param providers: ONNX Runtime's execution providers, the preferred first; none: the processor.
    :raises ConfigError: on an unknown name or provider, or fewer than one thread.
    :raises BundleError: if the bundle lacks the engine's files.
    :raises MissingExtraError: if the engine's package is not installed.
    """
    if threads < 1:
        raise ConfigError(f"threads is {threads}; it must be at least 1")
    if name in ("onnx", "onnx-split"):
        from pocketrec.runtime.engines.onnx import OnnxEngine

        return OnnxEngine(bundle, threads=threads, split=name == "onnx-split", providers=providers)
    if providers:
        raise ConfigError(f"providers are ONNX Runtime's, and the engine is {name!r}; leave them out")
    if name in ("native", "native-int8"):
        from pocketrec.runtime.engines.native import NativeEngine

        return NativeEngine(bundle, threads=threads, int8=name == "native-int8")
    if name == "gguf":
        from pocketrec.runtime.engines.gguf import GgufEngine

        return GgufEngine(bundle, threads=threads)
    if name == "reference" and bundle.manifest.model.kind == TOKENS_KIND:
        from pocketrec.runtime.engines.numpy_llama import NumpyLlamaEngine

        return NumpyLlamaEngine(bundle, threads=threads)
    if name == "reference":
        from pocketrec.runtime.engines.numpy_student import NumpyStudentEngine

        return NumpyStudentEngine(bundle, threads=threads)
    raise ConfigError(f"there is no engine {name!r}; choose one of {', '.join(ENGINES)}")
