"""Random histories of releases, losses and refreshes: who finishes a refresh has exactly the newest allowed release."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import network_faults as faults
from pocketrec.export.publish.publish import releases
from pocketrec.export.publish.repository import Repository
from pocketrec.runtime.errors import SyncError
from repository_server import World, still_recommends

FAULTS = (
    faults.refused,
    faults.cut(0),
    faults.cut(900),
    faults.truncated(3),
    faults.too_long,
    faults.corrupt(5),
    faults.corrupt(1234, 0x10),
    faults.status(503),
    faults.status(404),
    faults.ignores_ranges,
)
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, 4), st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.0])),
    st.tuples(st.just("withdraw"), st.integers(0, 9)),
    st.tuples(st.just("lossy refresh"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("refresh")),
    st.tuples(st.just("rollback")),
)


def expected(world, client):
    """The newest release that the device may have, by the repository's own books; None if there is none."""
    bad, device = set(client.status().bad), client.store.state().device
    targets = Repository(world.repo).load().targets.signed
    allowed = [
        number
        for number, info in releases(targets).get("stable", {}).items()
        if info.allows(device) and targets.targets[f"stable/{number}/manifest.json"].hashes["sha256"] not in bad
    ]
    return max(allowed, default=None)


class Model:
    """What should be true of one device after each step."""

    def __init__(self, world):
        self.world, self.store = world, world.folder / "store"
        self.bundle_of = {}
        self.had = None

    def publish(self, bundle, share):
        release = self.world.publish(bundle, share=share, keep=3)
        self.bundle_of[release] = bundle

    def withdraw(self, choice):
        numbers = sorted(releases(Repository(self.world.repo).load().targets.signed).get("stable", {}))
        if len(numbers) > 1:
            self.world.withdraw(numbers[choice % len(numbers)])

    def refresh(self, lossy=None):
        client, self.world.server.plan = self.world.client(), {}
        if lossy is not None:
            generator = random.Random(lossy)
            self.world.server.plan = {n: generator.choice(FAULTS) for n in range(40) if generator.random() < 0.25}
        try:
            done = client.refresh()
        except SyncError:
            assert lossy is not None
            assert client.status().release == self.had
        else:
            newest = expected(self.world, client)
            assert done.release == (self.had if newest is None else newest)
            self.had = done.release
        self.check()

    def rollback(self):
        client = self.world.client()
        if client.status().previous is not None:
            client.rollback()
            self.had = client.status().release
            self.check()

    def check(self):
        if self.had is not None:
            assert still_recommends(self.store, self.world.bundles[self.bundle_of[self.had]])


@pytest.mark.usefixtures("sync_bundles")
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=4, max_size=12))
def test_a_finished_refresh_holds_the_newest_release_that_is_allowed(sync_bundles, sync_keys, steps):
    folder = Path(tempfile.mkdtemp())
    try:
        model = Model(World(folder, sync_bundles, sync_keys))
        model.publish(0, 1.0)
        for kind, *choices in steps:
            if kind == "publish":
                model.publish(*choices)
            elif kind == "withdraw":
                model.withdraw(*choices)
            elif kind == "rollback":
                model.rollback()
            else:
                model.refresh(*choices)
        model.refresh()
    finally:
        shutil.rmtree(folder)
