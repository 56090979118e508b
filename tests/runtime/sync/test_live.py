"""The recommender that follows: swaps under load, sessions that go on, nothing closed too early."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import weakref

import pytest

from device_engines import DEVICE_ENGINES
from pocketrec import Recommender
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.session import Session
from pocketrec.runtime.sync import LiveRecommender, LiveSession
from repository_server import items_of


@pytest.fixture
def client(world):
    world.publish(0)
    with world.client() as client:
        yield client


def ids(found):
    return [item.item_id for item in found]


def test_it_recommends_as_the_bundle_does(world, client):
    live = client.recommender(engine="reference")
    history = sorted(items_of(world.bundles[0]))[:3]
    with Recommender.load(world.bundles[0], "reference") as rec:
        assert ids(live.recommend(history, 5)) == ids(rec.recommend(history, 5))
        assert [ids(x) for x in live.recommend_batch([history, []], 5)] == [
            ids(rec.recommend(h, 5)) for h in (history, [])
        ]
        assert ids(asyncio.run(live.recommend_async(history, 5))) == ids(rec.recommend(history, 5))


def test_a_swap_needs_no_restart(world, client):
    live = client.recommender(engine="reference")
    before = set(ids(live.recommend([], 1000)))
    world.publish(1)
    client.refresh()
    assert before == items_of(world.bundles[0])
    assert set(ids(live.recommend([], 1000))) == items_of(world.bundles[1])
    assert client.recommender() is live


def test_a_call_in_flight_finishes_on_the_version_it_began_with(world, client):
    live = client.recommender(engine="reference")
    with live.using() as old:
        world.publish(1)
        client.refresh()
        assert ids(old.recommend([], 5))  # not closed under the call
        assert set(ids(live.recommend([], 1000))) == items_of(world.bundles[1])
    with pytest.raises(ConfigError, match="closed"):
        old.recommend([], 5)


def test_calls_from_many_threads_see_one_version_each(world, client):
    live = client.recommender(engine="reference")
    expected = [items_of(bundle) for bundle in world.bundles[:4]]
    wrong, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            found = set(ids(live.recommend([], 1000)))
            if found not in expected:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in (1, 2, 3):
        world.publish(number)
        client.refresh()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("engine", DEVICE_ENGINES)
def test_a_session_goes_on_over_a_new_catalogue(world, client, engine):
    live = client.recommender(engine=engine)
    kept = sorted(items_of(world.bundles[0]) & items_of(world.bundles[1]))[:4]
    session = live.session(kept[:3])
    session.recommend(5)
    state = session._inner._state
    world.publish(1)
    client.refresh()
    session.observe(kept[3])
    assert session._inner._state is state  # what the model has read is kept
    assert ids(session.recommend(5)) == ids(live.recommend(kept, 5))
    assert session.history == tuple(kept)
    assert not session.renewed


def test_items_that_left_become_unknown_to_a_session(world, client):
    live = client.recommender(engine="reference")
    gone = sorted(items_of(world.bundles[0]) - items_of(world.bundles[1]))[0]
    kept = sorted(items_of(world.bundles[0]) & items_of(world.bundles[1]))[:2]
    session = live.session([kept[0], gone, kept[1]])
    session.recommend(5)
    world.publish(1)
    client.refresh()
    assert ids(session.recommend(5)) == ids(live.recommend(kept, 5))
    assert session.unknown == (gone,)
    assert session.history == tuple(kept)


def test_items_that_come_take_their_place_in_a_session(world, client):
    live = client.recommender(engine="reference")
    new = sorted(items_of(world.bundles[1]) - items_of(world.bundles[0]))[0]
    kept = sorted(items_of(world.bundles[0]) & items_of(world.bundles[1]))[:2]
    session = live.session([kept[0], new, kept[1]])
    assert session.history == tuple(kept)
    world.publish(1)
    client.refresh()
    assert session.history == (kept[0], new, kept[1])
    assert ids(session.recommend(5)) == ids(live.recommend([kept[0], new, kept[1]], 5))


def test_a_session_is_renewed_under_another_model(world, client):
    live = client.recommender(engine="reference")
    kept = sorted(items_of(world.bundles[0]) & items_of(world.bundles[4]))[:3]
    session = live.session(kept)
    before = ids(session.recommend(5))
    world.publish(4)
    client.refresh()
    after = ids(session.recommend(5))
    assert session.renewed
    assert after == ids(live.recommend(kept, 5)) != before


def test_a_saved_session_is_restored_on_what_is_current(world, client, tmp_path):
    live = client.recommender(engine="reference")
    kept = sorted(items_of(world.bundles[0]) & items_of(world.bundles[1]))[:3]
    live.session(kept).save(tmp_path / "session")
    world.publish(1)
    client.refresh()
    assert live.restore_session(tmp_path / "session").history == tuple(kept)


def test_named_catalogues_and_controls_hold_for_later_versions(world, client):
    live = client.recommender(engine="reference")
    both = sorted(items_of(world.bundles[0]) & items_of(world.bundles[1]))
    live.add_catalogue("some", both[:10])
    control = live.control(deny=both[:5])
    world.publish(1)
    client.refresh()
    assert set(ids(live.recommend([], 1000, within="some"))) == set(both[:10])
    assert set(ids(live.recommend([], 1000, control=control))) == items_of(world.bundles[1]) - set(both[:5])
    with pytest.raises(ConfigError, match="control"):
        live.recommend([], control="denied")


def test_a_control_may_be_made_of_iterators_and_lists_that_change_later(world, client):
    live = client.recommender(engine="reference")
    both = sorted(items_of(world.bundles[0]) & items_of(world.bundles[1]))
    favoured = {both[9]: 50.0}
    once = live.control(allow=(item for item in both[:9]), deny=iter(both[:5]))
    bias = live.control(bias=favoured)
    favoured.clear()
    world.publish(1)
    client.refresh()
    assert set(ids(live.recommend([], 1000, control=once))) == set(both[5:9])
    assert ids(live.recommend([], 1, control=bias)) == [both[9]]


def test_a_control_of_one_versions_sub_catalogue_is_refused_at_once(client):
    live = client.recommender(engine="reference")
    with live.using() as recommender:
        part = recommender.trie.filter_ids([])
    with pytest.raises(ConfigError, match="give the name"):
        live.control(within=part)
    with pytest.raises(ConfigError, match="list of item ids"):
        live.control(allow="one string")
    with pytest.raises(ConfigError, match="list of item ids"):
        live.add_catalogue("some", "one string")
    with pytest.raises(ConfigError, match="list of item ids"):
        live.session("one string")


def test_a_control_that_the_app_drops_is_not_kept(client):
    live = client.recommender(engine="reference")
    control = live.control(deny=["x"])
    live.recommend([], 3, control=control)
    dropped = weakref.ref(control)
    del control
    gc.collect()
    assert dropped() is None


OF_ONE_VERSION = {"recommend_rows", "load"}


def public(kind):
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


def test_it_has_the_methods_of_a_recommender(client):
    assert public(Recommender) - public(LiveRecommender) <= OF_ONE_VERSION
    assert public(Session) - public(LiveSession) <= {"take_state"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(LiveRecommender, Recommender), (LiveSession, Session)],
    ids=["recommender", "session"],
)
def test_its_methods_take_the_same_arguments(ours, theirs):
    for name in sorted(public(ours) & public(theirs) - {"control"}):
        expected, found = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (theirs, ours))
        assert found == expected, name


def test_every_way_to_recommend_takes_all_arguments(world, client):
    live = client.recommender(engine="reference")
    history = sorted(items_of(world.bundles[0]))[:3]
    live.add_catalogue("some", history)
    for found in (
        live.recommend(history, 5, False, "some", 30),
        live.recommend_batch([history], 5, exclude_seen=False, within="some", beam=30)[0],
        asyncio.run(live.recommend_async(history, 5, exclude_seen=False, within="some", beam=30)),
        live.session(history).recommend(5, False, "some", 30),
    ):
        assert set(ids(found)) == set(history)


def test_it_explains_as_the_bundle_does(world, client):
    live = client.recommender(engine="reference")
    *history, item = sorted(items_of(world.bundles[0]))[:4]
    with Recommender.load(world.bundles[0], "reference") as rec:
        assert live.explain(history, item) == rec.explain(history, item)


def test_a_restored_session_remembers_items_that_come_back(world, client):
    live = client.recommender(engine="reference")
    gone = sorted(items_of(world.bundles[0]) - items_of(world.bundles[1]))[0]
    kept = sorted(items_of(world.bundles[0]) & items_of(world.bundles[1]))[:2]
    saved = live.session([kept[0], gone, kept[1]]).to_bytes()
    world.publish(1)
    client.refresh()
    session = live.restore_session(saved)
    assert (session.history, session.unknown) == (tuple(kept), (gone,))
    client.rollback()
    assert (session.history, session.unknown) == ((kept[0], gone, kept[1]), ())


def test_after_closing_it_says_so(world, client):
    live = client.recommender(engine="reference")
    client.close()
    client.close()
    with pytest.raises(ConfigError, match="closed"):
        live.recommend([])


@pytest.mark.parametrize("engine", DEVICE_ENGINES)
def test_it_explains_after_the_store_has_swept_its_version(world, engine):
    world.publish(0)
    *history, item = sorted(items_of(world.bundles[0]))[:4]
    with world.client() as refreshing, world.client(mode="local") as client:
        refreshing.refresh()
        live = client.recommender(engine=engine)
        for number in (1, 2):  # by another process, which does not tell this client
            world.publish(number)
            refreshing.refresh()
        assert not client.store.path(live.version).exists()
        with Recommender.load(world.bundles[0], engine) as rec:
            assert live.explain(history, item) == rec.explain(history, item)
            assert live.recommend(history, 5) == rec.recommend(history, 5)
