"""The numpy reference of a bundle: an engine of its own, and what the other engines explain scores with."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import TOKENS_KIND, Bundle
from pocketrec.runtime.engines.numpy_llama import NumpyLlamaEngine
from pocketrec.runtime.engines.numpy_search import NumpySearch
from pocketrec.runtime.engines.numpy_student import NumpyStudentEngine


def load_reference(bundle: Bundle) -> NumpySearch:
    """Load the numpy engine of a bundle's kind of model.

    :raises BundleError: if the bundle's weights are missing or damaged.
    """
    tokens = bundle.manifest.model.kind == TOKENS_KIND
    return NumpyLlamaEngine(bundle) if tokens else NumpyStudentEngine(bundle)


class LazyReference:
    """A bundle's reference, loaded when a score is first explained. Thread-safe."""

    def __init__(self, bundle: Bundle) -> None:
        """Remember the bundle; nothing is read yet."""
        self._bundle = bundle
        self._engine: NumpySearch | None = None
        self._lock = threading.Lock()

    def level_scores(self, history: NDArray[np.int32], sid: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probability of each code of one semantic ID, float32 [L] (see `Engine.level_scores`)."""
        with self._lock:
            self._engine = self._engine or load_reference(self._bundle)
            engine = self._engine
        return engine.level_scores(history, sid)

    def close(self) -> None:
        """Free the weights."""
        self._engine = None
