r"""Where crowd and words help: quality by how similar the next item's title is to the title of the last item.

    python benchmarks/similarity.py runs/beauty-experts

The test users of a finished run with experts are split into five parts of equal size by the cosine between the tf-idf
vectors of two titles: that of the item taken next, and that of the last item of the history. Titles without a common
word have cosine 0; where these are more than a fifth, the order among them is arbitrary. For each fifth the student
alone, the exported bundle (student, crowd and words) and the baseline "graph and words" are measured, items of the
history excluded. Differences have the 95 % interval of a paired bootstrap over the users of the fifth.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from pocketrec.distill.data.splits import EvalSet
from pocketrec.distill.evaluation.metrics import gains, paired_difference
from pocketrec.distill.evaluation.protocol import WEIGHT_CASES, hits, sample
from pocketrec.distill.evaluation.word_graph import GraphAndWords
from pocketrec.export.measure import BundleRanker
from pocketrec.run.run import Run
from pocketrec.runtime.experts.tokens import words_of
from pocketrec.runtime.recommender import Recommender

PARTS = 5
MEASURES = ("recall@10", "ndcg@10")
STUDENT, FUSED, TRAINING_FREE = "student alone", "student, crowd and words", "graph and words"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run with experts")
    parser.add_argument("--users", type=int, default=0, help="test users, drawn with seed 0; 0: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    cases = sample(run.split.test, arguments.users)
    cases = cases.take(np.flatnonzero(cases.histories.lengths > 0))
    result = {
        "users": len(cases),
        "machine": f"{platform.system()} {platform.machine()}",
        "rows": by_similarity(title_similarity(run, cases), all_ranks(run, cases)),
    }
    print(json.dumps(result, indent=1) if arguments.json else table(result))


def title_similarity(run: Run, cases: EvalSet) -> NDArray[np.float64]:
    """Cosine of the titles of each case's target and last item, float64 [n]; 0 where a title is missing."""
    titles = [title or "" for title in run.catalogue.titles]
    vectors = TfidfVectorizer(tokenizer=words_of, token_pattern=None, lowercase=False).fit_transform(titles)
    last = np.array([history[-1] for history in cases.histories])
    return np.asarray(vectors[last].multiply(vectors[cases.targets]).sum(axis=1)).ravel()


def all_ranks(run: Run, cases: EvalSet) -> dict[str, NDArray[np.int32]]:
    """The rank of each target by each system, int32 [n]."""
    ids, split = run.catalogue.item_ids, run.split
    found = {}
    for name, experts in ((STUDENT, False), (FUSED, True)):
        with Recommender.load(run.bundle, experts=experts) as recommender:
            found[name] = hits(BundleRanker(recommender, ids), cases, n_items=len(ids), exclude_seen=True)
    valid, longest = sample(split.valid, WEIGHT_CASES), run.config.evaluation.max_history
    baseline = GraphAndWords.fit(split.train, len(ids), run.catalogue.texts, valid, longest)
    found[TRAINING_FREE] = hits(baseline, cases, n_items=len(ids), exclude_seen=True)
    return found


def by_similarity(similarity: NDArray[np.float64], ranks: dict[str, NDArray[np.int32]]) -> list[dict]:
    """A row for each fifth, the least similar first, and one for all users."""
    order = np.argsort(similarity, kind="stable")
    fifths = [np.sort(part) for part in np.array_split(order, PARTS)]
    rows = []
    for name, users in [*((f"fifth {n}", part) for n, part in enumerate(fifths, start=1)), ("all", np.sort(order))]:
        row = {"users of": name, "n": len(users), "similarity": [float(f(similarity[users])) for f in (np.min, np.max)]}
        for system, found in ranks.items():
            row[system] = {m: float(gains(found[users], m).mean()) for m in MEASURES}
        for other in (STUDENT, TRAINING_FREE):
            change = paired_difference(ranks[FUSED][users], ranks[other][users], "recall@10")
            row[f"recall@10 above {other}"] = [change.mean, change.low, change.high, change.p]
        rows.append(row)
    return rows


def table(result: dict) -> str:
    systems = (STUDENT, TRAINING_FREE, FUSED)
    lines = [
        f"{result['users']:,} test users, recall@10 / ndcg@10, seen excluded; {result['machine']}",
        "",
        f"| cosine to the last title | {' | '.join(systems)} | recall above student alone | above graph and words |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        low, high = row["similarity"]
        name = row["users of"] if row["users of"] == "all" else f"{low:.3f} to {high:.3f}"
        cells = [f"{row[s]['recall@10']:.4f} / {row[s]['ndcg@10']:.4f}" for s in systems]
        for other in (STUDENT, TRAINING_FREE):
            mean, low, high, _ = row[f"recall@10 above {other}"]
            cells.append(f"{mean:+.4f} ({low:+.4f} to {high:+.4f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
