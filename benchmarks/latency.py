"""Latency of one recommendation: a bundle on its engines, beside a language model with constrained generation.

    python benchmarks/latency.py path/to/bundle > latency.json

The yardstick is what people do with semantic IDs in transformers: a Llama over flattened SIDs (a token per code,
so a history of 20 items is 61 tokens with the start token), `generate` with beam search, and a dictionary of the
trie's prefixes as `prefix_allowed_tokens_fn`. It has the student's depth, width, heads and feed-forward, and random
weights, which do not change its speed. Every call goes from item ids to item ids: history of 20, beam 20, 10 items,
1 thread. pocketrec also leaves out the items already seen; `generate` is spared that work.

Promises: all systems run in one process, in turns, round after round, so that a noisy machine disturbs all alike; a
turn begins with one call that is not counted. Further rows: the same graph over a random catalogue of a million
items (fewer if the graph has no room for them), and the time to load each trie. JSON on stdout, a table on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pocketrec.bench.systems import generate
from pocketrec.runtime.bundle.bundle import Bundle, ModelSpec, open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.engines.registry import fastest_engine, load_engine
from pocketrec.runtime.recommender import Recommender

HISTORY, BEAM, K = 20, 20, 10
MILLION = 1_000_000
GENERATE = "transformers generate"

Recommend = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class System:
    """Something that recommends, the histories to ask it with, and the milliseconds of each call, by round."""

    name: str
    recommend: Recommend
    histories: list[list[str]]
    rounds: list[list[float]] = field(default_factory=list)

    def check(self) -> None:
        """Make sure that an answer is K different items."""
        found = self.recommend(self.histories[0])
        if len(found) != K or len(set(found)) != K:
            raise SystemExit(f"{self.name} gave {len(set(found))} different items where {K} are asked for: {found}")

    def take_turn(self, calls: int) -> None:
        """Time `calls` calls, each with the next history, after one that is not counted."""
        self.recommend(self.histories[-1])
        first = sum(map(len, self.rounds))
        times = []
        for number in range(first, first + calls):
            history = self.histories[number % len(self.histories)]
            begun = time.perf_counter()
            self.recommend(history)
            times.append((time.perf_counter() - begun) * 1e3)
        self.rounds.append(times)

    @property
    def times(self) -> list[float]:
        """Milliseconds of all calls."""
        return [t for turn in self.rounds for t in turn]


# --- the systems -----------------------------------------------------------------------------------------------


def pocketrec_system(name: str, recommender: Recommender, histories: list[list[str]]) -> System:
    def recommend(history: Sequence[str]) -> list[str]:
        return [item.item_id for item in recommender.recommend(history, k=K, beam=BEAM)]

    return System(name, recommend, histories)


# --- catalogues ------------------------------------------------------------------------------------------------


def random_trie(spec: ModelSpec, items: int, rng: np.random.Generator) -> ItemTrie:
    """Random items within the graph's `max_branch`: as many as asked for, or as there is room for."""
    room = int(np.prod(spec.max_branch, dtype=object))
    if room < 2 * items:
        numbers = rng.permutation(room)[:items]
    else:
        numbers = rng.permutation(np.unique(rng.integers(0, room, 2 * items)))[:items]
    digits = np.unravel_index(numbers, spec.max_branch)
    rows = np.stack([rng.permutation(spec.codes)[digit] for digit in digits], 1)
    ids = [f"item-{number}" for number in range(len(rows))]
    return ItemTrie.from_rows(rows, ids, codes_per_level=spec.codes, sid_space=spec.sid_space)


def random_histories(trie: ItemTrie, count: int, rng: np.random.Generator) -> list[list[str]]:
    if len(trie) < HISTORY + K:
        raise SystemExit(f"the catalogue has {len(trie)} items, but this needs {HISTORY + K}; take a larger bundle")
    leaves = [rng.choice(len(trie), HISTORY, replace=False) for _ in range(count)]
    return [trie.table.ids(trie.table_rows[chosen]) for chosen in leaves]


def time_loading(tries: dict[str, ItemTrie], times: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds to load each trie from its file (all checks included), `times` times in turns."""
    found: dict[str, list[float]] = {name: [] for name in tries}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.safetensors" for number in range(len(tries))]
        for trie, path in zip(tries.values(), paths, strict=True):
            trie.save(path)
        for _ in range(times):
            for name, path in zip(found, paths, strict=True):
                begun = time.perf_counter()
                ItemTrie.load(path)
                found[name].append((time.perf_counter() - begun) * 1e3)
    return {name: np.array(values) for name, values in found.items()}


# --- the run ---------------------------------------------------------------------------------------------------


def build_systems(bundle: Bundle, own: ItemTrie, million: ItemTrie, rng: np.random.Generator) -> list[System]:
    histories, further = (random_histories(trie, 64, rng) for trie in (own, million))
    systems = [System(GENERATE, generate(bundle.path, bundle.path, BEAM, K), histories)]
    fastest = fastest_engine(bundle)
    for engine in ("native", "native-int8", "onnx", "onnx-split", "reference")[0 if fastest == "native" else 2 :]:
        recommender = Recommender(load_engine(engine, bundle, threads=1), own, bundle.manifest)
        systems.append(pocketrec_system(f"pocketrec {engine}", recommender, histories))
    recommender = Recommender(load_engine(fastest, bundle, threads=1), million, bundle.manifest)
    systems.append(pocketrec_system(f"{systems[1].name}, random {len(million):,} items", recommender, further))
    return systems


def run(path: Path, calls: int, rounds: int, seed: int) -> dict[str, Any]:
    """Measure everything; the returned object is what stands on stdout."""
    logging: Any = transformers.logging
    logging.set_verbosity_error()
    rng = np.random.default_rng(seed)
    bundle = open_bundle(path)
    spec = bundle.manifest.model
    if spec.max_history < HISTORY:
        raise SystemExit(f"the model reads {spec.max_history} items of history, but this needs {HISTORY}")
    own, million = bundle.load_trie(), random_trie(spec, MILLION, rng)
    systems = build_systems(bundle, own, million, rng)
    for system in systems:
        system.check()
    for number in range(rounds):
        print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        for system in systems:
            system.take_turn(max(1, calls // rounds))
    print(file=sys.stderr)
    theirs, ours = systems[0], systems[1]
    ratios = [np.median(slow) / np.median(fast) for slow, fast in zip(theirs.rounds, ours.rounds, strict=True)]
    rows = [row(system.name, system.times) for system in systems]
    tries = {f"trie load, {len(own):,} items": own, f"trie load, random {len(million):,} items": million}
    loads = [row(name, times) for name, times in time_loading(tries, 7).items()]
    p50 = {entry["system"]: entry["p50_ms"] for entry in rows}
    return {
        "machine": describe_machine(),
        "settings": {
            "bundle": path.name, "items": len(own), "parameters": spec.parameters, "layers": spec.layers,
            "dim": spec.dim, "heads": spec.heads, "ffn": spec.ffn, "levels": spec.levels, "codes": spec.codes,
            "max_branch": list(spec.max_branch), "history": HISTORY, "prompt_tokens": 1 + HISTORY * spec.levels,
            "beam": BEAM, "k": K, "threads": 1, "rounds": rounds, "seed": seed,
        },
        "rows": rows + loads,
        "speedup_p50": round(p50[theirs.name] / p50[ours.name], 1),
        "speedups_p50": {system.name: round(p50[theirs.name] / p50[system.name], 1) for system in systems[1:]},
        "speedup_p50_of_rounds": {"lowest": round(float(min(ratios)), 1), "highest": round(float(max(ratios)), 1)},
    }  # fmt: skip


def row(system: str, times: Sequence[float] | NDArray[np.float64]) -> dict[str, Any]:
    p50, p95 = np.percentile(times, [50, 95])
    return {"system": system, "p50_ms": round(float(p50), 4), "p95_ms": round(float(p95), 4), "calls": len(times)}


def describe_machine() -> dict[str, Any]:
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("pocketrec", "numpy", "onnxruntime", "torch", "transformers")},
    }


def show(result: dict[str, Any]) -> None:
    machine = result["machine"]
    print(
        f"{machine['cpu']}, {machine['cores']} cores (load {machine['load_average']}), 1 thread used; "
        f"onnxruntime {machine['onnxruntime']}, torch {machine['torch']}, transformers {machine['transformers']}",
        file=sys.stderr,
    )
    print(f"{'system':<40}{'p50 ms':>12}{'p95 ms':>12}{'calls':>8}", file=sys.stderr)
    for entry in result["rows"]:
        line = f"{entry['system']:<40}{entry['p50_ms']:>12.3f}{entry['p95_ms']:>12.3f}{entry['calls']:>8}"
        print(line, file=sys.stderr)
    spread = result["speedup_p50_of_rounds"]
    print(
        f"{next(iter(result['speedups_p50']))} is {result['speedup_p50']} times as fast as {GENERATE} "
        f"(by round: {spread['lowest']} to {spread['highest']})",
        file=sys.stderr,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Latency of one call (history 20, beam 20, k 10, 1 thread), beside transformers' generate.",
        epilog="example: python benchmarks/latency.py runs/beauty/bundle --calls 200 > latency.json",
    )
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument("--calls", type=int, default=200, help="calls of each system, over all rounds (default: 200)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds; each system has a turn in each (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of histories and the large catalogue")
    arguments = parser.parse_args()
    if arguments.calls < 1 or arguments.rounds < 1:
        parser.error("--calls and --rounds must be at least 1")
    with threadpool_limits(1):  # numpy's BLAS, for the reference engine
        result = run(arguments.bundle, arguments.calls, arguments.rounds, arguments.seed)
    show(result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
