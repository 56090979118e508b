"""The GGUF engine: llama.cpp runs the backbone, numpy the SID decoder and the search.

`encoder.gguf` has no vocabulary, so that nothing here may tokenise (llama.cpp would end the process). Embeddings go in,
the hidden state of the last token comes out; keys and values are float32, so that a float32 file gives the same scores
as ONNX.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import Bundle
from pocketrec.runtime.bundle.weights import read_weights
from pocketrec.runtime.catalogue.beam import LevelScorer
from pocketrec.runtime.engines.gguf_check import check_gguf
from pocketrec.runtime.engines.numpy_search import NumpySearch
from pocketrec.runtime.engines.numpy_student import NumpyStudent
from pocketrec.runtime.errors import BundleError, MissingExtraError

BACKBONE, DECODER = "encoder.gguf", "decoder.safetensors"
IN_BACKBONE = ("layers.", "rope.", "norm")  # prefixes of the tensors that are in `encoder.gguf` alone
F32 = 0  # ggml's number of the type float32
_QUIET: list[Any] = []  # keeps the log function alive: llama.cpp holds a bare pointer to it


class GgufEngine(NumpySearch):
    """Runs a bundle's GGUF files. Calls from several threads take turns, since there is one llama.cpp context."""

    name = "gguf"

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """Open the backbone and read the decoder.

        :param threads: of llama.cpp, for one call.
        :raises BundleError: if the bundle has no GGUF file, or one that contradicts the manifest.
        :raises MissingExtraError: if llama-cpp-python is not installed.
        """
        self._llama = load_llama_cpp()
        spec = bundle.manifest.model
        path = bundle.graph("backbone")
        check_gguf(path, spec)
        self.model = NumpyStudent(spec, read_weights(bundle.file(DECODER), spec, elsewhere=IN_BACKBONE))
        self._lock = threading.Lock()
        self._weights = self._open(str(path))
        self._context = self._start(spec.max_history + 1, threads)

    def _open(self, path: str) -> Any:
        settings = self._llama.llama_model_default_params()
        settings.n_gpu_layers = 0
        weights = self._llama.llama_model_load_from_file(path.encode(), settings)
        if not weights:
            raise BundleError("llama.cpp cannot open encoder.gguf; export the bundle again, or update llama-cpp-python")
        return weights

    def _start(self, tokens: int, threads: int) -> Any:
        settings = self._llama.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = tokens
        settings.n_threads = settings.n_threads_batch = threads
        settings.type_k = settings.type_v = F32
        settings.embeddings = True
        settings.pooling_type = self._llama.LLAMA_POOLING_TYPE_NONE
        settings.flash_attn_type = 0  # 0: off, products in float32
        settings.no_perf = True
        context = self._llama.llama_init_from_model(self._weights, settings)
        if not context:
            self._llama.llama_model_free(self._weights)
            raise BundleError("llama.cpp cannot start encoder.gguf; export the bundle again")
        return context

    def hidden_of(self, history: NDArray[np.int32]) -> NDArray[np.float32]:
        """Hidden state after a history: int32 [N, L] -> float32 [1, D]."""
        tokens = np.ascontiguousarray(self.model.tokens(history), np.float32)  # [T, D]
        with self._lock:
            return self._run(tokens)

    def _run(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        llama, (count, width) = self._llama, tokens.shape
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        batch = llama.llama_batch_init(count, width, 1)
        try:
            batch.n_tokens = count
            ctypes.memmove(batch.embd, tokens.ctypes.data, tokens.nbytes)
            for place in range(count):
                batch.pos[place], batch.n_seq_id[place], batch.seq_id[place][0] = place, 1, 0
                batch.logits[place] = place + 1 == count
            failed = llama.llama_decode(self._context, batch)
        finally:
            llama.llama_batch_free(batch)
        if failed:
            raise BundleError(f"llama.cpp could not run encoder.gguf (code {failed}); export the bundle again")
        hidden = llama.llama_get_embeddings_ith(self._context, -1)
        return np.ctypeslib.as_array(hidden, (1, width)).astype(np.float32)

    def scorer(self, history: NDArray[np.int32]) -> LevelScorer:
        """The SID decoder; the history is in the hidden state."""
        return self.model.score_level

    def close(self) -> None:
        """Free llama.cpp's memory; may be called twice."""
        if self._context:
            self._llama.llama_free(self._context)
            self._llama.llama_model_free(self._weights)
            self._context = None


def load_llama_cpp() -> Any:
    """Import llama-cpp-python, silenced.

    :raises MissingExtraError: if it is not installed.
    """
    try:
        import llama_cpp
    except ImportError as error:
        raise MissingExtraError(
            "GGUF bundles run on llama-cpp-python; run `pip install 'pocketrec[gguf]'`, or export the bundle as ONNX"
        ) from error
    if not _QUIET:
        _QUIET.append(llama_cpp.llama_log_callback(lambda level, text, data: None))
        llama_cpp.llama_log_set(_QUIET[0], None)
    return llama_cpp
