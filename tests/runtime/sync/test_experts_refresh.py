"""Releases that change crowd and words alone: what is fetched, what faults do, and how open sessions go on."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

import network_faults as faults
from experts import random_crowd, random_words
from pocketrec import Recommender
from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle
from pocketrec.export.experts import BundleExperts
from pocketrec.export.refresh import write_refreshed
from pocketrec.runtime.bundle.bundle import GRAPH_FILE, WORDS_FILE, describe_file, open_bundle, write_manifest
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import BundleError, TrustError
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.experts.words import Words
from repository_server import World, items_of, still_recommends
from tiny import CODES, SPACE, random_rows, tiny_student

N = 400
IDS = [f"item-{i}" for i in range(N)]
WEIGHTS = FusionWeights(crowd=2.0, words=2.0)
FILES = (GRAPH_FILE, WORDS_FILE)


def changed(crowd, words):
    """The same crowd with other weights for a few edges, the same words with two items' exchanged."""
    weights = crowd.weights.copy()
    weights[50:60] += 9.0
    of_item = [words.terms[a:b] for a, b in zip(words.first[:-1], words.first[1:], strict=True)]
    of_item[10], of_item[200] = of_item[200], of_item[10]
    counts = np.array([len(some) for some in of_item])
    return (
        Crowd(crowd.first, crowd.neighbours, weights, crowd.log_popularity),
        Words.build(counts, np.concatenate(of_item), words.idf),
    )


@pytest.fixture(scope="module")
def expert_bundles(tmp_path_factory):
    """One model and catalogue with two states of the experts; then the second one without every fifth item."""
    folder, student = tmp_path_factory.mktemp("experts"), tiny_student()
    rows = random_rows(N)
    old = random_crowd(N, 1, most=8), random_words(N, 1, 40, 6)
    for name, experts in (("old", old), ("new", changed(*old))):
        items = BundleItems(rows, IDS, None, SPACE)
        write_bundle(folder / name, student, items, BundleSettings(4, CODES), experts=BundleExperts(*experts, WEIGHTS))
    some = np.flatnonzero(np.arange(N) % 5 > 0)
    trie = ItemTrie.from_rows(rows[some], [IDS[i] for i in some], codes_per_level=CODES, sid_space=SPACE)
    write_refreshed(open_bundle(folder / "new"), trie, folder / "fewer")
    return [folder / name for name in ("old", "new", "fewer")]


@pytest.fixture
def experts_world(tmp_path, expert_bundles, sync_keys):
    """A device that has release 1."""
    world = World(tmp_path, expert_bundles, sync_keys)
    world.publish(0)
    with world.client() as client:
        client.refresh()
    return world


@pytest.fixture
def behind(experts_world):
    """Release 2 has other experts and nothing else that is new."""
    experts_world.publish(1)
    return experts_world


def targets(world):
    """The files of releases that were requested, without the hashes in their names."""
    return sorted(
        path.rpartition("/")[2].split(".", 1)[1] for path in world.server.requests if path.startswith("/targets")
    )


def ids(found):
    return [item.item_id for item in found]


def is_stored(world, number):
    """Whether the device has a release's files, byte for byte."""
    client = world.client(mode="local")
    folder = client.store.path(client.status().current)
    return all((folder / name).read_bytes() == (world.bundles[number] / name).read_bytes() for name in FILES)


def test_only_the_changed_files_come_as_patches(behind):
    done = behind.client().refresh()
    assert (done.release, done.how) == (2, "patch")
    wanted = targets(behind)
    assert [name.split(".from")[0] for name in wanted] == [GRAPH_FILE, "manifest.json", WORDS_FILE]
    assert sum(".from-" in name for name in wanted) == 2
    whole = {name: (behind.bundles[1] / name).stat().st_size for name in FILES}
    patches = [path for path in behind.repo.rglob("*.zst") if "/2/" in path.as_posix()]
    assert sum(path.stat().st_size for path in patches) < 0.3 * sum(whole.values())
    requested = sum(
        (behind.repo / path.lstrip("/")).stat().st_size
        for path in behind.server.requests
        if (behind.repo / path.lstrip("/")).is_file()
    )
    assert done.bytes == requested
    assert is_stored(behind, 1)


def test_the_conditions_get_the_bytes_of_the_patches(behind):
    asked = []
    behind.client(conditions=lambda size: asked.append(size) or False).refresh()
    patches = [path.stat().st_size for path in behind.repo.rglob("*.zst") if "/2/" in path.as_posix()]
    assert asked == [sum(patches)]


@pytest.mark.parametrize("name", FILES)
def test_a_patch_that_was_cut_is_resumed(behind, name):
    behind.server.always = lambda url, offset, content: (
        faults.cut(40)(url, offset, content) if f"{name}.from-" in url else faults.no_fault(url, offset, content)
    )
    client = behind.client()
    for _ in range(50):
        try:
            client.refresh()
        except Exception as error:
            assert type(error).__name__ == "NetworkError"  # noqa: PT017
            continue
        break
    behind.server.always = faults.no_fault
    assert client.refresh().release == 2
    assert is_stored(behind, 1)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_patch_leads_to_the_whole_file_and_a_damaged_file_to_none(behind, name):
    behind.server.always = lambda url, offset, content: (
        faults.corrupt(30)(url, offset, content) if f".{name}" in url else faults.no_fault(url, offset, content)
    )
    with pytest.raises(TrustError):
        behind.client().refresh()
    assert is_stored(behind, 0)
    behind.server.always = lambda url, offset, content: (
        faults.corrupt(30)(url, offset, content) if f"{name}.from-" in url else faults.no_fault(url, offset, content)
    )
    done = behind.client().refresh()
    assert (done.release, done.how) == (2, "patch")  # the other file
    assert any(target == name for target in targets(behind))
    assert is_stored(behind, 1)


def test_an_open_session_moves_to_the_new_experts(experts_world):
    world, history = experts_world, [IDS[i] for i in (3, 10, 7)]
    with world.client() as client:
        live = client.recommender()
        session = live.session(history)
        with Recommender.load(world.bundles[0]) as old, Recommender.load(world.bundles[1]) as new:
            before, after = old.recommend(history, 20), new.recommend(history, 20)
        assert before != after
        assert session.recommend(20) == live.recommend(history, 20) == before
        state = session._inner._state
        world.publish(1)
        client.refresh()
        assert session.recommend(20) == live.recommend(history, 20) == after
        assert session._inner._state is state  # the model has not read the history again
        assert not session.renewed


def test_items_that_vanish_from_catalogue_and_experts_leave_an_open_session(experts_world):
    world, history = experts_world, [IDS[i] for i in (3, 10, 7)]
    with world.client() as client:
        session = client.recommender().session(history)
        session.recommend(20)
        world.publish(2)
        assert client.refresh().release == 2
        found = session.recommend(1000)
        assert (session.history, session.unknown) == ((IDS[3], IDS[7]), (IDS[10],))
        assert set(ids(found)) == items_of(world.bundles[2]) - {IDS[3], IDS[7]}
        with Recommender.load(world.bundles[2]) as fewer:
            assert session.recommend(20) == fewer.recommend([IDS[3], IDS[7]], 20)
    assert still_recommends(world.folder / "store", world.bundles[2])


def test_experts_of_another_catalogue_are_not_published(experts_world, tmp_path):
    wrong = shutil.copytree(experts_world.bundles[2], tmp_path / "wrong")
    shutil.copyfile(experts_world.bundles[1] / GRAPH_FILE, wrong / GRAPH_FILE)
    manifest = open_bundle(experts_world.bundles[2]).manifest
    files = {**manifest.files, GRAPH_FILE: describe_file(wrong / GRAPH_FILE)}
    write_manifest(wrong, dataclasses.replace(manifest, files=files))
    experts_world.bundles = [*experts_world.bundles, wrong]
    with pytest.raises(BundleError, match="400 items, the catalogue 320"):
        experts_world.publish(3)
