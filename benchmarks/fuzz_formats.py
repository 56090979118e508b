r"""Damages tries, sessions and bundles many times: no crash, no hang, no wrong answer accepted.

    python benchmarks/fuzz_formats.py --runs 100000 --seed 0

Every damaged file must be refused by an error of pocketrec in one sentence, or the result must still be valid: ids
that are unique and found again, items of the catalogue, finite scores. Most bundles get new hashes after the damage, so
that the checks behind the hashes are reached. Work is done in child processes: one that dies or takes too
long is a failure, and its seed is printed. GGUF bundles are among them where llama-cpp-python is installed. JSON on
stdout; exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

PIECE, SECONDS = 500, 300  # runs of a child, and how long it may take
KINDS = {"trie": 0.5, "session": 0.1, "reference": 0.05, "native": 0.15, "onnx": 0.08, "onnx-split": 0.02, "gguf": 0.1}


def work(good: Path, seed: int, runs: int) -> None:
    """Run a piece in this process; a line of JSON for each run that failed, and one with the counts."""
    from fuzz.mutate import bundle_case, outcome, session_case, trie_case

    from pocketrec.runtime.recommender import Recommender

    kinds = {kind: share for kind, share in KINDS.items() if kind != "gguf" or (good / "gguf").exists()}
    counts: Counter[str] = Counter()
    recommender = Recommender.load(good / "onnx", "reference")
    with tempfile.TemporaryDirectory() as place:
        for number in range(seed, seed + runs):
            rng = random.Random(number)
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            print(number, file=sys.stderr, flush=True)  # if this is the last line, it was this one
            if kind == "trie":
                case = trie_case(good / "onnx" / "trie.safetensors", Path(place), rng)
            elif kind == "session":
                case = session_case(recommender, rng)
            else:
                case = bundle_case(good / ("gguf" if kind == "gguf" else "onnx"), Path(place), rng, kind)
            try:
                counts[f"{kind}: {outcome(case)}"] += 1
            except Exception as error:  # whatever it is, it is a fault
                counts[f"{kind}: FAULT"] += 1
                print(json.dumps({"seed": number, "kind": kind, "error": repr(error)[:300]}))
    print(json.dumps(counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others follow")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.seed, arguments.runs)
        return
    from tiny import random_rows, tiny_bundle, tiny_student

    counts: Counter[str] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as place:
        good = Path(place)
        for name in ("onnx", "gguf") if importlib.util.find_spec("llama_cpp") else ("onnx",):
            tiny_bundle(good / name, tiny_student(), random_rows(40), format=name)
        for first in range(arguments.seed, arguments.seed + arguments.runs, PIECE):
            size = min(PIECE, arguments.seed + arguments.runs - first)
            command = [sys.executable, __file__, "--work", str(good), "--seed", str(first), "--runs", str(size)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            except subprocess.TimeoutExpired as error:
                faults.append({"piece": first, "error": f"took over {SECONDS} s", "last": str(error.stderr)[-20:]})
                continue
            if done.returncode:
                faults.append({"piece": first, "error": f"died ({done.returncode})", "last": done.stderr[-300:]})
                continue
            # ONNX Runtime's parser has words of its own for stdout.
            *found, last = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
            faults += found
            counts.update(last)
            print(f"\r{sum(counts.values())} of {arguments.runs}, {len(faults)} faults", end="", file=sys.stderr)
    print(json.dumps({"runs": arguments.runs, "counts": dict(sorted(counts.items())), "faults": faults}, indent=1))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
