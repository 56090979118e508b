"""A sync client used by several threads or processes at once, closed at any moment, and called from its own events."""

from __future__ import annotations

import shutil
import threading
import time

import pytest

import network_faults as faults
from pocketrec import Recommender
from pocketrec.runtime.errors import BundleError, ConfigError, NetworkError, StoreError, SyncError
from pocketrec.runtime.sync import Checking, Failed, Swapped
from repository_server import items_of, still_recommends
from stopped_threads import SECONDS, Gate, thread


def found(live):
    return {item.item_id for item in live.recommend([], k=1000)}


@pytest.fixture
def behind(world):
    """A device that has release 1, and a repository that has release 2."""
    world.publish(0)
    world.client().refresh()
    world.publish(1)
    return world


def stop_at(world, name):
    """Make the server wait in the middle of a file."""
    gate = Gate()

    def fault(url, offset, content):
        if name not in url:
            return faults.no_fault(url, offset, content)

        def chunks():
            yield content[offset : offset + 10]
            gate.wait()
            yield content[offset + 10 :]

        return (206 if offset else 200), offset or None, chunks()

    world.server.always = fault
    return gate


@pytest.fixture
def engines(monkeypatch):
    """How often each engine was closed that was opened from now on, for a recommender or a trial."""
    closed, real = {}, Recommender.load.__func__

    def load(kind, *arguments, **named):
        recommender = real(kind, *arguments, **named)
        engine, close = recommender.engine, recommender.engine.close
        closed[engine] = 0

        def count():
            closed[engine] += 1
            close()

        monkeypatch.setattr(engine, "close", count)
        return recommender

    monkeypatch.setattr(Recommender, "load", classmethod(load))
    return closed


def hold_loading(monkeypatch, folder="versions"):
    """Make the next opening of a version wait once it is open."""
    gate, real = Gate(), Recommender.load.__func__

    def load(kind, path, *arguments, **named):
        recommender = real(kind, path, *arguments, **named)
        if path.parent.name == folder and not path.name.startswith("."):
            monkeypatch.setattr(Recommender, "load", classmethod(real))
            gate.wait()
        return recommender

    monkeypatch.setattr(Recommender, "load", classmethod(load))
    return gate


def test_two_threads_that_ask_for_the_recommender_get_one_and_one_refresh(behind, engines, monkeypatch):
    events, got = [], []
    client = behind.client(mode="local_then_background", on_event=events.append)
    gate = hold_loading(monkeypatch)
    with thread(lambda: got.append(client.recommender(engine="reference"))):
        gate.await_thread()
        with thread(lambda: got.append(client.recommender(engine="reference"))):
            time.sleep(0.1)
            gate.opened.set()
    client.wait(SECONDS)
    client.close()
    assert got[0] is got[1]
    assert [type(event) for event in events].count(Checking) == 1
    assert set(engines.values()) == {1}


def test_closing_while_the_recommender_opens_leaves_nothing_open(behind, engines, monkeypatch):
    client = behind.client(mode="local")
    gate, raised = hold_loading(monkeypatch), []

    def ask():
        with pytest.raises(ConfigError, match="closed") as error:
            client.recommender(engine="reference").recommend([])
        raised.append(error)

    with thread(ask):
        gate.await_thread()
        with thread(client.close):
            time.sleep(0.05)
            gate.opened.set()
    assert raised
    assert set(engines.values()) == {1}


def test_closing_while_a_version_is_swapped_in_leaves_nothing_open(behind, engines, monkeypatch):
    client = behind.client()
    behind.server.always = faults.refused
    live = client.recommender(engine="reference")
    behind.server.always = faults.no_fault
    gate = hold_loading(monkeypatch)
    with thread(client.refresh):
        gate.await_thread()
        with thread(client.close):
            time.sleep(0.05)
            gate.opened.set()
    with pytest.raises(ConfigError, match="closed"):
        live.recommend([])
    assert set(engines.values()) == {1}
    assert still_recommends(behind.folder / "store", behind.bundles[1])


@pytest.mark.parametrize("background", [False, True])
def test_closing_ends_a_download_at_its_next_bytes(behind, background):
    gate, events, raised = stop_at(behind, "trie"), [], []
    client = behind.client(mode="local_then_background", on_event=events.append)

    def refresh():
        with pytest.raises(NetworkError, match="closed"):
            client.refresh()
        raised.append(True)

    def work():
        client.recommender(engine="reference") if background else refresh()

    with thread(work):
        gate.await_thread()
        with thread(client.close):
            time.sleep(0.05)
            gate.opened.set()
    assert len(raised) == 1 - background
    assert not any(isinstance(event, Failed) for event in events)  # closing is no failure
    assert client.status().release == 1
    behind.server.always = faults.no_fault
    assert behind.client().refresh().release == 2  # nobody holds the store


def test_a_pause_between_attempts_ends_with_the_client(behind):
    from pocketrec.runtime.sync import Limits

    behind.server.always = faults.refused
    client = behind.client(limits=Limits(attempts=3, pause=60.0, deadline=300.0))

    def refresh():
        with pytest.raises(NetworkError):
            client.refresh()

    begun = time.monotonic()
    with thread(refresh):
        while not behind.server.requests:
            time.sleep(0.01)
        client.close()
    assert time.monotonic() - begun < SECONDS


def test_a_closed_client_says_so(world):
    world.publish(0)
    client = world.client()
    client.close()
    client.close()
    for call in (client.refresh, client.recommender, client.rollback, client.watch):
        with pytest.raises(ConfigError, match="this sync client was closed"):
            call()
    assert world.server.requests == []


def test_a_recommender_that_was_closed_by_itself_is_opened_again(world):
    world.publish(0)
    with world.client() as client:
        with client.recommender(engine="reference") as live:
            assert live.recommend([], 3)
        again = client.recommender(engine="reference")
        assert again is not live
        assert found(again) == items_of(world.bundles[0])


def test_rolling_back_waits_for_a_refresh_and_then_leaves_what_it_brought(behind):
    gate = stop_at(behind, "trie")
    client = behind.client(mode="local_then_background")
    with thread(client.refresh):
        gate.await_thread()
        with thread(client.rollback):
            time.sleep(0.05)
            gate.opened.set()
    assert client.status().release == 1
    assert len(client.status().bad) == 1
    assert client.refresh().release == 1


def test_an_event_may_ask_for_the_recommender(behind):
    seen = []

    def on_event(event):
        if isinstance(event, Swapped):
            seen.append(client.recommender(engine="reference"))

    client = behind.client(mode="local_then_background", on_event=on_event)
    with thread(client.refresh):
        pass
    client.wait(SECONDS)
    assert found(seen[0]) == items_of(behind.bundles[1])
    client.close()


def test_a_refresh_out_of_a_refresh_is_refused(behind):
    raised = []

    def on_event(event):
        if isinstance(event, Checking):
            with pytest.raises(StoreError, match="another refresh"):
                client.refresh()
            raised.append(True)

    client = behind.client(on_event=on_event)
    with thread(client.refresh):
        pass
    assert raised == [True]
    assert client.status().release == 2


@pytest.mark.parametrize("at", [Checking, Failed])
def test_an_event_may_close_the_client(behind, at):
    done = threading.Event()

    def on_event(event):
        if isinstance(event, at):
            client.close()
            done.set()

    client = behind.client(mode="local_then_background", on_event=on_event)
    if at is Failed:
        behind.server.always = faults.refused
    client.recommender(engine="reference")
    assert done.wait(SECONDS)
    client.wait(SECONDS)
    assert client.status().release == 1


def test_an_event_handler_that_fails_does_not_end_the_watching(behind):
    tries = []

    def on_event(event):
        if isinstance(event, Failed):
            tries.append(event)
            raise RuntimeError("the app's own mistake")

    behind.server.always = faults.refused
    with behind.client(on_event=on_event) as client:
        client.watch(0.01)
        for _ in range(500):
            if len(tries) > 2:
                break
            time.sleep(0.01)
    assert len(tries) > 2


def test_watching_again_changes_the_pause(behind):
    events = []
    with behind.client(on_event=events.append) as client:
        client.watch(0.3, vary=0)
        client.watch(3600.0)
        time.sleep(0.6)
    assert events == []


def test_a_version_that_another_process_swept_is_not_taken_for_damaged(behind, monkeypatch):
    client, other = behind.client(mode="local"), behind.client()
    real = Recommender.load.__func__

    def load(kind, path, *arguments, **named):
        monkeypatch.setattr(Recommender, "load", classmethod(real))
        other.refresh()  # release 2, then 3: the version that was to be opened is gone
        behind.publish(2)
        other.refresh()
        return real(kind, path, *arguments, **named)

    monkeypatch.setattr(Recommender, "load", classmethod(load))
    assert found(client.recommender(engine="reference")) == items_of(behind.bundles[2])
    assert (client.status().release, client.status().previous[:9]) == (3, "stable-2-")


def test_asking_for_an_engine_that_the_bundle_lacks_keeps_the_version(behind):
    def lacks(*arguments):
        raise BundleError("the bundle has no 'encoder' graph")

    client = behind.client(mode="local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pocketrec.runtime.recommender.load_engine", lacks)
        with pytest.raises(BundleError, match="encoder"):
            client.recommender(engine="reference")
    assert client.status().release == 1
    assert found(client.recommender(engine="reference")) == items_of(behind.bundles[0])


def test_going_back_to_a_damaged_version_is_refused(behind):
    client = behind.client()
    live = client.recommender(engine="reference")
    trie = client.store.path(client.status().previous) / "trie.safetensors"
    trie.write_bytes(trie.read_bytes()[:-1] + b"?")
    with pytest.raises(SyncError, match="damaged"):
        client.rollback()
    assert client.status().release == 2
    assert found(live) == items_of(behind.bundles[1])
    assert still_recommends(behind.folder / "store", behind.bundles[1])


def test_a_damaged_version_that_a_withdrawal_leads_back_to_is_fetched_again(behind):
    client = behind.client()
    client.refresh()
    trie = client.store.path(client.status().previous) / "trie.safetensors"
    trie.write_bytes(trie.read_bytes()[:-1] + b"?")
    behind.withdraw(2)
    assert client.refresh().release == 1
    assert still_recommends(behind.folder / "store", behind.bundles[0])


def test_a_version_is_not_its_own_predecessor(behind):
    client = behind.client()
    client.refresh()
    shutil.rmtree(client.store.path(client.status().current))
    now = client.store.current()
    assert (now.release, now.previous) == (1, None)
    with pytest.raises(SyncError, match="no version before"):
        client.rollback()


def test_what_a_killed_refresh_left_of_the_metadata_is_cleared(behind):
    trust = behind.folder / "store" / "trust"
    (trust / "tmpk1lled").write_bytes(b"half a timestamp")
    assert behind.client().refresh().release == 2
    assert not (trust / "tmpk1lled").exists()
    assert {path.name for path in trust.iterdir()} >= {"root.json", "timestamp.json", "snapshot.json", "targets.json"}
