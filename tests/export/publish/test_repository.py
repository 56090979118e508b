"""The signed repository: thresholds, one change at a time, damage, and what is on the disk when."""

from __future__ import annotations

import json
import os
import sys
import threading

import pytest

from pocketrec.export.publish.keys import create_keys, load_keys
from pocketrec.export.publish.publish import publish
from pocketrec.export.publish.repository import Repository
from pocketrec.runtime.errors import SyncError
from release_reader import Reader, files_of


def test_a_threshold_asks_for_several_keys(tmp_path, bundles, keys):
    create_keys(tmp_path / "more", ["targets", "targets"])
    everyone = [*keys, *load_keys(tmp_path / "more", environment={})]
    repository = Repository(tmp_path / "repo")
    with repository.change():
        repository.create(everyone, {"targets": 2})
    of_targets = [key for key in everyone if key.role == "targets"]
    others = [key for key in everyone if key.role != "targets"]
    with pytest.raises(SyncError, match="targets needs 2 of its 3 keys"):
        publish(bundles[0], repository, [*others, of_targets[0]])
    publish(bundles[0], repository, [*others, *of_targets[:2]])
    assert files_of(Reader(tmp_path / "repo", tmp_path / "r").refresh(), "stable", 1)


def test_two_publishers_take_turns(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with repository.change():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(10)
    try:
        with pytest.raises(SyncError, match="another process"):
            publish(bundles[1], Repository(tmp_path / "repo"), keys)
    finally:
        leave.set()
        thread.join()
    assert publish(bundles[1], repository, keys).release == 2


def test_a_damaged_repository_is_not_published_into(tmp_path, bundles, keys):
    publish(bundles[0], Repository(tmp_path / "repo"), keys)
    path = tmp_path / "repo" / "metadata" / "timestamp.json"
    content = json.loads(path.read_bytes())
    content["signed"]["version"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(SyncError, match=r"timestamp\.json"):
        publish(bundles[1], Repository(tmp_path / "repo"), keys)


@pytest.mark.skipif(sys.platform != "linux", reason="reads from /proc which file a descriptor is of")
def test_files_and_their_folders_are_on_the_disk_before_metadata_refers_to_them(tmp_path, bundles, keys, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))
        real(descriptor)

    publish(bundles[0], Repository(tmp_path / "repo"), keys)  # most files of the next release are links to these
    monkeypatch.setattr(os, "fsync", fsync)
    publish(bundles[1], Repository(tmp_path / "repo"), keys)
    publish(bundles[1], Repository(tmp_path / "other"), keys)
    for repo, release in (("repo", 2), ("other", 1)):
        signed = next(i for i, path in enumerate(synced) if f"/{repo}/metadata/.{release + 1}.targets.json" in path)
        before = set(synced[:signed])
        folder = f"/{repo}/targets/stable"
        assert before >= {folder, f"{folder}/{release}"}
    assert {"/other", "/other/targets"} <= before
