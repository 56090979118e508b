r"""What a crowd's graph reveals of single people, and what leaving them out costs, by `experts.min_users`.

    python benchmarks/crowd_privacy.py interactions.csv.gz [items.csv.gz] [--set data.user_core=5 …] > privacy.json

Quality: leave-one-out, a sample of users, every item ranked by graph and popularity, then with words too (their weight
fitted on validation; ndcg@10, seen items excluded); no model. recall@10 and ndcg@10 with the whole history excluded and
kept.

Privacy: the graph is built again without a tenth of the people. `one person`: edges whose two items only one person
took near each other. `readable steps`: pairs of consecutive items that only one person made, and that the graph has as
an edge. `guess`: an attacker knows two items of a person and guesses three more, the heaviest edges of the two; the
share of right guesses for people in the log and for the tenth outside. The difference is what the graph gives away of
its own people; the rest is taste that they share.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.config import load_config
from pocketrec.distill.data.load import load_dataset
from pocketrec.distill.data.splits import EvalSet, Sequences, split_users
from pocketrec.distill.evaluation.metrics import gains
from pocketrec.distill.evaluation.protocol import sample
from pocketrec.distill.experts.crowd import build_crowd, transitions_of
from pocketrec.distill.experts.privacy import revealed
from pocketrec.distill.experts.words import build_words
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.words import Words

MIN_USERS, POPULAR, RECENCY, LAST = (1, 2, 3, 5), 0.1, 0.5, 3
WEIGHTS = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0)  # of the words
KNOWN, GUESSES = 2, 3


def ranks(
    crowd: Crowd, words: Words | None, cases: EvalSet, weights: tuple[float, ...], exclude: bool
) -> NDArray[np.int32]:  # fmt: skip
    """Rank of each target among all items, int32 [len(weights), cases]; ties count against the target."""
    popularity, out = np.exp(crowd.log_popularity), np.empty((len(weights), len(cases)), np.int32)
    for row, (history, target) in enumerate(zip(cases.histories, cases.targets.tolist(), strict=True)):
        chance = POPULAR * popularity
        items, weight = crowd.reached(history, RECENCY)
        chance[items] += (1 - POPULAR) * weight / max(float(weight.sum()), 1e-30)
        score, near = np.log(chance), np.zeros(len(chance), np.float32)
        if words is not None:
            items, cosines = words.reached(history[-LAST:], RECENCY)
            near[items] = cosines
        for place, a in enumerate(weights):
            total = score + np.float32(a) * near
            least = total[target]
            if exclude:
                total[history] = -np.inf
            out[place, row] = np.count_nonzero(total >= least) - (total[target] >= least)
            if exclude and target in history:
                out[place, row] = len(total)
    return out


def quality(crowd: Crowd, words: Words | None, valid: EvalSet, test: EvalSet) -> dict[str, list[float]]:
    """recall@10 and ndcg@10 on test cases."""
    shown = {}
    for name, index in {"graph": None, "graph and words": words}.items():
        if name != "graph" and words is None:
            continue
        weight = 0.0
        if index is not None:
            weight = WEIGHTS[int(gains_of(ranks(crowd, index, valid, WEIGHTS, True))[1].argmax())]
        for convention, exclude in (("excluded", True), ("kept", False)):
            found = gains_of(ranks(crowd, index, test, (weight,), exclude))
            shown[f"{name}, {convention}"] = [round(float(x), 4) for x in found[:, 0]]
    return shown


def gains_of(found: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean recall@10 and ndcg@10, [2, len(weights)]."""
    return np.stack([gains(found, metric).mean(-1) for metric in ("recall@10", "ndcg@10")])


def steps_in(crowd: Crowd, log: Sequences) -> float:
    """Share of the consecutive pairs of one person alone that are edges."""
    pairs = transitions_of(log, len(crowd), 1)
    edges = np.repeat(np.arange(len(crowd)), np.diff(crowd.first)) * len(crowd) + crowd.neighbours
    had = whole = 0
    for block in pairs.blocks():
        alone = pairs.people(block).tocoo()
        one = (alone.row[alone.data == 1] + block.start) * len(crowd) + alone.col[alone.data == 1]
        at = np.flatnonzero((pairs.items[:-1] >= block.start) & (pairs.items[:-1] < block.stop))
        at = at[pairs.owner[at] == pairs.owner[at + 1]]
        steps = np.intersect1d(one, pairs.items[at].astype(np.int64) * len(crowd) + pairs.items[at + 1])
        had, whole = had + len(np.intersect1d(steps, edges)), whole + len(steps)
    return had / max(whole, 1)


def guess(crowd: Crowd, people: Sequences, chance: np.random.Generator) -> float:
    """Share of right guesses."""
    right = 0
    for history in people:
        items = chance.permutation(np.unique(history))
        found, weight = crowd.reached(items[:KNOWN].astype(np.int32), 1.0)
        new = ~np.isin(found, items[:KNOWN])
        best = found[new][np.argsort(-weight[new], kind="stable")[:GUESSES]]
        right += int(np.isin(best, items[KNOWN:]).sum())
    return right / (GUESSES * max(len(people), 1))


def main() -> None:
    """Measure one log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interactions", type=Path)
    parser.add_argument("items", type=Path, nargs="?")
    parser.add_argument("--set", action="append", default=[], help="section.name=value")
    parser.add_argument("--users", type=int, default=3000, help="test users, and people whose items are guessed")
    args = parser.parse_args()
    config, chance = load_config(None, args.set), np.random.default_rng(0)
    data = load_dataset(args.interactions, args.items, config.data)
    split, texts = split_users(data.users, data.times, config.data), data.catalogue.texts
    valid, test = sample(split.valid, args.users, 1), sample(split.test, args.users)
    n, order = len(data.catalogue), chance.permutation(len(split.train))
    words = build_words(texts, config.experts.terms) if any(texts) else None
    outside, inside = np.split(order, [len(order) // 10])
    log, long = split.train.take(np.sort(inside)), split.train.lengths >= KNOWN + GUESSES
    groups = {
        name: split.train.take(rows[long[rows]][: args.users])
        for name, rows in (("in the log", inside), ("outside", outside))
    }
    out: dict[str, Any] = {"events": int(split.train.lengths.sum()), "people": len(split.train), "items": n}
    for least in MIN_USERS:
        part = build_crowd(log, n, config.experts.neighbours, least)
        alone = revealed(log, part, 1).by_one / max(len(part.neighbours), 1)
        whole = build_crowd(split.train, n, config.experts.neighbours, least)
        out[f"min_users {least}"] = {
            "edges an item": round(len(whole.neighbours) / n, 2),
            "one person": round(alone, 3),
            "readable steps": round(steps_in(part, log), 3),
            "guess": {name: round(guess(part, group, chance), 3) for name, group in groups.items()},
            **quality(whole, words, valid, test),
        }
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
