"""`pocketrec bench`: a bundle and other ways to recommend over the same semantic IDs, measured on this machine.

All systems take turns in one process, round after round, so that a busy machine slows all of them alike; the first call
of a turn is not counted. The cold start is measured in a fresh process per system: seconds from the start of the
process to its first recommendations, and its peak resident memory. Every system has one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.bench.systems import OURS, PEERS, SYSTEMS, Recommend, SessionCalls
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.engines.registry import fastest_engine
from pocketrec.runtime.errors import ConfigError, ExportError, PocketRecError
from pocketrec.runtime.recommender import Recommender

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
# A process that starts one system and calls it once. The parent noted the time at which the process started.
_PROBE = """
import json, sys, time
from pathlib import Path
from pocketrec.bench.systems import SYSTEMS
bundle, folder, name, beam, k, history = sys.argv[1:]
SYSTEMS[name](Path(bundle), Path(folder), int(beam), int(k))(json.loads(history))
now = time.time()
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
print(json.dumps({"at": now, "rss_mb": round(peak / 1024, 1)}))
"""


def bench(
    bundle: Path,
    against: Sequence[str] = PEERS,
    calls: int = 200,
    rounds: int = 10,
    k: int = 10,
    beam: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a bundle and its peers.

    :param against: names of `PEERS`.
    :param calls: number of calls of each system, over all rounds.
    :param k: number of items that a call recommends.
    :param beam: beam width; None: the bundle's own.
    :param seed: of the random histories.
    :returns: {"rows": [{"system", "p50_ms", "p95_ms", "calls_per_s", "cold_s", "rss_mb"} …], "bytes": of the bundle,
        "items", "parameters", "left_out": {system: reason}, "faster_than": {peer: its p50 divided by pocketrec's},
        "ratios": the same for each of our ways to run the bundle, "settings"}.
    :raises ConfigError: on an unknown peer.
    :raises BundleError: if the bundle cannot be opened.
    """
    if unknown := [name for name in against if name not in PEERS]:
        raise ConfigError(f"there is no system {unknown[0]!r} to compare with; choose {', '.join(PEERS)}")
    opened = open_bundle(bundle)
    manifest = opened.manifest
    width = beam or manifest.model.beam
    histories = _histories(bundle, seed)
    mine = OURS if fastest_engine(opened) == "native" else OURS[:2]  # without it, the other rows are the same engine
    with tempfile.TemporaryDirectory() as place:
        systems, left_out = _start((*mine, *against), bundle, Path(place), width, k, histories[0])
        times = _in_turns(systems, histories, calls, rounds, progress)
        rows = [_row(name, times[name]) | _fresh(name, bundle, Path(place), width, k, histories[0]) for name in systems]
    p50 = {row["system"]: row["p50_ms"] for row in rows}
    return {
        "rows": rows,
        "faster_than": _ratios(p50, OURS[0]),
        "ratios": {name: _ratios(p50, name) for name in systems if name in OURS},
        "left_out": left_out,
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "items": manifest.catalogue.items,
        "parameters": manifest.model.parameters,
        "settings": {
            "history": len(histories[0]),
            "beam": width,
            "k": k,
            "calls": calls,
            "rounds": rounds,
            "seed": seed,
        },
    }


def _histories(bundle: Path, seed: int) -> list[list[str]]:
    with Recommender.load(bundle) as recommender:
        trie, length = recommender.trie, recommender.manifest.model.max_history
        if len(trie) < 2 * length:
            raise ConfigError(f"the catalogue has {len(trie)} items; a benchmark needs at least {2 * length}")
        rng = np.random.default_rng(seed)
        return [trie.table.ids(rng.choice(len(trie), length, replace=False)) for _ in range(64)]


def _start(
    names: Sequence[str], bundle: Path, place: Path, beam: int, k: int, history: list[str]
) -> tuple[dict[str, Recommend], dict[str, str]]:
    """Start every system and try it once; return those that work, and why others do not.

    :param place: folder in which every system gets a folder of its own.
    """
    systems: dict[str, Recommend] = {}
    left_out: dict[str, str] = {}
    for name in names:
        folder = _folder(place, name)
        folder.mkdir()
        try:
            system = SYSTEMS[name](bundle, folder, beam, k)
            _check(name, system(history), k)
        except (PocketRecError, ImportError) as error:
            if name == OURS[0]:
                raise
            left_out[name] = str(error)
        else:
            systems[name] = system
    return systems, left_out


def _check(name: str, found: list[str], k: int) -> None:
    if len(set(found)) != k:
        raise ExportError(f"{name} recommended {len(set(found))} different items instead of {k}")


def _in_turns(
    systems: dict[str, Recommend], histories: list[list[str]], calls: int, rounds: int, progress: Progress
) -> dict[str, list[float]]:
    """Return the milliseconds of the calls of every system."""
    times: dict[str, list[float]] = {name: [] for name in systems}
    each = max(1, calls // rounds)
    with progress.track("timing", rounds) as advance:
        for number in range(rounds):
            for name, recommend in systems.items():
                recommend(histories[-1])
                for call in range(each):
                    history = histories[(number * each + call) % len(histories)]
                    timed = (
                        recommend.begin(history) if isinstance(recommend, SessionCalls) else partial(recommend, history)
                    )
                    begun = time.perf_counter()
                    timed()
                    times[name].append((time.perf_counter() - begun) * 1e3)
            advance(1)
    return times


def _ratios(p50: dict[str, float], mine: str) -> dict[str, float]:
    return {name: round(p50[name] / p50[mine], 2) for name in p50 if name not in OURS}


def _row(name: str, times: list[float]) -> dict[str, Any]:
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "system": name,
        "p50_ms": round(float(p50), 4),
        "p95_ms": round(float(p95), 4),
        "calls_per_s": round(1e3 / float(np.mean(times)), 1),
    }


def _fresh(name: str, bundle: Path, place: Path, beam: int, k: int, history: list[str]) -> dict[str, Any]:
    """Return the seconds from a process's start to its first recommendations, and its peak memory.

    An earlier process compiles the imported modules to bytecode, as an installation does.
    """
    folder = _folder(place, name)  # `_start` wrote there what the system needs
    command = [sys.executable, "-c", _PROBE, str(bundle), str(folder), name, str(beam), str(k), json.dumps(history)]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPYCACHEPREFIX": str(place / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, capture_output=True, env=environment)
    begun = time.time()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ExportError(f"a process that runs {name} failed: {done.stderr.strip()[-400:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {"cold_s": round(found["at"] - begun, 3), "rss_mb": found["rss_mb"]}


def _folder(place: Path, name: str) -> Path:
    return place / name.replace(" ", "-")
