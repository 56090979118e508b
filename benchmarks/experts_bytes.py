r"""What a device downloads when only the crowd's graph is new: a log without and with its newest events.

    python benchmarks/experts_bytes.py --bundle RUN/export/bundle --interactions LOG > experts_bytes.json

The bundle must have a crowd. Some users' last events are held back until they are `--shares` of the log; the bundle is
refreshed from the rest (`catalog refresh BUNDLE --interactions`) and published, a device installs it over http on this
machine; then the bundle is refreshed from the whole log and published, and the device follows. LOG has the columns
user_id, item_id and position or timestamp. JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pocketrec import SyncClient
from pocketrec.export.publish.keys import create_keys, load_keys
from pocketrec.export.publish.publish import publish
from pocketrec.export.publish.repository import Repository
from pocketrec.run.refresh import refresh_bundle
from pocketrec.run.refresh_experts import NewerLog
from pocketrec.runtime.bundle.bundle import GRAPH_FILE, open_bundle


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a line for each request."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


def without_newest(log: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """Drop the last event of random users, at most one each, until a share of the log is gone."""
    order = "timestamp" if "timestamp" in log.columns else "position"
    rows = log.with_row_index("row").sort(order, maintain_order=True).group_by("user_id", maintain_order=True).last()
    gone = np.random.default_rng(seed).permutation(rows["row"].to_numpy())[: round(share * len(log))]
    return log.with_row_index("row").filter(~pl.col("row").is_in(gone.tolist())).drop("row")


def measure(bundle: Path, log: pl.DataFrame, share: float, seed: int, place: Path) -> dict[str, Any]:
    """Bytes of one refresh."""
    older = without_newest(log, share, seed)
    bundles = []
    seconds = 0.0
    for name, events in (("older", older), ("newer", log)):
        events.write_csv(place / f"{name}.csv")
        begun = time.process_time()
        refresh_bundle(bundle, None, place / name, log=NewerLog([place / f"{name}.csv"]))
        seconds = time.process_time() - begun
        bundles.append(place / name)
    create_keys(place / "keys")
    repository, keys = Repository(place / "repo"), load_keys(place / "keys", environment={})
    publish(bundles[0], repository, keys)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(place / "repo")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = (place / "repo/metadata/1.root.json").read_bytes()
    try:
        with SyncClient(f"http://127.0.0.1:{server.server_port}", place / "store", root) as client:
            first = client.refresh()
            done = publish(bundles[1], repository, keys)
            second = client.refresh()
            again = client.refresh()
    finally:
        server.shutdown()
    graph = open_bundle(bundles[1]).manifest.files[GRAPH_FILE].bytes
    return {
        "events": len(log),
        "new_events": len(log) - len(older),
        "refresh_cpu_s": round(seconds, 2),
        "bundle_bytes": sum(file.stat().st_size for file in bundles[1].iterdir()),
        "graph_bytes": graph,
        "patch_bytes": sum(done.patches.values()),
        "first": [first.how, first.requests, first.bytes],
        "refresh": [second.how, second.requests, second.bytes],
        "without_news": [again.how, again.requests, again.bytes],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--interactions", type=Path, required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.01, 0.001])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    log, rows = pl.read_csv(arguments.interactions), []
    for share in arguments.shares:
        with tempfile.TemporaryDirectory() as place:
            rows.append(measure(arguments.bundle, log, share, arguments.seed, Path(place)))
    print(json.dumps({"seed": arguments.seed, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
