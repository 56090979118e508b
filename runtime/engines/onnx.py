"""ONNX Runtime over the bundle's graphs: one call for `recommender.onnx`, or encoder and search apart.

The beam search runs inside the graphs. Safe defaults for a phone: one thread, no spinning, nothing reported anywhere.
Each graph is opened when it is first needed, so an app that only asks `search` pays for one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pocketrec.runtime.bundle import TOKENS_KIND, Bundle
from pocketrec.runtime.engines import Engine, State, load_engine
from pocketrec.runtime.errors import BundleError, ConfigError
from pocketrec.runtime.trie import ItemTrie

Found = tuple[NDArray[np.int32], NDArray[np.float32]]

CPU = "CPUExecutionProvider"
NO_BIAS = np.zeros(1, np.float32)
SEARCHED_FROM = {"hidden", "present", "bias"}
RESULTS = ["rows", "scores"]
NOTHING: Found = (np.empty(0, np.int32), np.empty(0, np.float32))


class OnnxEngine:
    """Runs a bundle's ONNX graphs. Thread-safe: ONNX Runtime sessions hold no state between calls."""

    def __init__(self, bundle: Bundle, threads: int = 1, split: bool = False, providers: Sequence[str] = ()) -> None:
        """Open the graphs that `search` needs.

        :param bundle: an opened bundle.
        :param threads: intra-op threads.
        :param split: run `encoder.onnx` and `search.onnx` instead of `recommender.onnx`.
        :param providers: execution providers, the preferred first; none: the processor.
        :raises BundleError: if a graph is missing or ONNX Runtime refuses it.
        :raises ConfigError: on a provider that this ONNX Runtime lacks.
        """
        self.name = "onnx-split" if split else "onnx"
        available = ort.get_available_providers()
        if missing := [name for name in providers if name not in available]:
            raise ConfigError(f"this ONNX Runtime has no provider {missing[0]!r}; choose of {', '.join(available)}")
        self._bundle, self._threads, self._providers = bundle, threads, list(providers) or [CPU]
        self._graphs: dict[str, ort.InferenceSession] = {}
        self._takes: set[str] = set()  # what the search graph takes besides the trie
        self._reference: Engine | None = None
        self._lock = threading.Lock()
        spec = bundle.manifest.model
        self._restarts = spec.kind == TOKENS_KIND and spec.prompt == 0  # a start token is read for nothing at all
        self._nothing = np.zeros((spec.layers, 2, spec.kv_heads, 0, spec.head_dim), np.float32)
        for role in ("encoder", "search") if split else ("recommender",):
            self._graph(role)

    def _graph(self, role: str) -> ort.InferenceSession:
        graph = self._graphs.get(role)
        if graph is None:
            with self._lock:
                if role not in self._graphs:
                    graph = _open(self._bundle, role, self._threads, self._providers)
                    if role == "search":
                        self._takes = {given.name for given in graph.get_inputs()} & SEARCHED_FROM
                    self._graphs[role] = graph
                graph = self._graphs[role]
        return graph

    def search(self, history: NDArray[np.int32], trie: ItemTrie, exclude: NDArray[np.int32], beam: int) -> Found:
        """Return leaf rows int32 [m] and log-probabilities float32 [m], best first, m ≤ beam.

        :param history: int32 [N, L], SIDs, oldest first.
        :param trie: the items that may be found.
        :param exclude: int32 [M], leaf rows that may not.
        :param beam: beams kept at every level.
        """
        if self.name == "onnx-split":
            return self.search_from(self.read(history), trie, exclude, beam)
        if len(trie) == 0:
            return NOTHING
        feed = {"history": history, **_feed(trie, exclude, beam)}
        return _finite(_run(self._graph("recommender"), RESULTS, feed), trie)

    def read(self, items: NDArray[np.int32], state: State | None = None) -> State:
        """Read a history, or go on with one at the cost of the new items (see `Engine.read`)."""
        if state is not None and len(items) == 0:
            return state
        count = state.items if state else 0
        past = state.memory if state and not (count == 0 and self._restarts) else self._nothing
        hidden, present = _run(self._graph("encoder"), ["hidden", "present"], {"history": items, "past": past})
        return State(count + len(items), hidden, present)

    def search_from(
        self,
        state: State,
        trie: ItemTrie,
        exclude: NDArray[np.int32],
        beam: int,
        bias: NDArray[np.float32] | None = None,
    ) -> Found:
        """Return leaf rows and scores, best first (see `Engine.search_from`)."""
        if len(trie) == 0:
            return NOTHING
        graph = self._graph("search")
        if bias is not None and "bias" not in self._takes:
            raise BundleError("this bundle's search graph is of a time before score biases; export the bundle again")
        known = {"hidden": state.hidden, "present": state.memory, "bias": NO_BIAS if bias is None else bias}
        feed = {name: known[name] for name in self._takes}
        return _finite(_run(graph, RESULTS, {**feed, **_feed(trie, exclude, beam)}), trie)

    def level_scores(self, history: NDArray[np.int32], sid: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probability of each code of one semantic ID, float32 [L], by the numpy reference on the same weights."""
        with self._lock:
            self._reference = self._reference or load_engine("reference", self._bundle)
        return self._reference.level_scores(history, sid)

    def close(self) -> None:
        """Free the sessions; the engine cannot search any more."""
        self._graphs, self._reference = {}, None


def _feed(trie: ItemTrie, exclude: NDArray[np.int32], beam: int) -> dict[str, NDArray[Any]]:
    return {
        "first_child": trie.first_child,
        "codes": trie.codes,
        "exclude": exclude,
        "beam": np.array([beam], np.int64),
    }


def _finite(results: list[Any], trie: ItemTrie) -> Found:
    rows, scores = results
    found = np.isfinite(scores)
    rows, scores = rows[found], scores[found]
    if rows.dtype != np.int32 or (len(rows) and not 0 <= rows.min() <= rows.max() < len(trie)):
        raise BundleError("the bundle's graph names items that do not exist; export the bundle again")
    return rows, scores


def _check_locations(graph: bytes, name: str, bundle: Bundle) -> None:
    """Refuse a graph whose weights lie in a file that the manifest does not vouch for.

    ONNX names such a file by an entry with the key "location" (onnx.proto, TensorProto.external_data). Wherever that
    word stands, the name of a listed file must follow as its value: field 2, a length of one byte, the name.
    """
    after = graph.split(b"location")[1:]
    for value in after:
        size = value[1] if len(value) > 1 else 0
        if value[:1] != b"\x12" or value[2 : 2 + size].decode("ascii", "replace") not in bundle.manifest.files:
            raise BundleError(f"{name} takes weights from a file that the manifest does not list; export it again")


def _open(bundle: Bundle, role: str, threads: int, providers: list[str]) -> ort.InferenceSession:
    path = bundle.graph(role)
    _check_locations(path.read_bytes(), path.name, bundle)
    session = open_session(path, threads, providers)
    bundle.check_unchanged()  # the graph, and the weights that ONNX Runtime read itself
    return session


def open_session(path: Path, threads: int, providers: Sequence[str] = (CPU,)) -> ort.InferenceSession:
    """Open a graph as a device should: few threads that do not spin, and nothing reported anywhere.

    :raises BundleError: if ONNX Runtime refuses it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what is wrong is raised
    ort.disable_telemetry_events()
    try:
        return ort.InferenceSession(str(path), sess_options=options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's own exception types differ between versions
        raise BundleError(f"ONNX Runtime cannot open {path.name} ({_said(error)}); export the bundle again") from error


def _run(graph: ort.InferenceSession, results: list[str], feed: dict[str, NDArray[Any]]) -> list[Any]:
    try:
        return list(graph.run(results, feed))
    except Exception as error:  # as above; a sound graph runs on anything that this engine feeds it
        raise BundleError(f"ONNX Runtime cannot run the bundle's graph ({_said(error)}); export it again") from error


def _said(error: Exception) -> str:
    """An error of ONNX Runtime's in one short line."""
    return " ".join(str(error).split())[:300]
