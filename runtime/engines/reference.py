"""The numpy reference of a bundle: an engine of its own, and the model by which other engines explain scores."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import TOKENS_KIND, WEIGHTS_FILE, Bundle, ModelSpec
from pocketrec.runtime.bundle.weights import parse_weights, read_weights
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.files.atomic import file_state

if TYPE_CHECKING:
    from pocketrec.runtime.engines.numpy_search import NumpySearch


def load_reference(bundle: Bundle) -> NumpySearch:
    """Load the numpy engine of a bundle.

    :raises BundleError: if the bundle's weights are missing or damaged.
    """
    spec = bundle.manifest.model
    return _engine_of(spec, read_weights(bundle.file(WEIGHTS_FILE), spec))


def _engine_of(spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> NumpySearch:
    """Make the numpy engine of a model's kind; imported here, since most processes never explain a score."""
    if spec.kind == TOKENS_KIND:
        from pocketrec.runtime.engines.numpy_llama import NumpyLlamaEngine

        return NumpyLlamaEngine(spec, weights)
    from pocketrec.runtime.engines.numpy_student import NumpyStudentEngine

    return NumpyStudentEngine(spec, weights)


class LazyReference:
    """A bundle's reference, made when a score is first explained. Thread-safe.

    Until then it costs one open file instead of the weights' memory: an open file can still be read after the process
    changed its directory, and after sync deleted the version. Where open files cannot be deleted (Windows), sync
    deletes that version later.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Open the weight file.

        :raises BundleError: if it is missing, or was changed after it was checked.
        """
        self._spec, self._checked = bundle.manifest.model, bundle.checked.get(WEIGHTS_FILE)
        self._file = bundle.open(WEIGHTS_FILE)
        self._close_file = weakref.finalize(self, self._file.close)
        self._engine: NumpySearch | None = None
        self._lock = threading.Lock()

    def level_scores(self, history: NDArray[np.int32], sid: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probability of each code of one semantic ID, float32 [L] (see `Engine.level_scores`).

        :raises BundleError: if the weight file was changed after it was checked.
        """
        with self._lock:
            if self._engine is None:
                self._engine = self._load()
            engine = self._engine
        return engine.level_scores(history, sid)

    def _load(self) -> NumpySearch:
        self._file.seek(0)
        content = self._file.read()
        now = file_state(os.fstat(self._file.fileno()))
        if now != (self._checked or now):
            raise BundleError(f"{WEIGHTS_FILE} was changed after it was checked; open the bundle again")
        engine = _engine_of(self._spec, parse_weights(content, WEIGHTS_FILE, self._spec))
        self._close_file()
        return engine

    def close(self) -> None:
        """Close the file, or free the weights."""
        self._engine = None
        self._close_file()
