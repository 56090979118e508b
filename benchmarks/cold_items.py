r"""Items without interactions: hidden from training, added by `catalog refresh` only, then recommended.

    python benchmarks/cold_items.py --data DATA --out runs/cold --epochs 12 > cold_items.json

DATA holds interactions.csv.gz and items.csv.gz (Amazon Beauty). A random 5 % of the items and all their interactions
are left out, a student is trained on the rest without a teacher (resumable: the run is kept in `--out`), and the hidden
items are added by `catalog refresh` with the whole catalogue. The evaluation cases are those of the whole log in
TIGER's protocol (leave-one-out, the last 20 items): `cold`, whose target is a hidden item; `warm`, a sample of the
others. Histories may contain hidden items, too.

Compared with the refreshed bundle: the same without the neighbours of new items (`cold_items=False`), the model without
refresh, popularity, and nearest neighbours in text space, of the last item and of the history's mean. The constants of
`pocketrec.runtime.cold_items` were chosen on the validation cases; test is reported, too. JSON goes to stdout.

`--experts` trains crowd and words too. Two more bundles are then measured: `refreshed, no stand-ins` (cold items as in
bundles without experts) and `refreshed, with edges` (the crowd built from the training events of the hidden items as
well, as if people had begun to use them, while the model has never seen them).
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gzip
import json
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec import Recommender
from pocketrec.config import load_config
from pocketrec.distill.data.load import load_dataset
from pocketrec.distill.data.splits import EvalSet, Sequences, split_users
from pocketrec.distill.semantic_ids.text_vectors import encode_texts
from pocketrec.run.pipeline import Pipeline
from pocketrec.run.refresh import refresh_catalogue
from pocketrec.run.refresh_experts import NewerLog
from pocketrec.run.run import Run
from pocketrec.runtime.bundle.bundle import open_bundle, write_manifest

SHARE, K = 0.05, 10
"""Items that are hidden; how many items count."""

Cases = list[tuple[list[str], str]]
"""Histories and their targets."""


def hide(data: Path, folder: Path, seed: int) -> set[str]:
    """Write the log and the catalogue without a random share of the items; return the ids of these."""
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(data / "items.csv.gz", "rt", encoding="utf-8") as file:
        ids = [row["item_id"] for row in csv.DictReader(file)]
    hidden = set(np.random.default_rng(seed).choice(ids, round(SHARE * len(ids)), replace=False).tolist())
    for name in ("interactions.csv.gz", "items.csv.gz"):
        with (
            gzip.open(data / name, "rt", encoding="utf-8", newline="") as source,
            gzip.open(folder / name, "wt", encoding="utf-8", newline="") as target,
        ):
            reader = csv.DictReader(source)
            writer = csv.DictWriter(target, reader.fieldnames or ())
            writer.writeheader()
            writer.writerows(row for row in reader if row["item_id"] not in hidden)
    return hidden


def as_ids(cases: EvalSet, ids: Sequence[str]) -> Cases:
    """Return cases as (ids of the history, id of the target)."""
    pairs = zip(cases.histories, cases.targets.tolist(), strict=True)
    return [([ids[item] for item in history.tolist()], ids[target]) for history, target in pairs]


def score(lists: list[list[str]], cases: Cases) -> dict[str, float]:
    """recall@10 and ndcg@10."""
    ranks = [a.index(target) if target in a else None for a, (_, target) in zip(lists, cases, strict=True)]
    gains = [0.0 if rank is None else 1 / np.log2(rank + 2) for rank in ranks]
    return {
        "recall@10": round(float(np.mean([rank is not None for rank in ranks])), 4),
        "ndcg@10": round(float(np.mean(gains)), 4),
    }


def recommended(recommender: Recommender, cases: Cases, exclude_seen: bool = False) -> dict[str, float]:
    """Score the recommendations of a bundle."""
    lists = [[item.item_id for item in recommender.recommend(history, K, exclude_seen)] for history, _ in cases]
    return score(lists, cases)


def neighbours(vectors: NDArray[np.float32], ids: Sequence[str], cases: Cases, mean: bool) -> dict[str, float]:
    """Score the nearest neighbours in text space of the last item (without itself), or of the mean of the last 20."""
    row = {item: place for place, item in enumerate(ids)}
    lists = []
    for history, _ in cases:
        rows = [row[item] for item in history[-20:]]
        query = vectors[rows].mean(0) if mean else vectors[rows[-1]]
        near = np.argsort(-(vectors @ query), kind="stable")[: K + 1].tolist()
        lists.append([ids[place] for place in near if mean or place != rows[-1]][:K])
    return score(lists, cases)


def popular(log: Path) -> list[str]:
    """The ten most frequent items of a log."""
    with gzip.open(log, "rt", encoding="utf-8", newline="") as file:
        counts = Counter(row["item_id"] for row in csv.DictReader(file))
    return [item for item, _ in counts.most_common(K)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--sid", default="rqvae", help="method of the semantic IDs: rqvae or rkmeans")
    parser.add_argument("--warm", type=int, default=100_000, help="number of warm cases, at most")
    parser.add_argument("--experts", action="store_true", help="with crowd and words")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    hidden = hide(arguments.data, arguments.out / "data", arguments.seed)
    settings = [f'sid.method="{arguments.sid}"', f"train.epochs={arguments.epochs}", "sasrec.enabled=false"]
    if arguments.experts:
        settings += ["experts.enabled=true", "export.beam=48"]
    config = load_config(None, [*settings, f"train.seed={arguments.seed}"])
    run = arguments.out / "run"
    log, items = arguments.out / "data" / "interactions.csv.gz", arguments.out / "data" / "items.csv.gz"
    Pipeline(run, log, items, config).run()
    refreshed = arguments.out / "refreshed"
    came = refresh_catalogue(Run.open(run), arguments.data / "items.csv.gz", refreshed)

    whole = load_dataset(arguments.data / "interactions.csv.gz", arguments.data / "items.csv.gz", config.data)
    split, ids = split_users(whole.users, whole.times, config.data), whole.catalogue.item_ids
    vectors = encode_texts(whole.catalogue.texts, config.text)
    rng = np.random.default_rng(arguments.seed)
    parts = {}
    for name, evaluated in (("valid", split.valid), ("test", split.test)):
        every = as_ids(evaluated, ids)
        warm = [case for case in every if case[1] not in hidden]
        chosen = rng.choice(len(warm), min(arguments.warm, len(warm)), replace=False).tolist()
        parts[name] = {"cold": [case for case in every if case[1] in hidden], "warm": [warm[i] for i in chosen]}
    bundles = {"without refresh": (run / "export" / "bundle", True), "refreshed, the model alone": (refreshed, False)}
    bundles["refreshed"] = refreshed, True
    if arguments.experts:
        bundles["refreshed, no stand-ins"] = without_stand_ins(refreshed, arguments.out / "no-stand-ins"), True
        write_log(split.train, whole.user_ids.to_list(), ids, arguments.out / "train.csv")
        edges, events = arguments.out / "edges", NewerLog([arguments.out / "train.csv"], alone=True)
        refresh_catalogue(Run.open(run), None, edges, refreshed, log=events)
        bundles["refreshed, with edges"] = edges, True
    top = popular(log)
    result: dict[str, Any] = {name: measure(bundles, part, vectors, ids) for name, part in parts.items()}
    for name, part in parts.items():
        result[name]["popularity"] = {kind: score([top] * len(c), c) for kind, c in part.items()}
    result |= {
        "hidden": len(hidden & set(ids)),
        "refresh": {"added": came.added, "moved": came.moved},
        "epochs": arguments.epochs,
    }
    counts = {name: {kind: len(some) for kind, some in part.items()} for name, part in parts.items()}
    result |= {"sid": arguments.sid, "seed": arguments.seed, "questions": counts}
    print(json.dumps(result, indent=1))


def without_stand_ins(bundle: Path, out: Path) -> Path:
    """Copy a bundle whose cold items get the scores that they have without experts."""
    shutil.copytree(bundle, out, dirs_exist_ok=True)
    manifest = open_bundle(bundle).manifest
    if manifest.fusion is not None:
        fusion = dataclasses.replace(manifest.fusion, tenth=0.0, tenth_model=0.0)
        write_manifest(out, dataclasses.replace(manifest, fusion=fusion))
    return out


def write_log(histories: Sequences, users: list[str], ids: list[str], path: Path) -> None:
    """Write histories as a log with positions."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "position"])
        for user, history in zip(users, histories, strict=True):
            writer.writerows([user, ids[item], place] for place, item in enumerate(history.tolist()))


def measure(
    bundles: Mapping[str, tuple[Path, bool]], parts: dict[str, Cases], vectors: NDArray[np.float32], ids: list[str]
) -> dict[str, Any]:
    """Return all rows except popularity. bundles: by name, and whether cold items are scored by what they resemble."""
    rows: dict[str, Any] = {}
    for name, (bundle, cold) in bundles.items():
        with Recommender.load(bundle, cold_items=cold) as recommender:
            for seen, exclude in (("kept", False), ("excluded", True)):
                rows[f"{name}, seen {seen}"] = {kind: recommended(recommender, c, exclude) for kind, c in parts.items()}
    for name, mean in (("text neighbours of the last item", False), ("text neighbours of the history", True)):
        rows[name] = {kind: neighbours(vectors, ids, c, mean) for kind, c in parts.items()}
    return rows


if __name__ == "__main__":
    main()
