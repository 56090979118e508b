"""The live recommender when swaps, closes and calls overlap, in a fixed order and at random.

Each fixed order stops one thread inside a step (an `Event` holds it there), lets another go by, and then releases it.
"""

from __future__ import annotations

import random
import threading
import time

import pytest

from pocketrec import Recommender
from pocketrec.runtime.errors import BundleError, ConfigError
from pocketrec.runtime.sync import LiveRecommender
from repository_server import items_of
from stopped_threads import SECONDS, Gate, thread


class Versions:
    """Opens versions named "0" to "4" of the test bundles, and counts how often each engine was closed."""

    def __init__(self, bundles):
        self.bundles, self.gates, self.closed = bundles, {}, {}

    def gate(self, name):
        """Make the next opening of a version wait."""
        return self.gates.setdefault(name, Gate())

    def open(self, path):
        name = str(self.bundles.index(path)) if path in self.bundles else ""
        if gate := self.gates.pop(name, None):
            gate.wait()
        recommender = Recommender.load(path, "reference")
        engine, close = recommender.engine, recommender.engine.close
        self.closed[engine] = 0

        def count():
            self.closed[engine] += 1
            close()

        engine.close = count
        return recommender

    def live(self, name="0"):
        return LiveRecommender(name, self.open(self.bundles[int(name)]), self.open)

    def swap(self, live, name):
        live.swap(name, self.bundles[int(name)])

    def times_closed(self):
        """For every version in the order of opening: how often its engine was closed."""
        return list(self.closed.values())


@pytest.fixture
def versions(sync_bundles):
    return Versions(sync_bundles)


def hold(monkeypatch, owner, method):
    """Make the next call of a method wait once it is done, before it returns."""
    gate, real = Gate(), getattr(owner, method)

    def held(*arguments, **named):
        monkeypatch.setattr(owner, method, real)
        result = real(*arguments, **named)
        gate.wait()
        return result

    monkeypatch.setattr(owner, method, held)
    return gate


def ids(found):
    return {item.item_id for item in found}


def in_both(versions):
    return sorted(items_of(versions.bundles[0]) & items_of(versions.bundles[1]))


def test_a_catalogue_that_is_named_while_a_swap_ends_is_in_the_new_version(versions, monkeypatch):
    live, some = versions.live(), in_both(versions)[:3]
    with live.using() as old:
        gate = hold(monkeypatch, old, "add_catalogue")  # built for version 0, and not noted yet
    with thread(live.add_catalogue, "some", some):
        gate.await_thread()
        versions.swap(live, "1")
        gate.opened.set()
    assert ids(live.recommend([], 10, within="some")) == set(some)
    versions.swap(live, "2")
    assert ids(live.recommend([], 10, within="some")) == set(some) & items_of(versions.bundles[2])


def test_a_catalogue_that_is_named_while_a_version_opens_is_in_it(versions):
    live, some = versions.live(), in_both(versions)[:3]
    gate = versions.gate("1")
    with thread(versions.swap, live, "1"):
        gate.await_thread()
        live.add_catalogue("some", some)
        assert ids(live.recommend([], 10, within="some")) == set(some)  # before the swap
        gate.opened.set()
    assert live.version == "1"
    assert ids(live.recommend([], 10, within="some")) == set(some)


def test_catalogues_that_two_threads_name_are_both_kept(versions, monkeypatch):
    live, both = versions.live(), in_both(versions)
    with live.using() as old:
        gate = hold(monkeypatch, old, "add_catalogue")
    with thread(live.add_catalogue, "first", both[:3]):
        gate.await_thread()
        with thread(live.add_catalogue, "second", both[3:6]):
            time.sleep(0.05)
            gate.opened.set()
    versions.swap(live, "1")
    assert ids(live.recommend([], 10, within="first")) == set(both[:3])
    assert ids(live.recommend([], 10, within="second")) == set(both[3:6])


def test_closing_while_a_version_opens_leaves_nothing_open(versions):
    live, gate = versions.live(), versions.gate("1")
    with thread(versions.swap, live, "1"):
        gate.await_thread()
        live.close()
        gate.opened.set()
    assert versions.times_closed() == [1, 1]
    with pytest.raises(ConfigError, match="closed"):
        live.recommend([])


def test_nothing_is_opened_after_closing(versions):
    live = versions.live()
    live.close()
    versions.swap(live, "1")
    assert versions.times_closed() == [1]


def test_the_swap_that_was_called_last_wins(versions):
    live, gate = versions.live(), versions.gate("1")
    with thread(versions.swap, live, "1"):
        gate.await_thread()
        with thread(versions.swap, live, "2"):
            time.sleep(0.1)
            gate.opened.set()
    assert live.version == "2"
    assert ids(live.recommend([], 1000)) == items_of(versions.bundles[2])
    live.close()
    assert versions.times_closed() == [1, 1, 1]


def test_two_swaps_to_one_version_open_it_once(versions):
    live, gate = versions.live(), versions.gate("1")
    with thread(versions.swap, live, "1"):
        gate.await_thread()
        with thread(versions.swap, live, "1"):
            time.sleep(0.1)
            gate.opened.set()
    assert versions.times_closed() == [1, 0]


def test_calls_go_on_while_a_version_opens(versions):
    live, gate = versions.live(), versions.gate("1")
    session = live.session(in_both(versions)[:2])
    with thread(versions.swap, live, "1"):
        gate.await_thread()
        assert ids(live.recommend([], 1000)) == items_of(versions.bundles[0])
        assert session.recommend(3)
        assert live.explain(in_both(versions)[:2], in_both(versions)[2]).history
        live.control(deny=in_both(versions)[:1])
        gate.opened.set()
    assert ids(live.recommend([], 1000)) == items_of(versions.bundles[1])


def test_a_version_that_does_not_open_leaves_the_one_before(versions):
    live, some = versions.live(), in_both(versions)[:3]
    with pytest.raises(BundleError):
        live.swap("9", versions.bundles[1].parent / "none")
    live.add_catalogue("some", some)
    assert (live.version, ids(live.recommend([], 10, within="some"))) == ("0", set(some))


def test_a_version_whose_catalogues_cannot_be_made_is_closed_again(versions, monkeypatch):
    live = versions.live()
    live.add_catalogue("some", in_both(versions)[:3])
    monkeypatch.setattr(Recommender, "add_catalogue", lambda *arguments: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        versions.swap(live, "1")
    assert (live.version, versions.times_closed()) == ("0", [0, 1])


def test_a_session_in_the_middle_of_a_call_goes_on_after_the_swap(versions, monkeypatch):
    live, both = versions.live(), in_both(versions)
    session = live.session(both[:3])
    with live.using() as old:
        gate = hold(monkeypatch, old.engine, "read")
    with thread(session.recommend, 5):
        gate.await_thread()
        versions.swap(live, "1")
        assert versions.times_closed() == [0, 0]  # the call still uses it
        with thread(session.observe, both[3]):  # waits for the call
            time.sleep(0.05)
            gate.opened.set()
    assert versions.times_closed() == [1, 0]
    assert session.history == tuple(both[:4])
    assert ids(session.recommend(5)) == ids(live.recommend(both[:4], 5))


def test_a_session_that_is_made_during_a_swap_follows_it(versions, monkeypatch):
    live, both, made = versions.live(), in_both(versions), []
    with live.using() as old:
        gate = hold(monkeypatch, old, "session")
    with thread(lambda: made.append(live.session(both[:3]))):
        gate.await_thread()
        versions.swap(live, "1")
        gate.opened.set()
    assert versions.times_closed() == [1, 0]
    assert ids(made[0].recommend(5)) == ids(live.recommend(both[:3], 5))


@pytest.mark.parametrize("end", ["swap", "close"])
def test_a_call_keeps_its_version_open(versions, monkeypatch, end):
    live = versions.live()
    with live.using() as old:
        gate = hold(monkeypatch, old.engine, "search")
    with thread(live.recommend, [], 5):
        gate.await_thread()
        versions.swap(live, "1") if end == "swap" else live.close()
        assert versions.times_closed()[0] == 0
        gate.opened.set()
    assert versions.times_closed()[0] == 1


def test_a_control_that_is_made_during_a_swap_holds_for_the_new_version(versions, monkeypatch):
    live, both, made = versions.live(), in_both(versions), []
    with live.using() as old:
        gate = hold(monkeypatch, old, "control")
    with thread(lambda: made.append(live.control(deny=both[:5]))):
        gate.await_thread()
        versions.swap(live, "1")
        gate.opened.set()
    assert ids(live.recommend([], 1000, control=made[0])) == items_of(versions.bundles[1]) - set(both[:5])


def test_going_back_to_an_older_version_is_a_swap_like_any_other(versions):
    live, both = versions.live(), in_both(versions)
    session = live.session(both[:2])
    versions.swap(live, "1")
    assert session.recommend(3)
    live.add_catalogue("some", both[:3])
    versions.swap(live, "0")
    assert ids(live.recommend([], 10, within="some")) == set(both[:3])
    assert ids(session.recommend(5)) == ids(live.recommend(both[:2], 5))
    live.close()
    assert versions.times_closed() == [1, 1, 1]


class RandomCalls:
    """Steps that threads repeat on one live recommender until they are told to stop; each checks what it gets."""

    def __init__(self, versions):
        self.versions, self.live = versions, versions.live()
        self.catalogues = [items_of(bundle) for bundle in versions.bundles]
        self.in_all = sorted(set.intersection(*self.catalogues[:4]))
        self.shared = self.live.session(self.in_all[:2])
        self.own = threading.local()  # the catalogues that a thread has named: name -> items
        self.stop, self.errors = threading.Event(), []

    def recommend(self, generator):
        assert ids(self.live.recommend([], 1000)) in self.catalogues, "a list has items of two versions"

    def name(self, generator):
        named, name = self.own.__dict__, f"{threading.get_ident()} {generator.randrange(5)}"
        some = generator.sample(self.in_all, 3)
        self.live.add_catalogue(name, some)
        named[name] = set(some)
        older = generator.choice(sorted(named))
        assert ids(self.live.recommend([], 10, within=older)) == named[older], "a named catalogue is lost"

    def swap(self, generator):
        self.versions.swap(self.live, str(generator.randrange(4)))

    def control(self, generator):
        denied = generator.sample(self.in_all, 3)
        found = self.live.recommend([], 1000, control=self.live.control(deny=denied))
        assert not ids(found) & set(denied), "a denied item was recommended"

    def share_a_session(self, generator):
        if generator.random() < 0.5:
            self.shared.observe(generator.choice(self.in_all))
        assert self.shared.recommend(3)
        assert len(self.shared.history) >= 2

    def repeat(self, step, seed):
        generator = random.Random(seed)
        while not self.stop.is_set():
            try:
                step(generator)
            except BaseException as error:
                if not (self.stop.is_set() and isinstance(error, ConfigError)):  # closed
                    self.errors.append(error)


@pytest.mark.parametrize("seed", range(2))
def test_random_calls_from_many_threads_lose_nothing_and_leak_nothing(versions, seed):
    calls = RandomCalls(versions)
    twice = [calls.name, calls.swap, calls.share_a_session]
    threads = [
        threading.Thread(target=calls.repeat, args=(step, f"{seed} {number}"), daemon=True)
        for number, step in enumerate([calls.recommend, calls.control, *twice, *twice])
    ]
    closers = [threading.Thread(target=calls.live.close, daemon=True) for _ in range(3)]
    for started in threads:
        started.start()
    time.sleep(0.6)
    calls.stop.set()
    for started in closers:
        started.start()
    for started in [*threads, *closers]:
        started.join(SECONDS)
        assert not started.is_alive()
    assert calls.errors == []
    assert len(versions.closed) > 3
    assert set(versions.times_closed()) == {1}
