"""ONNX Runtime over the bundle's graphs: one call for `recommender.onnx`, or encoder and search apart.

The beam search runs inside the graphs. Safe defaults for a phone: one thread, no spinning, nothing reported anywhere.
Each graph is opened when it is first needed, so an app that only calls `search` opens one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import TOKENS_KIND, Bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.engines.onnx_check import check_graph
from pocketrec.runtime.engines.protocol import Engine, Found, State
from pocketrec.runtime.engines.reference import LazyReference
from pocketrec.runtime.engines.validate import beam_width, check_search_output, positive_integer
from pocketrec.runtime.errors import BundleError, ConfigError, one_line

CPU = "CPUExecutionProvider"
NO_BIAS = np.zeros(1, np.float32)
SEARCHED_FROM = {"hidden", "present", "bias"}
ENCODED, RESULTS = ["hidden", "present"], ["rows", "scores"]
FLOAT, INT32 = ("tensor(float)",), ("tensor(int32)",)
# Inputs and outputs that graphs may have: ONNX Runtime's names of their types, and the number of dimensions.
PORTS = {
    "history": (INT32, 2), "past": (FLOAT, 5), "hidden": (FLOAT, 2), "present": (FLOAT, 5), "first_child": (INT32, 1),
    "codes": (("tensor(uint8)", "tensor(uint16)"), 1), "exclude": (INT32, 1), "beam": (("tensor(int64)",), 1),
    "bias": (FLOAT, 1), "rows": (INT32, 1), "scores": (FLOAT, 1),
}  # fmt: skip
_REMEDY = "export the bundle again"
NOTHING: Found = (np.empty(0, np.int32), np.empty(0, np.float32))


class OnnxEngine(Engine):
    """Runs a bundle's ONNX graphs. Thread-safe: ONNX Runtime sessions hold no state between calls."""

    def __init__(self, bundle: Bundle, threads: int = 1, split: bool = False, providers: Sequence[str] = ()) -> None:
        """Open the graphs that `search` needs.

        :param bundle: an opened bundle.
        :param threads: intra-op threads.
        :param split: run `encoder.onnx` and `search.onnx` instead of `recommender.onnx`.
        :param providers: execution providers, the preferred first; none: the CPU.
        :raises BundleError: if a graph is missing or ONNX Runtime refuses it.
        :raises ConfigError: on a provider that this ONNX Runtime lacks.
        """
        self.name = "onnx-split" if split else "onnx"
        available = ort.get_available_providers()
        if missing := [name for name in providers if name not in available]:
            raise ConfigError(f"this ONNX Runtime has no provider {missing[0]!r}; choose one of {', '.join(available)}")
        self._bundle, self._threads, self._providers = bundle, threads, list(providers) or [CPU]
        self._graphs: dict[str, ort.InferenceSession] = {}
        self._takes: set[str] = set()  # inputs of the search graph besides the trie
        self._lock = threading.Lock()
        spec = bundle.manifest.model
        self._restarts = spec.kind == TOKENS_KIND and spec.prompt == 0  # without a history, a start token is read
        self._nothing = np.zeros((spec.layers, 2, spec.kv_heads, 0, spec.head_dim), np.float32)
        for role in ("encoder", "search") if split else ("recommender",):
            self._graph(role)
        self._reference = LazyReference(bundle)  # last, so that a missing graph is named first

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
        if self.name == "onnx-split":
            return self.search_from(self.read(history), trie, exclude, beam, None, limit, widen)
        if len(trie) == 0:
            return NOTHING
        feed = {"history": history, **_feed(trie, exclude, beam, widen)}
        rows, scores = _run(self._graph("recommender"), RESULTS, feed)
        return check_search_output(rows, scores, len(trie), exclude)

    def read(self, items: NDArray[np.int32], state: State | None = None) -> State:
        """Read a history, or continue from a state at the cost of the new items (see `Engine.read`)."""
        if state is not None and len(items) == 0:
            return state
        count = state.items if state else 0
        past = state.memory if state and not (count == 0 and self._restarts) else self._nothing
        hidden, present = _run(self._graph("encoder"), ENCODED, {"history": items, "past": past})
        return State(count + len(items), hidden, present)

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
        if len(trie) == 0:
            return NOTHING
        graph = self._graph("search")
        if bias is not None and "bias" not in self._takes:
            raise BundleError("this bundle's search graph is from before score biases existed; export the bundle again")
        known = {"hidden": state.hidden, "present": state.memory, "bias": NO_BIAS if bias is None else bias}
        feed = {name: known[name] for name in self._takes}
        rows, scores = _run(graph, RESULTS, {**feed, **_feed(trie, exclude, beam, widen)})
        return check_search_output(rows, scores, len(trie), exclude, None if bias is None else bias[trie.n_internal :])

    def level_scores(self, history: NDArray[np.int32], sid: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probability of each code of one semantic ID, float32 [L], by the numpy reference on the same weights."""
        return self._reference.level_scores(history, sid)

    def close(self) -> None:
        """Free the sessions; the engine cannot search any more."""
        self._graphs = {}
        self._reference.close()


def _feed(trie: ItemTrie, exclude: NDArray[np.int32], beam: int, widen: bool) -> dict[str, NDArray[Any]]:
    if widen:  # the graph does not tell what it has cut
        beam = positive_integer("beam", beam) + len(exclude)
    return {
        "first_child": trie.first_child,
        "codes": trie.codes,
        "exclude": exclude,
        "beam": np.array([beam_width(beam, trie)], np.int64),
    }


def _check_ports(graph: ort.InferenceSession, role: str, name: str) -> None:
    """Refuse a graph with an input or output that this engine does not know by name, type and dimensions."""
    results = ENCODED if role == "encoder" else RESULTS
    given = {port.name: port for port in graph.get_outputs()}
    for port in (*graph.get_inputs(), *(given[name] for name in results if name in given)):
        known = PORTS.get(port.name)
        if known is None or port.type not in known[0] or len(port.shape) != known[1]:
            raise BundleError(f"{name} has {port.name[:60]!r} {port.type} {port.shape!s:.60}; {_REMEDY}")
    if missing := [name for name in results if name not in given]:
        raise BundleError(f"{name} does not give {missing[0]!r}; {_REMEDY}")


def _open(bundle: Bundle, role: str, threads: int, providers: list[str]) -> ort.InferenceSession:
    path = bundle.graph(role)
    session = open_session(path, {name: e.bytes for name, e in bundle.manifest.files.items()}, threads, providers)
    _check_ports(session, role, path.name)
    bundle.check_unchanged()  # ONNX Runtime read the graph and the weights itself
    return session


def open_session(
    path: Path, sizes: Mapping[str, int], threads: int, providers: Sequence[str] = (CPU,)
) -> ort.InferenceSession:
    """Open a graph with the settings of a device: few threads that do not spin, and nothing reported anywhere.

    :param sizes: sizes in bytes of the files that its weights may lie in, by name.
    :raises BundleError: if its weights lie in another file, or ONNX Runtime refuses it.
    """
    try:
        check_graph(path, sizes)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path.name} {error}; {_REMEDY}") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever its suffix
    options.log_severity_level = 4  # errors are raised, not printed
    ort.disable_telemetry_events()
    try:
        # Without enable_fallback=0, ONNX Runtime prints a failure and tries again on the CPU.
        return ort.InferenceSession(str(path), options, list(providers), enable_fallback=0)
    except Exception as error:  # ONNX Runtime's own exception types differ between versions
        raise BundleError(f"ONNX Runtime cannot open {path.name} ({one_line(error)}); {_REMEDY}") from error


def _run(graph: ort.InferenceSession, results: list[str], feed: dict[str, NDArray[Any]]) -> list[Any]:
    try:
        return list(graph.run(results, feed))
    except Exception as error:  # as above; a valid graph accepts every input of this engine
        raise BundleError(f"ONNX Runtime cannot run the bundle's graph ({one_line(error)}); {_REMEDY}") from error
