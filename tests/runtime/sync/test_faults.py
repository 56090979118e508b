"""Whatever fails, and whenever: the last good version still recommends, and a later clean refresh succeeds."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

import network_faults as faults
from file_faults import Killed, fail_at
from pocketrec import SyncClient
from pocketrec.export.publish.keys import create_keys, load_key
from pocketrec.export.publish.repository import ONLINE, Repository
from pocketrec.export.publish.roles import renew, rotate_keys
from pocketrec.runtime.errors import NetworkError, StoreError, SyncError, TrustError
from pocketrec.runtime.sync import Failed
from repository_server import QUICK, URL, World, items_of, still_recommends, unencrypted_keys

FAULTS = {
    "refused": faults.refused,
    "cut at once": faults.cut(0),
    "cut later": faults.cut(700),
    "ends early": faults.truncated(1),
    "too long": faults.too_long,
    "endless": faults.endless,
    "first byte wrong": faults.corrupt(0),
    "middle byte wrong": faults.corrupt(333, 0x01),
    "server error": faults.status(500),
    "gone": faults.status(404),
    "empty": lambda url, offset, content: (200, None, iter([])),
    "no content": faults.status(204),
}


@pytest.fixture
def behind(world):
    """A device that has release 1, and a repository that has release 2."""
    world.publish(0)
    world.client().refresh()
    world.publish(1)
    return world


def requests_of(world):
    """What a refresh requests, in order, on a copy of the store."""
    shutil.copytree(world.folder / "store", world.folder / "count")
    world.client("count").refresh()
    return list(world.server.requests)


def settles(world):
    """A later refresh without faults brings release 2."""
    world.server.plan, world.server.always = {}, faults.no_fault
    assert world.client().refresh().release == 2
    assert still_recommends(world.folder / "store", world.bundles[1])


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_any_fault_at_any_request_leaves_a_version_that_works(behind, fault):
    for number in range(len(requests_of(behind))):
        store = f"store-{number}"
        shutil.copytree(behind.folder / "store", behind.folder / store)
        client = behind.client(store)
        # as often as the client tries, so that trying again does not help
        behind.server.plan = {n: fault for n in range(number, number + 1)}
        behind.server.always = faults.no_fault
        try:
            done = client.refresh().release
        except SyncError:
            done = 1
        assert done == client.status().release
        assert still_recommends(behind.folder / store, behind.bundles[done - 1])
        behind.server.plan = {}
        assert behind.client(store).refresh().release == 2
    settles(behind)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_any_fault_that_stays_is_one_error_and_changes_nothing(behind, fault):
    behind.server.always = fault
    before = (behind.folder / "store" / "current").read_bytes()
    with pytest.raises((NetworkError, TrustError)):
        behind.client().refresh()
    assert len(behind.server.requests) <= 4
    assert (behind.folder / "store" / "current").read_bytes() == before
    assert still_recommends(behind.folder / "store", behind.bundles[0])
    settles(behind)


def test_a_download_resumes_wherever_it_was_cut(world):
    world.publish(0)
    for after in (700, 5000, 20_000):
        client = world.client(f"store-{after}")
        world.server.always = lambda url, offset, content, after=after: (
            faults.cut(after)(url, offset, content) if "/targets/" in url else faults.no_fault(url, offset, content)
        )
        for _ in range(200):
            try:
                if client.refresh().changed:
                    break
            except NetworkError:
                continue
        else:
            pytest.fail(f"200 refreshes with a cut every {after} bytes did not suffice")
        world.server.always = faults.no_fault
        assert still_recommends(world.folder / f"store-{after}", world.bundles[0])


def test_what_was_fetched_before_a_cut_is_not_fetched_again(world):
    world.publish(0)
    size = (world.bundles[0] / "model.safetensors").stat().st_size
    world.server.always = lambda url, offset, content: (
        faults.cut(size - 10)(url, offset, content)
        if "model.safetensors" in url and not offset
        else faults.no_fault(url, offset, content)
    )
    done = world.client().refresh()
    total = sum(p.stat().st_size for p in world.bundles[0].iterdir())
    assert done.changed
    assert done.bytes < total + 8000  # and the metadata


@pytest.mark.parametrize("fault", [faults.ignores_ranges, faults.wrong_range])
def test_a_server_that_cannot_resume_sends_the_whole_file(world, fault):
    world.publish(0)
    world.server.always = lambda url, offset, content: (
        (fault(url, offset, content) if offset else faults.cut(3000)(url, offset, content))
        if "/targets/" in url
        else faults.no_fault(url, offset, content)
    )
    if fault is faults.wrong_range:
        with pytest.raises(NetworkError):
            world.client().refresh()
        world.server.always = faults.no_fault
    assert world.client().refresh().release == 1
    assert still_recommends(world.folder / "store", world.bundles[0])


def test_bytes_of_another_file_in_a_part_are_thrown_away(world):
    world.publish(0)
    client = world.client()
    with client.store.writing():
        for path in (world.repo / "targets" / "stable" / "1").iterdir():
            sha256 = path.name.split(".")[0]
            (client.store.downloads / f"{sha256}.part").write_bytes(b"not the beginning of it")
    assert client.refresh().release == 1
    assert still_recommends(world.folder / "store", world.bundles[0])


def test_a_damaged_patch_falls_back_to_the_whole_file(behind):
    behind.server.always = lambda url, offset, content: (
        faults.corrupt(50)(url, offset, content) if ".from-" in url else faults.no_fault(url, offset, content)
    )
    done = behind.client().refresh()
    assert (done.release, done.how) == (2, "files")
    assert still_recommends(behind.folder / "store", behind.bundles[1])


def test_a_patch_of_a_damaged_base_falls_back_to_the_whole_file(behind):
    client = behind.client()
    trie = client.store.path(client.status().current) / "trie.safetensors"
    trie.write_bytes(trie.read_bytes()[::-1])
    assert client.refresh().how == "files"
    assert still_recommends(behind.folder / "store", behind.bundles[1])


# --- a server that lies -------------------------------------------------------------------------------------------


def test_old_metadata_is_not_taken_back(behind):
    old = behind.frozen()
    behind.publish(2)
    client = behind.client()
    assert client.refresh().release == 3
    behind.server.folder = old
    with pytest.raises(TrustError):
        client.refresh()
    assert still_recommends(behind.folder / "store", behind.bundles[2])


@pytest.mark.parametrize("mixed", ["timestamp.json", "3.snapshot.json", "3.targets.json"])
def test_versions_that_do_not_belong_together_are_refused(behind, mixed):
    old, client = behind.frozen(), behind.client()
    behind.publish(2)
    source = {"timestamp.json": "timestamp.json"}.get(mixed, mixed)
    wrong = behind.repo / "metadata" / mixed.replace("3.", "4.")
    shutil.copyfile(old / "metadata" / source, wrong)
    try:
        done = client.refresh().release
    except SyncError:
        done = 1
    assert done < 3
    assert still_recommends(behind.folder / "store", behind.bundles[done - 1])


@pytest.mark.parametrize("name", ["timestamp.json", "3.snapshot.json", "3.targets.json"])
def test_metadata_signed_with_other_keys_is_refused(behind, name, tmp_path):
    from tuf.api.metadata import Metadata

    create_keys(tmp_path / "thief", ["timestamp"])
    thief = load_key(next((tmp_path / "thief").iterdir()), "timestamp")
    path = behind.repo / "metadata" / name
    metadata = Metadata.from_bytes(path.read_bytes())
    metadata.signed.version += 0 if name != "timestamp.json" else 1
    metadata.sign(thief.signer)
    path.write_bytes(metadata.to_bytes())
    with pytest.raises(TrustError):
        behind.client().refresh()
    assert still_recommends(behind.folder / "store", behind.bundles[0])


def test_a_file_that_is_not_the_signed_one_is_refused_wherever_it_differs(behind):
    targets = {p: p.read_bytes() for p in (behind.repo / "targets" / "stable" / "2").iterdir()}
    generator = random.Random(0)
    for path, content in targets.items():
        for at in {0, len(content) - 1, *(generator.randrange(len(content)) for _ in range(3))}:
            path.unlink()  # it may be the same file under another name
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :])
            try:
                done = behind.client().refresh()
                assert ".from-" in path.name or "trie" in path.name or done.release == 2
            except TrustError:
                pass
            assert behind.client(mode="local").recommender(engine="reference").recommend([], 3)
        path.write_bytes(content)
    settles(behind)


def shift_clock(monkeypatch, days):
    """Set the clock that python-tuf and the client look at forward, or back."""
    import tuf.ngclient._internal.trusted_metadata_set as trusted

    class Shifted(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=days)

    monkeypatch.setattr(trusted, "datetime", SimpleNamespace(datetime=Shifted, timezone=timezone))
    from pocketrec.runtime.sync.trust import Trust

    monkeypatch.setattr(Trust, "expires", lambda self, real=Trust.expires: real(self) - timedelta(days=days))


def test_expired_metadata_is_refused_until_it_is_renewed(behind, monkeypatch):
    shift_clock(monkeypatch, 3)  # the timestamp lasts two days
    with pytest.raises(TrustError, match="expired"):
        behind.client().refresh()
    assert still_recommends(behind.folder / "store", behind.bundles[0])
    monkeypatch.undo()
    settles(behind)


def test_an_unchanged_timestamp_that_has_expired_is_refused(world, monkeypatch):
    world.publish(0)
    client = world.client()
    client.refresh()
    shift_clock(monkeypatch, 3)
    with pytest.raises(TrustError, match="expired"):
        client.refresh()
    assert still_recommends(world.folder / "store", world.bundles[0])


def test_a_clock_set_back_does_no_harm(behind, monkeypatch):
    shift_clock(monkeypatch, -4000)
    assert behind.client().refresh().release == 2


def test_a_device_that_slept_through_changes_of_keys_follows(behind, tmp_path):
    keys = behind.keys
    for step, role in enumerate(("root", "timestamp", "targets", "snapshot", "root")):
        new = load_key(create_keys(tmp_path / f"keys-{step}", [role])[0], role)
        gone = next(key for key in keys if key.role == role)
        rotate_keys(Repository(behind.repo), keys, new, gone.id[:16])
        keys = [*(key for key in keys if key.role != role), new]
    behind.keys = keys
    behind.publish(2)
    assert behind.client().refresh().release == 3
    assert still_recommends(behind.folder / "store", behind.bundles[2])


def test_a_root_that_is_not_ours_is_refused(behind, tmp_path):
    stranger = World(tmp_path / "stranger", behind.bundles, unencrypted_keys(tmp_path / "strange-keys"))
    stranger.publish(3)
    client = SyncClient(URL, tmp_path / "fresh", stranger.root, transport=behind.server, limits=QUICK)
    with pytest.raises(TrustError):
        client.refresh()
    with pytest.raises(TrustError):
        SyncClient(URL, tmp_path / "fresh2", b"no root", transport=behind.server, limits=QUICK).refresh()


def test_signed_files_that_the_manifest_does_not_list_as_such_are_refused(behind):
    """Somebody with the keys, but without care: the manifest of one bundle beside the trie of another."""
    repository = Repository(behind.repo)
    state = repository.load()
    targets = state.targets.signed.targets
    old, new = targets["stable/1/trie.safetensors"], targets["stable/2/trie.safetensors"]
    new.hashes, new.length = dict(old.hashes), old.length
    shutil.copyfile(repository.place(old), repository.place(new))
    repository.commit(state, behind.keys, ONLINE)
    client = behind.client()
    assert client.refresh().release == 1
    assert len(client.status().bad) == 1


def test_a_release_whose_data_this_pocketrec_cannot_read_is_passed_over(behind):
    """A later pocketrec may sign data of another schema; the older releases of the channel still serve."""
    repository = Repository(behind.repo)
    state = repository.load()
    state.targets.signed.targets["stable/2/manifest.json"].custom["pocketrec"]["schema"] = 2
    repository.commit(state, behind.keys, ONLINE)
    events = []
    client = behind.client(on_event=events.append)
    assert client.refresh().release == 1
    assert [str(event.error) for event in events if isinstance(event, Failed)] == [
        "stable/2/manifest.json has release data of schema 2, and this pocketrec reads 1; update pocketrec"
    ]
    events.clear()
    assert client.refresh().requests == 1  # and it is said once
    assert behind.client("fresh").refresh().release == 1


# --- a device that fails -----------------------------------------------------------------------------------------


def run_through(world, error, allowed):
    """Refresh with a failure at the first call, the second … until none is left."""
    number, finished = 0, False
    while not finished:
        number += 1
        store = world.folder / f"store-{number}"
        shutil.copytree(world.folder / "store", store)
        client = world.client(store.name)
        with pytest.MonkeyPatch.context() as patch:
            count = fail_at(patch, number, error)
            try:
                client.refresh()
                finished = count[0] < number
            except allowed:
                pass
        release = client.status().release
        assert still_recommends(store, world.bundles[release - 1])
        assert world.client(store.name).refresh().release == 2
        assert still_recommends(store, world.bundles[1])
        half_made = [p.name for p in store.rglob("*") if p.name.startswith((".", "tmp"))]
        assert half_made == []
        shutil.rmtree(store)
    assert number > 30


def test_a_kill_at_any_file_call_leaves_a_version_that_works(behind):
    run_through(behind, Killed, Killed)


def test_a_full_disk_at_any_file_call_leaves_a_version_that_works(behind):
    run_through(behind, OSError(28, "No space left on device"), SyncError)


def test_a_store_that_cannot_be_written_still_serves(behind, monkeypatch):
    def refuse(*arguments, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match="cannot be written"):
        behind.client().refresh()
    assert items_of(behind.bundles[0])
    monkeypatch.undo()
    settles(behind)


SLOW_REFRESH = """
import sys, time
sys.path[:0] = [{tests!r}, {here!r}]
from pathlib import Path
from repository_server import RepositoryServer, URL
from pocketrec import SyncClient

def slowly(url, offset, content):
    def chunks():
        for at in range(offset, len(content), 512):
            time.sleep(0.002)
            yield content[at : at + 512]
    return (206 if offset else 200), offset or None, chunks()

server = RepositoryServer(Path({repo!r}), always=slowly)
root = Path({repo!r}, "metadata", "1.root.json").read_bytes()
print("ready", flush=True)
print(SyncClient(URL, {store!r}, root, transport=server).refresh().release, flush=True)
"""


def start_slow_refresh(world):
    """Start a refresh in another process and return it once a version is half made."""
    here = Path(__file__).parent
    script = SLOW_REFRESH.format(
        tests=str(here.parents[1]), here=str(here), repo=str(world.repo), store=str(world.folder / "store")
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    for _ in range(3000):
        if any((world.folder / "store" / "versions").glob(".*")):
            return process
        time.sleep(0.01)
    process.kill()
    pytest.fail("no version was half made within 30 s")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_a_process_killed_in_the_middle_leaves_a_version_that_works(behind):
    process = start_slow_refresh(behind)
    process.kill()
    process.wait()
    assert still_recommends(behind.folder / "store", behind.bundles[0])
    settles(behind)  # the lock went with the process


def test_two_processes_do_not_disturb_each_other(behind):
    process = start_slow_refresh(behind)
    with pytest.raises(StoreError, match="another refresh"):
        behind.client().refresh()
    assert still_recommends(behind.folder / "store", behind.bundles[0])
    assert process.communicate()[0] == "2\n"
    assert still_recommends(behind.folder / "store", behind.bundles[1])


def test_what_is_trusted_survives_damage_to_the_kept_metadata(behind):
    trust = behind.folder / "store" / "trust"
    for name in ("timestamp.json", "snapshot.json", "targets.json"):
        (trust / name).write_bytes(b"{")
    settles(behind)


def test_renewed_metadata_without_a_release_costs_no_download(world):
    world.publish(0)
    client = world.client()
    client.refresh()
    renew(Repository(world.repo), world.keys)
    world.server.requests.clear()
    done = client.refresh()
    assert not done.changed
    assert not any(path.startswith("/targets") for path in world.server.requests)
    assert json.loads((client.store.folder / "current").read_bytes())["current"].startswith("stable-1-")
