"""ONNX Runtime over the bundle's graphs: one call for `recommender.onnx`, or encoder and search apart.

The beam search runs inside the graph. Safe defaults for a phone: one thread, no spinning, nothing reported anywhere.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.trie import ItemTrie

Found = tuple[NDArray[np.int32], NDArray[np.float32]]


class OnnxEngine:
    """Runs a bundle's ONNX graphs. Thread-safe: ONNX Runtime sessions hold no state between calls."""

    def __init__(self, bundle: Bundle, threads: int = 1, split: bool = False) -> None:
        """Open the graphs.

        :param bundle: an opened bundle.
        :param threads: intra-op threads.
        :param split: run `encoder.onnx` and `search.onnx` instead of `recommender.onnx`.
        :raises BundleError: if a graph is missing or ONNX Runtime refuses it.
        """
        self.name = "onnx-split" if split else "onnx"
        roles = ("encoder", "search") if split else ("recommender",)
        self._sessions = [_open(bundle, role, threads) for role in roles]
        spec = bundle.manifest.model
        # What the search takes of the encoder's results: h, and for converted models the cache, too.
        self._between = sorted({i.name for i in self._sessions[-1].get_inputs()} & {"hidden", "present"})
        self._past = np.zeros((spec.layers, 2, spec.kv_heads, 0, spec.head_dim), np.float32)

    def search(self, history: NDArray[np.int32], trie: ItemTrie, exclude: NDArray[np.int32], beam: int) -> Found:
        """Return leaf rows int32 [m] and log-probabilities float32 [m], best first, m ≤ beam.

        :param history: int32 [N, L], SIDs, oldest first.
        :param trie: the items that may be found.
        :param exclude: int32 [M], leaf rows that may not.
        :param beam: beams kept at every level.
        """
        if len(trie) == 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        feed = {
            "first_child": trie.first_child,
            "codes": trie.codes,
            "exclude": exclude,
            "beam": np.array([beam], np.int64),
        }
        if len(self._sessions) == 2:
            encoder, search = self._sessions
            encoded = encoder.run(self._between, {"history": history, "past": self._past})
            rows, scores = search.run(["rows", "scores"], {**feed, **dict(zip(self._between, encoded, strict=True))})
        else:
            rows, scores = self._sessions[0].run(["rows", "scores"], {"history": history, **feed})
        found = np.isfinite(scores)
        return rows[found], scores[found]

    def close(self) -> None:
        """Free the sessions; the engine cannot search any more."""
        self._sessions = []


def _open(bundle: Bundle, role: str, threads: int) -> ort.InferenceSession:
    path = bundle.graph(role)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    ort.disable_telemetry_events()
    try:
        return ort.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exception types differ between versions
        raise BundleError(f"ONNX Runtime cannot open {path.name} ({error}); export the bundle again") from error
