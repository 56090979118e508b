r"""Catalogues of 10 thousand to 10 million items: bytes, loading, looking ids up, and what a recommendation costs.

    python benchmarks/scale.py > scale.json

A student of the default shape with random weights, its graph with room for every code at every level, and random items
with ids of 8 to 14 bytes and no titles. Each size is loaded in a process of its own, so `peak_mb` is its own; the
latencies of all sizes are taken in turns, one thread, 20 items of history, ten items asked for. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.catalogue.item_table import ItemTable
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.catalogue.trie_file import TrieFile, write_trie_file
from pocketrec.runtime.engines.registry import fastest_engine, load_engine
from pocketrec.runtime.recommender import Recommender

HISTORY, LEVELS, CODES, SPACE = 20, 3, 256, "random"


def make_bundle(folder: Path) -> Path:
    """A bundle of a random student and a few items, with room for any catalogue of its SID space."""
    from pocketrec.distill.config import StudentConfig  # here, so that processes that only load stay small
    from pocketrec.distill.models.student import Student
    from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle

    rows = np.random.default_rng(0).integers(0, CODES, (10, LEVELS)).astype(np.uint8)
    student = Student(StudentConfig(), LEVELS, CODES, rows).eval()
    ids = [str(row) for row in range(len(rows))]
    write_bundle(folder, student, BundleItems(rows, ids, None, SPACE), BundleSettings(beam=20, headroom=CODES))
    return folder


def make(path: Path, items: int, seed: int) -> None:
    """Write a random catalogue; ids are built without a Python string each."""
    rng = np.random.default_rng(seed)
    numbers = np.sort(rng.choice(CODES**LEVELS, items, replace=False))
    rows = np.stack(np.unravel_index(numbers, (CODES,) * LEVELS), 1).astype(np.uint8)
    lengths = rng.integers(8, 15, len(rows))
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    blob = rng.integers(97, 123, offsets[-1], dtype=np.uint8)
    serial = np.arange(len(rows))
    for place in range(8):  # the first eight characters count, so that ids differ
        blob[offsets[:-1] + place] = 97 + serial % 26
        serial //= 26
    write_trie_file(path, TrieFile(rows, ItemTable(blob, offsets), CODES, SPACE))


def peak_mb() -> float:
    """Highest resident memory of this process, MiB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return round(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024, 1)


def look(path: Path) -> dict[str, Any]:
    """Load a trie file and look ids up, in this process; called in a fresh one."""
    before = peak_mb()
    begun, cpu = time.perf_counter(), time.process_time()
    trie = ItemTrie.load(path)
    loaded, cpu = time.perf_counter(), time.process_time() - cpu
    chosen = np.linspace(0, len(trie) - 1, HISTORY).astype(np.int64)
    ids = trie.table.ids(chosen)
    first = time.perf_counter()
    rows = trie.table.find(ids)
    found = time.perf_counter()
    if rows.tolist() != chosen.tolist():
        raise SystemExit("an id was not found where it is")
    again = time.perf_counter()
    for _ in range(100):
        trie.table.find(ids)
    done = time.perf_counter()
    own = (
        trie.rows.nbytes
        + trie.codes.nbytes
        + trie.first_child.nbytes
        + (0 if trie.subset is None else trie.subset.nbytes)
    )
    n = max(len(trie), 1)
    return {
        "items": len(trie),
        "file_bytes_an_item": round(path.stat().st_size / n, 2),
        "file_bytes_an_item_without_ids": round((path.stat().st_size - trie.table.id_bytes.nbytes - 2 * n) / n, 2),
        "memory_bytes_an_item_without_ids": round(own / n, 2),
        "load_s": round(loaded - begun, 3),
        "load_cpu_s": round(cpu, 3),
        "first_find_ms": round((found - first) * 1e3, 3),
        "find_20_ids_us": round((done - again) * 1e4, 1),
        "peak_mb": peak_mb(),
        "before_mb": before,
    }


def latencies(
    bundle_path: Path, paths: dict[int, Path], calls: int, seed: int, name: str | None
) -> dict[int, dict[str, float]]:
    """Milliseconds of `recommend_rows` with each catalogue, in turns."""
    bundle, rng = open_bundle(bundle_path), np.random.default_rng(seed)
    engine = load_engine(name or fastest_engine(bundle), bundle)
    recommenders = {n: Recommender(engine, ItemTrie.load(path), bundle.manifest) for n, path in paths.items()}
    times: dict[int, list[float]] = {items: [] for items in recommenders}
    for number in range(calls + 5):
        for items, recommender in recommenders.items():
            history = rng.choice(len(recommender.trie), HISTORY).astype(np.int32)
            begun = time.perf_counter()
            recommender.recommend_rows(history)
            if number >= 5:
                times[items].append((time.perf_counter() - begun) * 1e3)
    return {
        items: {"p50_ms": round(float(np.median(t)), 3), "p10_ms": round(float(np.percentile(t, 10)), 3)}
        for items, t in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", help="default: the one that `Recommender.load` takes")
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.look:
        print(json.dumps(look(arguments.look)))
        return
    with tempfile.TemporaryDirectory() as place:
        paths, rows = {}, []
        for items in arguments.items:
            paths[items] = Path(place) / f"{items}.safetensors"
            make(paths[items], items, arguments.seed)
            command = [sys.executable, __file__, "--look", str(paths[items])]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(rows[-1], file=sys.stderr)
        taken = latencies(make_bundle(Path(place) / "bundle"), paths, arguments.calls, arguments.seed, arguments.engine)
    first = taken[arguments.items[0]]["p50_ms"]
    result = [
        row | taken[n] | {"ratio": round(taken[n]["p50_ms"] / first, 3)} for row, n in zip(rows, paths, strict=True)
    ]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
