"""The sync client against a server without faults: what it fetches, keeps, chooses and reports."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time

import pytest

from pocketrec import SyncClient
from pocketrec.runtime.errors import BundleError, ConfigError, StoreError, SyncError
from pocketrec.runtime.sync import Checking, Downloading, Failed, Swapped, Verifying
from repository_server import URL, items_of, still_recommends


def found(client):
    return {item.item_id for item in client.recommender(engine="reference").recommend([], k=1000)}


def test_the_first_refresh_fetches_the_bundle_and_the_next_makes_one_request(world):
    world.publish(0)
    client = world.client()
    first = client.refresh()
    assert (first.changed, first.release, first.how) == (True, 1, "files")
    assert first.requests == len(world.server.requests)
    assert found(client) == items_of(world.bundles[0])
    world.server.requests.clear()
    again = client.refresh()
    assert (again.changed, again.release, again.how, again.requests) == (False, 1, "unchanged", 1)
    assert world.server.requests == ["/metadata/timestamp.json"]
    assert again.bytes < 1000


def test_a_new_catalogue_comes_as_a_patch_and_nothing_else_is_fetched_again(world):
    world.publish(0)
    client = world.client()
    client.refresh()
    world.publish(1)
    world.server.requests.clear()
    done = client.refresh()
    assert (done.changed, done.release, done.how) == (True, 2, "patch")
    names = [path.rpartition("/")[2].split(".", 1)[1] for path in world.server.requests if path.startswith("/targets")]
    assert sorted(name.split(".from")[0] for name in names) == ["manifest.json", "trie.safetensors"]
    assert any(".from-" in name for name in names)
    assert found(client) == items_of(world.bundles[1])


def test_a_patch_that_is_not_of_this_device_is_passed_over(world):
    world.publish(0)
    client = world.client()
    client.refresh()
    world.publish(1, keep=1)
    world.publish(2, keep=1)  # its patch is from release 2, which this device never had
    done = client.refresh()
    assert (done.release, done.how) == (3, "files")
    assert found(client) == items_of(world.bundles[2])


def test_a_client_takes_the_newest_release_of_its_own_channel(world):
    world.publish(0)
    world.publish(1, channel="beta")
    assert world.client("a").refresh().release == 1
    assert world.client("b", channel="beta").refresh().release == 2


def test_a_release_for_newer_runtimes_is_passed_over_until_the_app_is_updated(world):
    world.publish(0)
    world.publish(1, minimum_runtime="99")
    assert world.client().refresh().release == 1
    assert world.client(runtime="99.1").refresh().release == 2


def test_a_staged_release_goes_to_its_share_of_devices(world):
    world.publish(0)
    world.publish(1, share=0.5)
    had = [world.client(f"store-{i}").refresh().release for i in range(24)]
    assert {1, 2} == set(had)
    world.publish(1, share=1.0)
    assert [world.client(f"store-{i}").refresh().release for i in range(24)] == [2] * 24


def test_a_withdrawn_release_goes_from_the_devices(world):
    world.publish(0)
    world.publish(1)
    client = world.client()
    assert client.refresh().release == 2
    world.withdraw(2)
    assert client.refresh().release == 1
    assert found(client) == items_of(world.bundles[0])


def test_the_version_before_is_kept_and_older_ones_go(world):
    client = None
    for number in range(3):
        world.publish(number)
        client = client or world.client()
        client.refresh()
    names = sorted(path.name.split("-")[1] for path in (world.folder / "store" / "versions").iterdir())
    assert names == ["2", "3"]
    assert list((world.folder / "store" / "downloads").iterdir()) == []


def test_rolling_back_goes_to_the_version_before_and_stays(world):
    world.publish(0)
    client = world.client()
    client.refresh()
    world.publish(1)
    client.refresh()
    assert client.rollback().startswith("stable-1-")
    assert found(client) == items_of(world.bundles[0])
    assert client.refresh().release == 1
    with pytest.raises(SyncError, match="no version before"):
        client.rollback()
    world.publish(2)
    assert client.refresh().release == 3


def test_a_release_that_does_not_work_here_is_not_tried_again(world, monkeypatch):
    world.publish(0)
    events = []
    client = world.client(on_event=events.append)
    client.refresh()
    bad = shutil.copytree(world.bundles[1], world.folder / "bad")
    manifest = json.loads((bad / "manifest.json").read_text())
    graph = (bad / "recommender.onnx").read_bytes()
    broken = graph.replace(b"TopK", b"TapK")  # a node that no runtime knows
    assert broken != graph
    weights = (bad / "model.safetensors").read_bytes().replace(b'"decoder.bias"', b'"decoder.bios"')
    import hashlib

    for name, content in {
        "recommender.onnx": broken,
        "model.safetensors": weights,
    }.items():  # whichever engine runs here
        (bad / name).write_bytes(content)
        manifest["files"][name]["sha256"] = hashlib.sha256(content).hexdigest()
    (bad / "manifest.json").write_text(json.dumps(manifest))
    world.bundles = [*world.bundles, bad]
    world.publish(-1)
    assert client.refresh().release == 1
    assert any(isinstance(event, Failed) for event in events)
    assert found(client) == items_of(world.bundles[0])
    assert len(client.status().bad) == 1
    world.server.requests.clear()
    assert client.refresh().requests == 1  # nothing is fetched for it again
    world.publish(2)
    assert client.refresh().release == 3


def test_conditions_postpone_a_download(world):
    world.publish(0)
    asked = []

    def not_now(size):
        asked.append(size)
        return len(asked) > 1

    client = world.client(conditions=not_now)
    assert (client.refresh().how, client.status().current) == ("postponed", None)
    assert client.refresh().release == 1
    assert asked[0] > sum(p.stat().st_size for p in world.bundles[0].iterdir()) * 0.8


def test_events_report_the_steps_of_a_refresh(world):
    world.publish(0)
    events = []
    world.client(on_event=events.append).refresh()
    kinds = [type(event) for event in events]
    assert kinds[0] is Checking
    assert kinds[-2:] == [Verifying, Swapped]
    sizes = {e.file: e for e in events if isinstance(e, Downloading)}
    assert sizes["trie.safetensors"].done == sizes["trie.safetensors"].total


@pytest.mark.skipif(sys.platform != "linux", reason="reads from /proc which file a descriptor is of")
def test_a_version_and_its_metadata_are_on_the_disk_before_it_is_current(world, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(world.folder / "store")))
        real(descriptor)

    world.publish(0)
    monkeypatch.setattr(os, "fsync", fsync)
    client = world.client()
    client.refresh()
    swap = next(i for i, path in enumerate(synced) if path.startswith("/.current"))
    partial = f"/versions/.{client.status().current}.partial"
    files = {f"{partial}/{path.name}" for path in world.bundles[0].iterdir()}
    metadata = {f"/trust/{name}.json" for name in ("timestamp", "snapshot", "targets")}
    assert set(synced[:swap]) >= files | metadata | {partial, "/versions", "/trust"}


def test_local_mode_never_makes_a_request(world):
    world.publish(0)
    world.client().refresh()
    client = world.client(mode="local")
    assert found(client) == items_of(world.bundles[0])
    assert client.refresh().requests == 0
    assert world.server.requests == []


def test_local_mode_needs_something_in_the_store(world):
    world.publish(0)
    with pytest.raises(SyncError, match="no release yet"):
        world.client(mode="local").recommender()


def test_latest_mode_refreshes_first_and_works_without_a_network(world):
    world.publish(0)
    assert found(world.client(mode="latest")) == items_of(world.bundles[0])
    world.publish(1)
    assert found(world.client(mode="latest")) == items_of(world.bundles[1])
    client = world.client(mode="latest")
    world.server.folder = world.folder / "nowhere"
    assert found(client) == items_of(world.bundles[1])
    assert "not on the server" in client.status().error


def test_background_mode_recommends_at_once_and_follows(world):
    world.publish(0)
    world.client().refresh()
    world.publish(1)
    client = world.client(mode="local_then_background")
    live = client.recommender(engine="reference")
    client.wait(30)
    assert live.version.startswith("stable-2-")
    assert found(client) == items_of(world.bundles[1])


def test_watching_follows_by_itself_and_ends_with_the_client(world):
    world.publish(0)
    client = world.client()
    client.recommender(engine="reference")
    world.publish(1)
    client.watch(0.05)
    for _ in range(200):
        if client.status().release == 2:
            break
        time.sleep(0.05)
    client.close()
    assert client.status().release == 2


def test_a_damaged_version_is_dropped_and_fetched_again(world):
    world.publish(0)
    client = world.client()
    client.refresh()
    world.publish(1)
    client.refresh()
    trie = world.folder / "store" / "versions" / client.status().current / "trie.safetensors"
    trie.write_bytes(trie.read_bytes()[:-1] + b"?")
    again = world.client(mode="local")
    assert found(again) == items_of(world.bundles[0])
    assert world.client().refresh().release == 2
    assert still_recommends(world.folder / "store", world.bundles[1])


def test_a_damaged_only_version_is_an_error_that_the_next_refresh_mends(world):
    world.publish(0)
    client = world.client()
    client.refresh()
    (world.folder / "store" / "versions" / client.status().current / "manifest.json").write_text("{}")
    with pytest.raises(BundleError):
        world.client(mode="local").recommender()
    assert world.client().refresh().changed
    assert still_recommends(world.folder / "store", world.bundles[0])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"current": "../../etc"}', '{"current": 5}', "null"])
def test_a_damaged_note_of_what_is_current_loses_nothing(world, content):
    world.publish(0)
    world.client().refresh()
    (world.folder / "store" / "current").write_text(content)
    assert still_recommends(world.folder / "store", world.bundles[0])
    world.publish(1)
    assert world.client().refresh().release == 2
    assert still_recommends(world.folder / "store", world.bundles[1])


@pytest.mark.parametrize("content", ["", "[1]", '{"bad": 3, "device": 4}'])
def test_a_damaged_state_file_counts_as_none(world, content):
    world.publish(0)
    world.client().refresh()
    (world.folder / "store" / "state.json").write_text(content)
    assert world.client().refresh().release == 1


def test_two_writers_take_turns(world):
    world.publish(0)
    client, other = world.client(), world.client()
    with other.store.writing(), pytest.raises(StoreError, match="another refresh"):
        client.refresh()
    assert client.refresh().release == 1


def test_a_full_disk_is_said_before_anything_is_fetched(world, monkeypatch):
    world.publish(0)
    client = world.client()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(StoreError, match="free some space"):
        client.refresh()
    assert not any("trie" in path for path in world.server.requests)
    monkeypatch.undo()
    assert client.refresh().release == 1


def test_only_https_unless_it_is_this_machine():
    with pytest.raises(ConfigError, match="not an https address"):
        SyncClient("http://example.com/repo", "store", b"")
    SyncClient("http://127.0.0.1:1/repo", "store", b"")
    SyncClient("http://example.com/repo", "store", b"", allow_http=True)


def test_odd_options_are_refused(world):
    world.publish(0)
    with pytest.raises(ConfigError, match="no mode"):
        world.client(mode="sometimes")
    with pytest.raises(SyncError, match="not the name of a channel"):
        world.client(channel="No")
    with pytest.raises(ConfigError, match="seconds"):
        world.client().watch(0)


def test_a_channel_without_releases_leaves_what_is_there(world):
    world.publish(0)
    client = world.client(channel="beta")
    assert client.refresh().release is None
    with pytest.raises(SyncError, match="no release yet"):
        client.recommender()
    assert URL.startswith("https")
