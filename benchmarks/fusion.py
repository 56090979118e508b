r"""What crowd and words cost a call, and how often a list is that of exhaustive scoring.

    python benchmarks/fusion.py RUN > fusion.json

All from one process with one thread. `calls_ms`: the student alone and with its experts, at fixed beams and at the
model's own, widened where needed; every history is timed several times in turns, its fastest time counts, and the mean
over histories is shown, so that other work on the machine disturbs little. `exact`: percent of test users whose ten
items are those of a search that cuts nothing. `searched again`: percent of lists that a beam cannot vouch for.
`opening`: the CPU time to read crowd and words and to prepare their floors. All but the second searches are measured
on a random catalogue of a million items, too. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent))

from latency import describe_machine, random_trie

from pocketrec.run.run import Run
from pocketrec.runtime.bundle.bundle import Bundle, open_bundle
from pocketrec.runtime.catalogue.beam import beam_search
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.engines.numpy_search import NumpySearch
from pocketrec.runtime.engines.registry import load_engine
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.experts.words import Words
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.retrieval import Query

K, BEAMS, MILLION = 10, (20, 48, None), 1_000_000
EDGES, TERMS, FEW_TERMS, VOCABULARY = 8, 12, 6, 30_000
Histories = Sequence[list[str]]


def mean_ms(calls: dict[str, Callable[[list[str]], Any]], histories: Histories, rounds: int) -> dict[str, float]:
    """Mean over histories of the fastest of several calls, milliseconds; all systems in turns."""
    best = {name: np.full(len(histories), np.inf) for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            for place, history in enumerate(histories):
                begun = time.perf_counter()
                call(history)
                best[name][place] = min(best[name][place], time.perf_counter() - begun)
    return {name: round(float(times.mean()) * 1e3, 4) for name, times in best.items()}


def caller(recommender: Recommender, beam: int | None) -> Callable[[list[str]], Any]:
    return lambda history: recommender.recommend(history, K, beam=beam)


def exact_share(recommender: Recommender, histories: Histories, beam: int | None) -> float:
    """Percent of histories whose items are those of a search that cuts nothing."""
    same = 0
    for history in histories:
        truth = {item.item_id for item in recommender.recommend(history, K, beam=len(recommender.trie))}
        same += truth == {item.item_id for item in recommender.recommend(history, K, beam=beam)}
    return round(100 * same / len(histories), 2)


def searched_again(bundle: Bundle, recommender: Recommender, histories: Histories, beam: int) -> float:
    """Percent of histories for which a search from this beam cannot vouch for its list."""
    engine, retriever, count = load_engine("reference", bundle), recommender.retriever, 0
    assert isinstance(engine, NumpySearch)
    for history in histories:
        leaves, _ = retriever.find_leaves(history)
        state = engine.read(retriever.sids(leaves[-retriever.max_history :]))
        control = retriever.catalogues.control_of(Query())
        bias = None if retriever.experts is None else retriever.experts.bias(control, leaves, True)
        found = beam_search(state.hidden, engine.scorer(state.memory), recommender.trie, beam, leaves[None], bias)
        count += not found.scores[0][K - 1] >= found.cut[0]
    return round(100 * count / len(histories), 2)


def random_experts(items: int, rng: np.random.Generator) -> tuple[Crowd, Words]:
    """As many edges and words as bundles have, at random; popularity and words follow a power law."""
    first = np.arange(items + 1, dtype=np.int64) * EDGES
    neighbours = np.sort(rng.integers(0, items, (items, EDGES), dtype=np.int32), axis=1).ravel()
    weights = rng.uniform(0.05, 1, items * EDGES).astype(np.float32)
    popularity = 1.0 / (rng.permutation(items) + 10.0)
    crowd = Crowd(first, neighbours, weights, np.log(popularity / popularity.sum()).astype(np.float32))
    terms = np.sort((VOCABULARY ** rng.random((items, TERMS))).astype(np.int64) - 1, axis=1)
    kept = np.concatenate((np.ones((items, 1), bool), np.diff(terms, axis=1) > 0), axis=1)
    counts = kept.sum(1)
    flat = terms[kept]
    idf = np.log(items / np.maximum(np.bincount(flat, minlength=VOCABULARY), 1)).astype(np.float32)
    return crowd, Words.build(counts, flat, np.maximum(idf, 0.1))


def sharpest(words: Words, terms: int) -> Words:
    """An index of the rarest few words of each item, as bundles have it by now."""
    item = np.repeat(np.arange(len(words)), np.diff(words.first))
    order = np.lexsort((-words.idf[words.terms], item))
    kept = np.sort(order[np.arange(len(item)) - words.first[item] < terms])
    return Words.build(np.bincount(item[kept], minlength=len(words)), words.terms[kept], words.idf)


def opening(crowd: Crowd, words: Words, trie: ItemTrie, times: int) -> dict[str, float]:
    """CPU milliseconds to read both files and to prepare a catalogue, the least of several."""
    out = {"graph_ms": np.inf, "words_ms": np.inf, "floor_ms": np.inf}
    with tempfile.TemporaryDirectory() as place:
        graph, index = Path(place) / "graph.safetensors", Path(place) / "words.safetensors"
        crowd.save(graph), words.save(index)
        for _ in range(times):
            begun = time.process_time()
            read = Crowd.load(graph, len(trie))
            crowd_read = time.process_time()
            found = Words.load(index, len(trie))
            words_read = time.process_time()
            Experts(read, found, FusionWeights(crowd=0.5, words=12.0), len(trie)).floor(trie)
            done = time.process_time()
            for name, value in zip(out, (crowd_read - begun, words_read - crowd_read, done - words_read), strict=True):
                out[name] = min(out[name], round(value * 1e3, 2))
    return out


def measure(
    both: dict[str, Recommender], histories: Histories, timed: int, rounds: int, beams: Sequence[int | None]
) -> dict[str, Any]:
    """Calls and exact shares of some recommenders."""
    calls = {f"{name}, beam {beam or 'widened'}": caller(r, beam) for beam in beams for name, r in both.items()}
    shares = {
        name: {str(beam or "widened"): exact_share(r, histories, beam) for beam in beams} for name, r in both.items()
    }
    return {"calls_ms": mean_ms(calls, histories[:timed], rounds), "exact": shares}


def engines(bundle: Bundle, fused: Recommender, histories: Histories, rounds: int) -> dict[str, dict[str, float]]:
    """Calls of the other engines."""
    out = {}
    for name in ("onnx", "reference"):
        engine = load_engine(name, bundle)
        pair = {
            "student": Recommender(engine, fused.trie, bundle.manifest),
            "fused": Recommender(engine, fused.trie, bundle.manifest, None, fused.retriever.experts),
        }
        calls = {f"{said}, beam {beam}": caller(r, beam) for beam in (20, 48) for said, r in pair.items()}
        out[name] = mean_ms(calls, histories, rounds)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run with experts")
    parser.add_argument("--users", type=int, default=2000, help="test users whose lists are compared (default: 2000)")
    parser.add_argument("--timed", type=int, default=300, help="of them, users whose calls are timed (default: 300)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--million", type=int, default=100, help="users of the million items; 0: leave them out")
    arguments = parser.parse_args()
    run, rng = Run.open(arguments.run), np.random.default_rng(arguments.seed)
    bundle, ids, cases = open_bundle(run.bundle), run.catalogue.item_ids, run.split.test
    users = rng.choice(len(cases), min(arguments.users, len(cases)), replace=False)
    histories = [[ids[row] for row in cases.histories[user].tolist()] for user in users.tolist()]
    alone, fused = (Recommender.load(run.bundle, "native", experts=with_them) for with_them in (False, True))
    experts = fused.retriever.experts
    if experts is None or experts.crowd is None or experts.words is None:
        raise SystemExit("this run's bundle has no crowd and words")
    few = sharpest(experts.words, FEW_TERMS)
    all_of = {
        "student": alone, "fused": fused,
        f"fused, {FEW_TERMS} words": Recommender(
            alone.engine, fused.trie, bundle.manifest, None, Experts(experts.crowd, few, experts.weights, len(few))
        ),
    }  # fmt: skip
    result: dict[str, Any] = {
        "machine": describe_machine(), "users": len(users), "timed": arguments.timed, "seed": arguments.seed,
        "own beam": bundle.manifest.model.beam,
        "native": measure(all_of, histories, arguments.timed, arguments.rounds, BEAMS),
        "opening": opening(experts.crowd, experts.words, fused.trie, 5),
    }  # fmt: skip
    result["searched again"] = {
        f"{name}, beam {beam}": searched_again(bundle, r, histories[:200], beam)
        for name, r in (("student", alone), ("fused", fused)) for beam in (20, 48)
    }  # fmt: skip
    result["other engines, ms"] = engines(bundle, fused, histories[:30], 15)
    if arguments.million:
        trie = random_trie(bundle.manifest.model, MILLION, rng)
        crowd, words = random_experts(len(trie), rng)
        joined = Experts(crowd, words, experts.weights, len(trie))
        pair = {
            name: Recommender(alone.engine, trie, bundle.manifest, None, e)
            for name, e in (("student", None), ("fused", joined))
        }
        long = [
            trie.table.ids(rng.choice(len(trie), 10, replace=False).astype(np.int32)) for _ in range(arguments.million)
        ]
        result[f"{len(trie):,} items"] = {
            **measure(pair, long, len(long), 3, BEAMS), "opening": opening(crowd, words, trie, 2),
        }  # fmt: skip
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
