"""Engines by name. Each one's library is imported only when it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pocketrec.runtime.errors import ConfigError

if TYPE_CHECKING:
    from pocketrec.runtime.bundle.bundle import Bundle
    from pocketrec.runtime.engines.protocol import Engine

EXACT: Final = ("native", "onnx", "onnx-split", "gguf", "reference")  # their scores agree to 1e-4
ENGINES: Final = (*EXACT, "native-int8")


def engine_for(bundle: Bundle) -> str:
    """Name the engine that a bundle was exported for; that one runs it in every host language."""
    return "gguf" if "backbone" in bundle.manifest.graphs else "onnx"


def fastest_engine(bundle: Bundle) -> str:
    """Name the fastest engine of this installation that gives a bundle's exact scores."""
    from pocketrec.runtime.engines.native import runs_here

    return "native" if runs_here(bundle) else engine_for(bundle)


def load_engine(name: str, bundle: Bundle, threads: int = 1, providers: Sequence[str] = ()) -> Engine:
    """Load an engine by name.

    :param name: "native" (compiled C), "native-int8" (the same with int8 products, on processors that have the
        instructions: faster, and lists differ a little), "onnx" (ONNX Runtime: one graph, one call), "onnx-split"
        (encoder and search apart), "gguf" (llama.cpp) or "reference" (numpy).
    :param bundle: an opened bundle.
    :param threads: threads for one call.
    :param providers: ONNX Runtime's execution providers, the preferred first; none: the CPU.
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
        raise ConfigError(f"providers belong to ONNX Runtime, but the engine is {name!r}; leave them out")
    if name in ("native", "native-int8"):
        from pocketrec.runtime.engines.native import NativeEngine

        return NativeEngine(bundle, threads=threads, int8=name == "native-int8")
    if name == "gguf":
        from pocketrec.runtime.engines.gguf import GgufEngine

        return GgufEngine(bundle, threads=threads)
    if name == "reference":
        from pocketrec.runtime.engines.reference import load_reference

        return load_reference(bundle)
    raise ConfigError(f"there is no engine {name!r}; choose one of {', '.join(ENGINES)}")
