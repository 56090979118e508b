"""Renewing roles and changing keys: every reader follows."""

from __future__ import annotations

import pytest

from pocketrec.export.publish.keys import create_keys, load_key
from pocketrec.export.publish.publish import publish
from pocketrec.export.publish.repository import Repository
from pocketrec.export.publish.roles import renew, rotate_keys
from pocketrec.export.publish.status import describe
from pocketrec.runtime.errors import ConfigError, SyncError
from release_reader import Reader, files_of, release_files


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_readers_follow_a_change_of_keys(tmp_path, bundles, keys, role):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    old, new_folder = Reader(tmp_path / "repo", tmp_path / "old"), tmp_path / "new-keys"
    old.refresh()
    new = load_key(create_keys(new_folder, [role])[0], role)
    gone = next(key for key in keys if key.role == role)
    assert rotate_keys(repository, keys, new, gone.id[:12]) == 2
    kept = [*(key for key in keys if key.role != role), new]
    publish(bundles[1], repository, kept)
    another = load_key(create_keys(new_folder, ["timestamp"])[0], "timestamp")
    with pytest.raises(SyncError, match=f"{role} needs 1"):  # the key that is gone signs no more
        rotate_keys(repository, keys, another) if role == "root" else publish(bundles[2], repository, keys)
    for reader in (old, Reader(tmp_path / "repo", tmp_path / "young")):
        assert files_of(reader.refresh(), "stable", 2) == release_files(bundles[1])


def test_a_role_keeps_as_many_keys_as_it_needs(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    only = next(key for key in keys if key.role == "timestamp")
    with pytest.raises(SyncError, match="fewer keys"):
        rotate_keys(repository, keys, remove=only.id[:12])
    with pytest.raises(SyncError, match="0 keys have an id"):
        rotate_keys(repository, keys, remove="zz")


def test_renewing_needs_the_online_keys_alone(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    before = describe(tmp_path / "repo")["roles"]
    renew(repository, [key for key in keys if key.role in ("snapshot", "timestamp")])
    after = describe(tmp_path / "repo")["roles"]
    assert after["timestamp"]["version"] == before["timestamp"]["version"] + 1
    assert after["targets"] == before["targets"]
    assert Reader(tmp_path / "repo", tmp_path / "r").refresh()


@pytest.mark.parametrize("role", ["root", "targets", "timestamp"])
def test_any_role_can_be_renewed(tmp_path, bundles, keys, role):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    reader = Reader(tmp_path / "repo", tmp_path / "r")
    before, found = describe(tmp_path / "repo")["roles"], reader.refresh()
    renew(repository, keys, [role])
    after = describe(tmp_path / "repo")["roles"]
    assert after[role]["version"] == before[role]["version"] + 1
    assert after["timestamp"]["version"] == before["timestamp"]["version"] + 1  # so that clients see that there is news
    assert reader.refresh() == found
    with pytest.raises(ConfigError, match="no role"):
        renew(repository, keys, ["king"])


def test_rotating_without_the_roots_keys_changes_nothing(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    before = {path: path.read_bytes() for path in (tmp_path / "repo").rglob("*") if path.is_file()}
    new = load_key(create_keys(tmp_path / "new", ["timestamp"])[0], "timestamp")
    without = [key for key in keys if key.role != "root"]
    with pytest.raises(SyncError, match="root needs 1"):
        rotate_keys(repository, without, new)
    with pytest.raises(SyncError, match="root needs 1"):
        renew(repository, without, ["root"])
    assert {path: path.read_bytes() for path in (tmp_path / "repo").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("change", ["renew", "rotate"])
def test_a_new_root_is_followed_by_a_new_timestamp(tmp_path, bundles, keys, monkeypatch, change):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    timestamps, real = [], Repository.write_root

    def write_root(self, *arguments):
        real(self, *arguments)
        timestamps.append((tmp_path / "repo" / "metadata" / "timestamp.json").read_bytes())

    monkeypatch.setattr(Repository, "write_root", write_root)
    if change == "renew":
        renew(repository, keys, ["root"])
    else:
        rotate_keys(repository, keys, load_key(create_keys(tmp_path / "new", ["targets"])[0], "targets"))
    assert (tmp_path / "repo" / "metadata" / "timestamp.json").read_bytes() not in timestamps
    assert Reader(tmp_path / "repo", tmp_path / "r").refresh()
