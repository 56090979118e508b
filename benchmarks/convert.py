"""A converted causal Llama beside `generate` of transformers: the same lists, and how much sooner.

    python benchmarks/convert.py > convert.json

Makes a `LlamaForCausalLM` with plain transformers (random, seeded weights; a token per code and three specials) and a
random catalogue, saves it with `save_pretrained`, converts it with `pocketrec export --index`, and asks for the ten
best of random histories: `generate`, with as many beams and a dictionary of the catalogue's prefixes as
`prefix_allowed_tokens_fn`, and `Recommender.recommend` on the bundle by each engine. All keep items already seen. One
thread, one history a call, from item ids to item ids. `cpu_ms` is the time that the process computed, which waiting for
a busy machine does not lengthen.

Promises: all take turns, one history after the other, in one process, each after calls that are not counted. Lists
that differ are compared by score: `largest_gap` is the largest difference, over places of those lists, between
generate's log-probabilities of the two items (nothing but rounding swaps items if it is near 1e-6). JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from pocketrec.bench.systems import prefix_table
from pocketrec.runtime.compiled import native
from pocketrec.runtime.recommender import Recommender

BOS, EOS, SPECIALS = 1, 2, 3
BEAM, K, WARM_UP = 20, 10, 3
GENERATE = "transformers generate"

Scored = list[tuple[str, float]]


@dataclass(frozen=True)
class Made:
    """What the benchmark converts: items as token ids [n, L], their ids, and the folder of model and index."""

    folder: Path
    model: Any
    item_ids: list[str]
    tokens: NDArray[np.int64]


def make(folder: Path, arguments: argparse.Namespace) -> Made:
    """Save a random model and the index of a random catalogue."""
    torch.manual_seed(arguments.seed)
    levels, codes = arguments.levels, arguments.codes
    config = transformers.LlamaConfig(
        vocab_size=SPECIALS + levels * codes, hidden_size=arguments.dim, intermediate_size=arguments.ffn,
        num_hidden_layers=arguments.layers, num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.kv_heads or arguments.heads, tie_word_embeddings=arguments.tied,
        max_position_embeddings=2 * (arguments.history + 1) * levels, initializer_range=arguments.spread,
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=0,
    )  # fmt: skip
    model: Any = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder / "model")
    numbers = np.random.default_rng(arguments.seed).choice(codes**levels, arguments.items, replace=False)
    tokens = np.stack(np.unravel_index(numbers, (codes,) * levels), 1) + SPECIALS + np.arange(levels) * codes
    ids = [f"item-{i}" for i in range(len(tokens))]
    (folder / "index.json").write_text(json.dumps(dict(zip(ids, tokens.tolist(), strict=True))))
    return Made(folder, model, ids, tokens)


def convert(made: Made, history: int) -> Path:
    """Run the command line on the model."""
    out = made.folder / "bundle"
    command = [
        sys.executable, "-m", "pocketrec", "export", str(made.folder / "model"),
        "--index", str(made.folder / "index.json"), "--out", str(out), "--max-history", str(history), "--json",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def by_generate(made: Made) -> Callable[[Sequence[int]], Scored]:
    """Return constrained beam search by transformers, history rows in, items with their log-probabilities out."""
    allowed = prefix_table(map(tuple, made.tokens.tolist()))
    item_of = {tuple(row): item for row, item in zip(made.tokens.tolist(), made.item_ids, strict=True)}
    levels = made.tokens.shape[1]

    def recommend(history: Sequence[int]) -> Scored:
        read = torch.from_numpy(made.tokens[list(history)].reshape(1, -1))
        length = read.shape[1]
        found = made.model.generate(
            read,
            attention_mask=torch.ones_like(read),
            num_beams=BEAM,
            num_return_sequences=K,
            max_new_tokens=levels,
            do_sample=False,
            prefix_allowed_tokens_fn=lambda _, tokens: allowed[tuple(tokens[length:].tolist())],
            return_dict_in_generate=True,
            output_scores=True,
        )
        spelt = [tuple(row) for row in found.sequences[:, length:].tolist()]
        return [(item_of[s], float(p) * levels) for s, p in zip(spelt, found.sequences_scores, strict=True)]

    return recommend


def by_bundle(made: Made, recommender: Recommender) -> Callable[[Sequence[int]], Scored]:
    """Return the bundle's search behind the same face."""

    def recommend(history: Sequence[int]) -> Scored:
        ids = [made.item_ids[row] for row in history]
        return [(r.item_id, r.score) for r in recommender.recommend(ids, k=K, beam=BEAM, exclude_seen=False)]

    return recommend


def compare(lists: list[tuple[Scored, Scored]]) -> dict[str, Any]:
    """Say how alike pairs of lists are (generate's first)."""
    same = [[i for i, _ in theirs] == [i for i, _ in ours] for theirs, ours in lists]
    sets = [{i for i, _ in theirs} == {i for i, _ in ours} for theirs, ours in lists]
    gaps, errors = [0.0], [0.0]
    for theirs, ours in lists:
        score = dict(theirs)
        errors += [abs(score[item] - s) for item, s in ours if item in score]
        gaps += [abs(s - score.get(b, np.inf)) for (a, s), (b, _) in zip(theirs, ours, strict=True) if a != b]
    return {
        "histories": len(lists),
        "identical_lists": sum(same) / len(same),
        "identical_sets": sum(sets) / len(sets),
        "largest_gap": max(gaps),
        "largest_score_difference": max(errors),
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make, convert, ask all in turns; the returned object is what stands on stdout."""
    torch.set_num_threads(1)
    logging: Any = transformers.logging
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as name:
        made = make(Path(name), arguments)
        bundle = convert(made, arguments.history)
        size = sum(path.stat().st_size for path in bundle.iterdir())
        engines = [name for name in ("native", "onnx", "native-int8") if native or name == "onnx"]  # exact ones first
        opened = {name: Recommender.load(bundle, name) for name in engines}
        ours = {f"pocketrec {name}": by_bundle(made, recommender) for name, recommender in opened.items()}
        lists, times = ask_in_turns({GENERATE: by_generate(made), **ours}, arguments)
        parameters = opened["onnx"].manifest.model.parameters
    rows = []
    for system, taken in times.items():
        p50, p95 = np.percentile(taken[:, 0], [50, 95]).round(3).tolist()
        cpu = round(float(np.median(taken[:, 1])), 3)
        rows.append({"system": system, "p50_ms": p50, "p95_ms": p95, "cpu_ms": cpu})
    best = rows[1]["system"]
    ratios = times[GENERATE][:, 0] / times[best][:, 0]
    return {
        "machine": machine(),
        "settings": {**vars(arguments), "beam": BEAM, "k": K, "threads": 1},
        "parameters": parameters,
        "bundle_bytes": size,
        "same": {
            name: compare([(theirs, ours) for theirs, ours in zip(lists[GENERATE], lists[name], strict=True)])
            for name in lists
            if name != GENERATE
        },
        "rows": rows,
        "speedups_p50": {row["system"]: round(rows[0]["p50_ms"] / row["p50_ms"], 1) for row in rows[1:]},
        "speedup_p50": round(rows[0]["p50_ms"] / rows[1]["p50_ms"], 1),
        "speedup_cpu": round(rows[0]["cpu_ms"] / rows[1]["cpu_ms"], 1),
        "speedup_of_pairs": {q: round(float(np.percentile(ratios, p)), 1) for q, p in (("p10", 10), ("p90", 90))},
    }


def ask_in_turns(
    systems: dict[str, Callable[[Sequence[int]], Scored]], arguments: argparse.Namespace
) -> tuple[dict[str, list[Scored]], dict[str, NDArray[np.float64]]]:
    """Run all systems on each history; return their lists, and milliseconds of calls, [calls, 2]: wall and CPU."""
    rng = np.random.default_rng(arguments.seed + 1)
    lists: dict[str, list[Scored]] = {name: [] for name in systems}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    for number in range(arguments.histories + WARM_UP):
        history = rng.choice(arguments.items, arguments.history, replace=False).tolist()
        for name, recommend in systems.items():
            wall, cpu = time.perf_counter(), time.process_time()
            answer = recommend(history)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number >= WARM_UP:
                times[name].append((wall * 1e3, cpu * 1e3))
                lists[name].append(answer)
        if number >= WARM_UP:
            print(f"\r{len(lists[GENERATE])} of {arguments.histories}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return lists, {name: np.array(taken) for name, taken in times.items()}


def machine() -> dict[str, Any]:
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        **{name: version(name) for name in ("numpy", "onnxruntime", "torch", "transformers")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A converted LlamaForCausalLM beside generate() with the same beams and constraint.",
        epilog="example: python benchmarks/convert.py --layers 8 --dim 576 --heads 9 --kv-heads 3 --ffn 1536",
    )
    sizes = {
        "layers": 4, "dim": 256, "heads": 4, "kv-heads": 0, "ffn": 1024, "levels": 3, "codes": 256, "items": 12_000,
        "history": 20, "histories": 100, "seed": 0,
    }  # fmt: skip
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--spread", type=float, default=0.1, help="standard deviation of the weights (default: 0.1)")
    parser.add_argument("--tied", action="store_true", help="the head is the embedding")
    result = run(parser.parse_args())
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
