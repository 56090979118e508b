r"""One nginx on one core and many devices: requests and bytes of a refresh, with and without news.

    python benchmarks/sync_load.py --clients 1000 > sync_load.json

Every device is a `SyncClient` with a store of its own, over HTTP on loopback. Three rounds: the first release, a
refresh without news, and a release with 1 % of the items replaced. The devices' own work (signatures, hashes, opening
the bundle) runs on the same machine, so the seconds say little about the server; its CPU time is listed as well. Needs
nginx (Debian's package of that name) and Linux. JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scale import CODES, LEVELS, SPACE, make_bundle

from pocketrec import SyncClient
from pocketrec.export.publish.keys import create_keys, load_keys
from pocketrec.export.publish.publish import publish
from pocketrec.export.publish.repository import Repository
from pocketrec.export.refresh import write_refreshed
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie


def write_release(out: Path, model: Path, items: int, first: int, rows: np.ndarray[Any, Any]) -> Path:
    """Write a bundle over items `first` to `first + items` of a fixed stock."""
    stock = range(first, first + items)
    ids = [f"item-{number:07d}" for number in stock]
    trie = ItemTrie.from_rows(rows[first : first + items], ids, codes_per_level=CODES, sid_space=SPACE)
    write_refreshed(open_bundle(model), trie, out)
    return out


@contextmanager
def nginx(folder: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Serve a folder by one nginx process on core 0; its address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary = " ".join(
        f"{name}_temp_path {folder}/t;" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user root; daemon off; master_process off; pid {folder}/pid; error_log stderr crit;\n"
        f"events {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }} }}\n"
    )
    process = subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", str(folder / "nginx.conf")])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def cpu_seconds(process: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=8, help="devices at a time")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    changed = arguments.items // 100
    numbers = rng.choice(CODES**LEVELS, arguments.items + changed, replace=False)
    rows = np.stack(np.unravel_index(numbers, (CODES,) * LEVELS), 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_bundle(folder / "model")
        create_keys(folder / "keys")
        keys, repository = load_keys(folder / "keys", environment={}), Repository(folder / "repo")
        releases = [write_release(folder / str(n), model, arguments.items, n * changed, rows) for n in (0, 1)]
        publish(releases[0], repository, keys)
        root = (folder / "repo" / "metadata" / "1.root.json").read_bytes()
        with nginx(folder, folder / "repo") as (url, process):
            clients = [SyncClient(url, folder / "stores" / str(n), root) for n in range(arguments.clients)]
            rounds = {}
            for label in ("first release", "no news", "1 % of the items replaced"):
                if label.startswith("1 %"):
                    publish(releases[1], repository, keys)
                rounds[label] = measure(clients, arguments.threads, process)
                print(label, rounds[label], file=sys.stderr)
        trie = (releases[1] / "trie.safetensors").stat().st_size
        shutil.rmtree(folder / "stores")
    print(
        json.dumps(
            {"clients": arguments.clients, "items": arguments.items, "trie_bytes": trie, "rounds": rounds}, indent=1
        )
    )


def measure(clients: list[SyncClient], threads: int, process: int) -> dict[str, Any]:
    """Let every device refresh once."""
    begun, cpu = time.perf_counter(), cpu_seconds(process)
    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(lambda client: client.refresh(), clients))
    return {
        "requests_per_client": float(np.mean([one.requests for one in done])),
        "bytes_per_client": float(np.mean([one.bytes for one in done])),
        "how": sorted({one.how for one in done}),
        "seconds": round(time.perf_counter() - begun, 2),
        "nginx_cpu_seconds": round(cpu_seconds(process) - cpu, 2),
    }


if __name__ == "__main__":
    main()
