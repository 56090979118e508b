r"""Building crowd and words for logs of up to 10 million events and a million items: time and memory.

    python benchmarks/experts_scale.py --events 10000000 --items 1000000 > experts-scale.json

Synthetic and skewed: popularity falls like a power law, histories have a geometric length of 20 on average, and a
person stays near one region of the catalogue for most events. Titles have four to ten words, of a vocabulary with a
power law. One process; `peak_mb` is its resident memory at the end, `log_mb` what the log itself took before. JSON on
stdout.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import numpy as np

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.experts.crowd import build_crowd
from pocketrec.distill.experts.words import build_words

MEAN_LENGTH, NEAR, STAYS = 20, 50, 0.7


def make_log(events: int, items: int, chance: np.random.Generator) -> Sequences:
    """Random histories."""
    lengths = chance.geometric(1 / MEAN_LENGTH, 2 * events // MEAN_LENGTH)
    lengths = lengths[np.cumsum(lengths) <= events]
    n = int(lengths.sum())
    popular = (items * chance.random(n) ** 3).astype(np.int32)
    region = np.repeat((items * chance.random(len(lengths)) ** 2).astype(np.int32), lengths)
    near = (region + chance.integers(0, NEAR, n, dtype=np.int32)) % items
    ends = np.cumsum(lengths)
    return Sequences(np.where(chance.random(n) < STAYS, near, popular).astype(np.int32), ends - lengths, ends)


def make_titles(items: int, chance: np.random.Generator) -> list[str]:
    """Random titles; a tenth as many words as items."""
    names = np.array([f"word{i}" for i in range(max(items // 10, 10))])
    sizes = chance.integers(4, 11, items)
    words = names[(len(names) * chance.random(int(sizes.sum())) ** 4).astype(np.int64)].tolist()
    ends = np.cumsum(sizes)
    return [" ".join(words[a:b]) for a, b in zip(ends - sizes, ends, strict=True)]


def peak_mb() -> float:
    """Most resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def seconds(build: object, *arguments: object) -> tuple[dict[str, float], object]:
    """Call; return wall and CPU seconds, and what came back."""
    wall, cpu = time.perf_counter(), time.process_time()
    out = build(*arguments)  # type: ignore[operator]
    return {"wall_s": round(time.perf_counter() - wall, 1), "cpu_s": round(time.process_time() - cpu, 1)}, out


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--neighbours", type=int, default=8)
    parser.add_argument("--min-users", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = np.random.default_rng(args.seed)
    log = make_log(args.events, args.items, chance)
    out: dict[str, object] = {"settings": vars(args), "events": len(log.items), "users": len(log), "log_mb": peak_mb()}
    crowd_s, crowd = seconds(build_crowd, log, args.items, args.neighbours, args.min_users)
    out["crowd"] = {**crowd_s, "edges": len(crowd.neighbours), "peak_mb": peak_mb()}  # type: ignore[attr-defined]
    del crowd, log
    titles = make_titles(args.items, chance)
    words_s, words = seconds(build_words, titles)
    out["words"] = {**words_s, "terms": len(words.terms), "peak_mb": peak_mb()}  # type: ignore[attr-defined]
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
