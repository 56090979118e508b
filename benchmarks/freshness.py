r"""A week of new events: graph as it was, graph refreshed, and everything trained again.

    python benchmarks/freshness.py --interactions LOG --out runs/freshness > freshness.json

LOG has user_id, item_id and timestamp (seconds), and may have an event column. Time is cut twice: training ends at T1,
the new events at T2 = T1 + `--days`, and `--test-days` after T2 are the test: every event there whose item is not in
the user's history is a case, after the whole history up to it. The catalogue is that of T1 (a set without texts cannot
give new items semantic IDs), the same for all. Compared, seen items excluded:

- stale: model and crowd from the events before T1
- fresh crowd: the same model, the crowd refreshed with the events up to T2 (`catalog refresh --interactions`)
- trained again: model and crowd from the events up to T2

each also without its experts. A case's history holds what happened
after T1 in every row: histories are always fresh. `--set` passes settings on to training. JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pocketrec import Recommender
from pocketrec.config import load_config
from pocketrec.run.pipeline import Pipeline
from pocketrec.run.refresh import refresh_catalogue
from pocketrec.run.refresh_experts import NewerLog
from pocketrec.run.run import Run

DAY, K = 86_400, 10
SETTINGS = ("sasrec.enabled=false", "experts.enabled=true", "sid.min_use=0", "evaluation.users=500", "export.beam=48")


def cut(log: pl.DataFrame, out: Path, days: float, test_days: float) -> tuple[int, int]:
    """Write the logs up to T1 and T2 and the catalogue of T1; return both times."""
    second = int(log["timestamp"].max()) - round(test_days * DAY)  # type: ignore[arg-type]
    first = second - round(days * DAY)
    out.mkdir(parents=True, exist_ok=True)
    before = log.filter(pl.col("timestamp") < first)
    before.write_csv(out / "before.csv")
    known = log.join(before.select("item_id").unique(), on="item_id", how="semi").sort("timestamp", maintain_order=True)
    known.filter(pl.col("timestamp") < second).write_csv(out / "both.csv")
    before.select(pl.col("item_id").unique(maintain_order=True)).write_csv(out / "items.csv")
    return first, second


def cases_of(log: pl.DataFrame, second: int) -> list[tuple[list[str], str]]:
    """Histories and targets of the test."""
    out = []
    for _, events in log.sort("timestamp", maintain_order=True).group_by("user_id", maintain_order=True):
        items = [str(item) for item in events["item_id"].to_list()]
        for place, moment in enumerate(events["timestamp"].to_list()):
            if moment >= second and place and items[place] not in items[:place]:
                out.append((items[:place], items[place]))
    return out


def score(bundle: Path, cases: list[tuple[list[str], str]], experts: bool) -> dict[str, float]:
    """recall@10 and ndcg@10, seen items excluded."""
    gains = []
    with Recommender.load(bundle, experts=experts) as recommender:
        for history, target in cases:
            found = [item.item_id for item in recommender.recommend(history, K)]
            gains.append(1 / np.log2(found.index(target) + 2) if target in found else 0.0)
    return {"recall@10": round(float(np.mean(np.array(gains) > 0)), 4), "ndcg@10": round(float(np.mean(gains)), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--test-days", type=float, default=7)
    parser.add_argument("--set", action="append", default=[], help="a setting of the training, section.name=value")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    log, out = pl.read_csv(arguments.interactions), arguments.out
    first, second = cut(log, out, arguments.days, arguments.test_days)
    config = load_config(None, [*SETTINGS, *arguments.set])
    known = set(pl.read_csv(out / "items.csv")["item_id"].cast(pl.String).to_list())
    every = cases_of(log, second)
    cases = [(history, target) for history, target in every if target in known]
    seconds: dict[str, float] = {}
    for name, part in (("stale", "before"), ("again", "both")):
        begun = time.process_time()
        Pipeline(out / name, out / f"{part}.csv", out / "items.csv", config).run()
        seconds[f"{name}, training"] = round(time.process_time() - begun, 1)
    bundles = (("stale", "stale", "before"), ("fresh crowd", "stale", "both"), ("trained again", "again", "both"))
    rows: dict[str, Any] = {}
    for name, run, part in bundles:
        begun, made = time.process_time(), out / "bundles" / name.replace(" ", "-")
        refresh_catalogue(Run.open(out / run), None, made, log=NewerLog([out / f"{part}.csv"], alone=True))
        seconds[f"{name}, refresh"] = round(time.process_time() - begun, 1)
        rows[name] = score(made, cases, experts=True)
        rows[f"{name}, model alone"] = score(made, cases, experts=False)
    counts = {
        "events before T1": len(pl.read_csv(out / "before.csv")),
        "new events": len(log.filter(pl.col("timestamp").is_between(first, second, closed="left"))),
        "cases": len(cases),
        "cases of items new since T1, left out": len(every) - len(cases),
    }
    print(json.dumps({**counts, "cpu_s": seconds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
