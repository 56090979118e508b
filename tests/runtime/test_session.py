"""Sessions: what they recommend, what they keep, and what of a saved one is refused."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_engines import DEVICE_ENGINES
from pocketrec.runtime.errors import ConfigError, SessionError
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.session import MAX_BYTES
from tiny import random_rows, tiny_bundle, tiny_student

ITEMS, LONGEST = 50, 6
IDS = [f"item-{i}" for i in range(ITEMS)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("session") / "b", tiny_student(), random_rows(ITEMS))


@pytest.fixture(scope="module", params=DEVICE_ENGINES)
def rec(request, bundle):
    with Recommender.load(bundle, request.param) as recommender:
        yield recommender


def same(one, other):
    assert [item.item_id for item in one] == [item.item_id for item in other]
    np.testing.assert_allclose([item.score for item in one], [item.score for item in other], atol=1e-4)


def test_it_gives_what_a_stateless_call_gives_at_every_length(rec):
    order = np.random.default_rng(3).permutation(ITEMS)[: 2 * LONGEST + 2]
    session, history = rec.session(), []
    same(session.recommend(ITEMS), rec.recommend([], ITEMS))
    for row in order:
        history.append(IDS[row])
        assert session.observe(IDS[row])
        same(session.recommend(ITEMS), rec.recommend(history, ITEMS))
    assert session.history == tuple(history)


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from([*IDS[:9], "stranger"]), max_size=4), max_size=5), st.booleans())
def test_it_does_not_matter_when_the_recommendations_are_asked_for(rec, pieces, exclude_seen):
    session, history = rec.session(pieces[0] if pieces else ()), list(pieces[0]) if pieces else []
    for piece in pieces[1:]:
        for item_id in piece:
            session.observe(item_id)
        history += piece
        same(session.recommend(5, exclude_seen), rec.recommend(history, 5, exclude_seen))
    assert session.unknown == rec.recommend(history).unknown


def test_what_was_read_is_not_read_again_until_the_window_moves(rec, monkeypatch):
    read = []
    engine = rec.engine
    monkeypatch.setattr(
        engine, "read", lambda items, state=None, real=engine.read: read.append(len(items)) or real(items, state)
    )
    session = rec.session(IDS[:3])
    for item_id in IDS[3:8]:
        session.recommend(3)
        session.observe(item_id)
    session.recommend(3)
    session.recommend(3)
    assert read == [3, 1, 1, 1, LONGEST, LONGEST]


def test_it_takes_the_same_controls(rec):
    session = rec.session(IDS[:2])
    rec.add_catalogue("few", IDS[10:20])
    prepared = rec.control(within="few", deny=[IDS[11]], bias={IDS[15]: 50.0})
    same(session.recommend(20, control=prepared), rec.recommend(IDS[:2], 20, control=prepared))
    same(session.recommend(20, within="few"), rec.recommend(IDS[:2], 20, within="few"))


def test_a_saved_session_goes_on_where_it_was(rec, tmp_path):
    session = rec.session([*IDS[:8], "stranger"])
    session.save(tmp_path / "s.json")
    again = rec.restore_session(tmp_path / "s.json")
    assert again.history == session.history
    assert not again.renewed
    same(again.recommend(9), session.recommend(9))
    assert len(session.to_bytes()) < 400
    same(rec.restore_session(session.to_bytes()).recommend(9), session.recommend(9))


def test_under_another_model_it_is_renewed_and_items_that_are_gone_are_named(rec, tmp_path):
    saved = rec.session([IDS[1], IDS[45], IDS[2]]).to_bytes()
    tiny_bundle(tmp_path / "new", tiny_student(seed=1), random_rows(ITEMS)[:40])
    with Recommender.load(tmp_path / "new") as other:
        session = other.restore_session(saved)
        assert session.renewed
        assert session.unknown == (IDS[45],)
        same(session.recommend(7), other.recommend([IDS[1], IDS[2]], 7))


def test_another_catalogue_of_the_same_model_does_not_renew_it(bundle, rec, tmp_path):
    tiny_bundle(tmp_path / "fewer", tiny_student(), random_rows(ITEMS)[:40])
    with Recommender.load(tmp_path / "fewer") as fewer:
        assert not fewer.restore_session(rec.session(IDS[:3]).to_bytes()).renewed


def test_anything_but_a_saved_session_is_refused(rec, tmp_path):
    good = json.loads(rec.session(IDS[:3]).to_bytes())
    bad = {
        "cut": rec.session(IDS[:3]).to_bytes()[:-5],
        "empty": b"",
        "no text": b"\xff\xfe",
        "another file": b"[1, 2]",
        "deep": b"[" * 100_000,
        "too large": b" " * (MAX_BYTES + 1),
        "version": json.dumps({**good, "version": 2}).encode(),
        "changed": json.dumps({**good, "items": ["item-1"]}).encode(),
        "no ids": json.dumps({**good, "items": [1]}).encode(),
        "no items": json.dumps({**good, "items": None}).encode(),
        "no model": json.dumps({**good, "model": 3}).encode(),
    }
    for name, data in bad.items():
        with pytest.raises(SessionError, match="new session"):
            rec.restore_session(data)
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SessionError):
            rec.restore_session(tmp_path / name)
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(SessionError, match="cannot be read"):
            rec.restore_session(path)


@settings(max_examples=200)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_changes_nothing_that_counts(rec, place, byte):
    session = rec.session(IDS[:3])
    data = bytearray(session.to_bytes())
    data[place % len(data)] = byte
    try:
        again = rec.restore_session(bytes(data))
    except SessionError:
        return
    assert again.history == session.history


def test_an_item_id_must_be_a_string(rec):
    with pytest.raises(ConfigError, match="strings"):
        rec.session().observe(7)


def test_threads_take_turns(rec):
    session = rec.session()
    threads = [threading.Thread(target=session.observe, args=(item_id,)) for item_id in IDS[:20]]
    threads += [threading.Thread(target=session.recommend) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(session.history) == sorted(IDS[:20])
    same(session.recommend(9), rec.recommend(session.history, 9))


def test_a_closed_recommender_reads_nothing_more(bundle):
    with Recommender.load(bundle, "onnx") as recommender:
        session = recommender.session(IDS[:2])
    for call in (session.recommend, lambda: recommender.explain(IDS[:2], IDS[3])):
        with pytest.raises(ConfigError, match="closed"):
            call()
    assert recommender.engine._graphs == {}


def test_a_name_twice_and_a_path_that_is_none_are_refused(rec):
    saved = rec.session(IDS[:2]).to_bytes()
    with pytest.raises(SessionError, match="name twice"):
        rec.restore_session(saved[:-1] + b',"version":1}')
    with pytest.raises(SessionError, match="cannot be read"):
        rec.restore_session("a\0b")
