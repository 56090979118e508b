"""Ways to run a bundle's model, behind one protocol. Each imports its library only when it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.manifest import TOKENS_KIND

if TYPE_CHECKING:
    from pocketrec.runtime.bundle import Bundle
    from pocketrec.runtime.trie import ItemTrie

ENGINES: Final = ("onnx", "onnx-split", "gguf", "reference")


class Engine(Protocol):
    """Runs a model over a catalogue. Calls from several threads at once must be safe."""

    name: str

    def search(
        self, history: NDArray[np.int32], trie: ItemTrie, exclude: NDArray[np.int32], beam: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the best items after a history, by the rule of `pocketrec.runtime.beam`.

        :param history: int32 [N, L], semantic IDs, oldest first; 0 <= N <= the model's max_history.
        :param trie: the catalogue to choose from.
        :param exclude: int32 [M], leaf rows of `trie` that must not come back.
        :param beam: prefixes kept at each level.
        :return: leaf rows, int32, and log-probabilities, float32: best first, at most `beam`, all finite.
        """
        ...

    def close(self) -> None:
        """Let go of memory and threads. No call may follow."""
        ...


def engine_for(bundle: Bundle) -> str:
    """Name the engine that a bundle was exported for."""
    return "gguf" if "backbone" in bundle.manifest.graphs else "onnx"


def load_engine(name: str, bundle: Bundle, threads: int = 1) -> Engine:
    """Load an engine by name.

    :param name: "onnx" (one graph, one call), "onnx-split" (encoder and search apart), "gguf" (llama.cpp) or
        "reference" (numpy).
    :param bundle: a checked bundle.
    :param threads: threads for one call.
    :raises ConfigError: on an unknown name or fewer than one thread.
    :raises BundleError: if the bundle lacks the engine's files.
    :raises MissingExtraError: if the engine's package is not installed.
    """
    if threads < 1:
        raise ConfigError(f"threads is {threads}; it must be at least 1")
    if name in ("onnx", "onnx-split"):
        from pocketrec.runtime.engines.onnx import OnnxEngine

        return OnnxEngine(bundle, threads=threads, split=name == "onnx-split")
    if name == "gguf":
        from pocketrec.runtime.engines.gguf import GgufEngine

        return GgufEngine(bundle, threads=threads)
    if name == "reference" and bundle.manifest.model.kind == TOKENS_KIND:
        from pocketrec.runtime.engines.reference_tokens import ReferenceTokensEngine

        return ReferenceTokensEngine(bundle, threads=threads)
    if name == "reference":
        from pocketrec.runtime.engines.reference import ReferenceEngine

        return ReferenceEngine(bundle, threads=threads)
    raise ConfigError(f"there is no engine {name!r}; choose one of {', '.join(ENGINES)}")
