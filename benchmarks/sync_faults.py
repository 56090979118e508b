r"""Random schedules of faults against the sync client: nothing may be lost, broken, or used without a signature.

    python benchmarks/sync_faults.py --schedules 1000 > sync_faults.json

A schedule is a device, a repository, and a dozen refreshes between publishes and withdrawals. Each refresh has random
faults: connections that are refused or cut, responses that are short, too long, endless, corrupt, an HTTP error or the
wrong range, replayed old metadata, a kill or a full disk at some file call. After each refresh, the device must
recommend exactly the items of a release that it may have, every file of its current version must have the signed hash,
and a refresh that failed must have changed nothing. At the end, a refresh without faults must install the newest
release. A schedule that breaks any of this is listed under `faults`. The server is the tests' own, in memory. JSON goes
to stdout.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "runtime" / "sync")]

import pytest  # noqa: E402

import network_faults  # noqa: E402
from file_faults import Killed, fail_at  # noqa: E402
from pocketrec.export.publish.publish import releases  # noqa: E402
from pocketrec.export.publish.repository import Repository  # noqa: E402
from pocketrec.runtime.bundle.bundle import MANIFEST_FILE, describe_file  # noqa: E402
from pocketrec.runtime.errors import SyncError  # noqa: E402
from pocketrec.runtime.sync.store import Store  # noqa: E402
from repository_server import World, make_bundles, still_recommends, unencrypted_keys  # noqa: E402

REFRESHES = 12


def network_fault(generator: random.Random) -> network_faults.Fault:
    """A fault of the network or the server."""
    makers = (
        lambda: network_faults.refused,
        lambda: network_faults.cut(generator.randrange(20_000)),
        lambda: network_faults.truncated(generator.randrange(1, 50)),
        lambda: network_faults.too_long,
        lambda: network_faults.endless,
        lambda: network_faults.corrupt(generator.randrange(1 << 20), generator.randrange(1, 256)),
        lambda: network_faults.status(generator.choice((204, 301, 403, 404, 416, 500, 503))),
        lambda: network_faults.ignores_ranges,
        lambda: network_faults.wrong_range,
    )
    return generator.choice(makers)()


class Schedule:
    """One device and one repository under one seed."""

    def __init__(self, folder: Path, bundles: list[Path], keys: list[Any], seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(folder, bundles, keys)
        self.bundle_of: dict[int, int] = {}
        self.had: int | None = None
        self.ends: Counter[str] = Counter()

    def publish(self) -> None:
        """Publish one of the bundles."""
        number = self.random.randrange(len(self.world.bundles))
        self.bundle_of[self.world.publish(number, keep=3)] = number

    def withdraw(self) -> None:
        """Take back any release but the last that is left."""
        numbers = sorted(releases(Repository(self.world.repo).load().targets.signed)["stable"])
        if len(numbers) > 1:
            self.world.withdraw(self.random.choice(numbers))

    def run(self) -> None:
        """Go through the schedule.

        :raises AssertionError: if a promise is broken.
        """
        self.publish()
        old = self.world.frozen()
        for _ in range(REFRESHES):
            if self.random.random() < 0.4:
                self.publish()
            elif self.random.random() < 0.15:
                self.withdraw()
            self.refresh(old)
            self.check()
        self.world.server.plan, self.world.server.folder = {}, self.world.repo
        client = self.world.client()
        client.refresh()
        newest = max(releases(Repository(self.world.repo).load().targets.signed)["stable"])
        assert client.status().release == newest, f"has {client.status().release}, not {newest}"
        self.had = newest
        self.check()

    def refresh(self, old: Path) -> None:
        """Refresh under faults.

        :param old: the repository as it was at first, for a server that replays old metadata.
        """
        client, server = self.world.client(), self.world.server
        share = self.random.choice((0.0, 0.1, 0.3))
        server.plan = {n: network_fault(self.random) for n in range(60) if self.random.random() < share}
        server.folder = old if self.random.random() < 0.1 else self.world.repo
        error = self.random.choice((None, None, Killed, OSError(28, "No space left on device")))
        with pytest.MonkeyPatch.context() as patch:
            if error is not None:
                fail_at(patch, self.random.randrange(1, 160), error)
            try:
                client.refresh()
                ended = "finished"
            except SyncError as failed:
                ended = type(failed).__name__
            except Killed:
                ended = "killed"
        self.ends[ended] += 1
        release = client.status().release
        # The one thing that can still fail after the swap is a file call; every other failure changed nothing.
        assert release == self.had or error is not None or ended == "finished", f"{ended}, but {release} is current"
        self.had = release

    def check(self) -> None:
        """Make sure of the promises that hold at any time."""
        if self.had is None:
            return
        store = self.world.folder / "store"
        bundle = self.world.bundles[self.bundle_of[self.had]]
        assert still_recommends(store, bundle), f"release {self.had} does not recommend its items"
        name = Store(store).current().current
        assert name is not None
        for path in (store / "versions" / name).iterdir():
            signed = describe_file(bundle / path.name)
            assert describe_file(path) == signed, f"{path.name} is not what was signed"
        assert name.endswith(describe_file(bundle / MANIFEST_FILE).sha256[:16])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule; the others follow")
    arguments = parser.parse_args()
    begun, ends, faults = time.perf_counter(), Counter[str](), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = make_bundles(folder)
        keys = unencrypted_keys(folder / "keys")
        for seed in range(arguments.seed, arguments.seed + arguments.schedules):
            (folder / "world").mkdir()
            schedule = Schedule(folder / "world", bundles, keys, seed)
            try:
                schedule.run()
            except Exception as error:
                faults.append({"seed": seed, "error": f"{type(error).__name__}: {error}"[:300]})
            ends += schedule.ends
            shutil.rmtree(folder / "world")
            if (seed - arguments.seed + 1) % 50 == 0:
                print(f"{seed - arguments.seed + 1} schedules, {len(faults)} faults", file=sys.stderr)
    result = {
        "schedules": arguments.schedules,
        "first_seed": arguments.seed,
        "refreshes": dict(ends),
        "faults": faults,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
