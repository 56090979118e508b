"""Publishing: readers see a whole repository at any time, whatever fails, and get the bundle that was published."""

from __future__ import annotations

import json
import shutil

import pytest
from tuf.ngclient import Updater

from file_faults import Killed, fail_at
from pocketrec.export.publish.patches import make_patch
from pocketrec.export.publish.publish import PublishSettings, publish, releases, withdraw
from pocketrec.export.publish.repository import Repository
from pocketrec.runtime.errors import BundleError, ConfigError, SyncError
from pocketrec.runtime.sync.patch import apply_patch
from release_reader import Files, Reader, files_of, release_files


def test_a_reader_gets_the_bundle_that_was_published(tmp_path, bundles, keys):
    done = publish(bundles[0], Repository(tmp_path / "repo"), keys)
    assert (done.release, done.channel, done.changed) == (1, "stable", True)
    found = Reader(tmp_path / "repo", tmp_path / "reader").refresh()
    assert files_of(found, "stable", 1) == release_files(bundles[0])


def test_the_same_bundle_again_changes_nothing(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    before = {p: p.read_bytes() for p in (tmp_path / "repo").rglob("*") if p.is_file()}
    again = publish(bundles[0], repository, keys)
    assert (again.release, again.changed, again.bytes) == (1, False, 0)
    assert before == {p: p.read_bytes() for p in (tmp_path / "repo").rglob("*") if p.is_file()}


def test_another_share_of_the_same_bundle_is_the_same_release(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys, PublishSettings(share=0.1))
    done = publish(bundles[0], repository, keys, PublishSettings(share=0.5))
    assert (done.release, done.changed) == (1, True)
    assert releases(repository.load().targets.signed)["stable"][1].share == 0.5


def test_releases_count_up_over_channels_and_withdrawals(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    assert publish(bundles[0], repository, keys).release == 1
    assert publish(bundles[0], repository, keys, PublishSettings("beta")).release == 2
    assert publish(bundles[1], repository, keys).release == 3
    withdraw(repository, keys, "stable", 3)
    assert publish(bundles[1], repository, keys).release == 4
    assert {c: sorted(r) for c, r in releases(repository.load().targets.signed).items()} == {
        "beta": [2],
        "stable": [1, 4],
    }


def test_old_releases_go_and_their_files_a_publish_later(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    for bundle in bundles[:3]:
        publish(bundle, repository, keys, PublishSettings(keep=2))
    assert sorted(releases(repository.load().targets.signed)["stable"]) == [2, 3]
    assert (tmp_path / "repo" / "targets" / "stable" / "1").is_dir()  # for readers in the middle of a refresh
    publish(bundles[3], repository, keys, PublishSettings(keep=2))
    assert not (tmp_path / "repo" / "targets" / "stable" / "1").exists()
    assert sorted(releases(repository.load().targets.signed)["stable"]) == [3, 4]


def test_a_reader_of_the_state_before_still_finds_its_files(tmp_path, bundles, keys):
    repository, folder = Repository(tmp_path / "repo"), tmp_path / "repo"
    publish(bundles[0], repository, keys, PublishSettings(keep=1))
    publish(bundles[1], repository, keys, PublishSettings(keep=1))
    reader = Reader(folder, tmp_path / "reader")
    updater = Updater(
        str(reader.folder),
        "file://metadata",
        str(reader.folder),
        "file://targets",
        Files(folder),
        bootstrap=reader.root,
    )
    updater.refresh()
    publish(bundles[2], repository, keys, PublishSettings(keep=1))
    for name in files_of(json.loads((reader.folder / "targets.json").read_bytes())["signed"]["targets"], "stable", 2):
        updater.download_target(updater.get_targetinfo(f"stable/2/{name}"), str(tmp_path / "file"))


def test_patches_of_the_last_tries_make_the_new_one(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    tries = [(bundle / "trie.safetensors").read_bytes() for bundle in bundles]
    similar = tries[0][:-1] + b"x"
    assert len(make_patch(tries[0], similar)) < 100
    for bundle in bundles[:3]:
        done = publish(bundle, repository, keys, PublishSettings(patches=2))
    found = Reader(tmp_path / "repo", tmp_path / "reader").refresh()
    patches = {name: data for name, data in found.items() if ".from-" in name}
    assert len(patches) == len(done.patches)
    for name, patch in patches.items():
        base = next(t for i, t in enumerate(tries) if name.endswith(f".from-{sha256(t)[:16]}.zst"))
        assert name.startswith("stable/3/")
        assert apply_patch(base, patch, len(tries[2])) == tries[2]


def sha256(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_a_damaged_bundle_is_not_published(tmp_path, bundles, keys):
    bad = shutil.copytree(bundles[0], tmp_path / "bad")
    (bad / "trie.safetensors").write_bytes(b"no trie")
    with pytest.raises(BundleError):
        publish(bad, Repository(tmp_path / "repo"), keys)
    assert not (tmp_path / "repo").exists()


def test_roots_keys_are_not_needed_to_publish(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    publish(bundles[1], repository, [key for key in keys if key.role != "root"])
    with pytest.raises(SyncError, match="targets needs 1 of its 1 keys"):
        publish(bundles[2], repository, [key for key in keys if key.role != "targets"])
    assert files_of(Reader(tmp_path / "repo", tmp_path / "r").refresh(), "stable", 2) == release_files(bundles[1])


def test_a_kill_at_any_file_call_leaves_a_whole_repository(tmp_path, bundles, keys):
    first = tmp_path / "first"
    for bundle in bundles[:2]:
        publish(bundle, Repository(first), keys, PublishSettings(keep=2))
    expected = [release_files(bundle) for bundle in bundles]
    finished, number = False, 0
    while not finished:
        number += 1
        repo = shutil.copytree(first, tmp_path / f"repo-{number}")
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, number, Killed)
            try:
                publish(bundles[2], Repository(repo), keys, PublishSettings(keep=2))
                finished = True
            except Killed:
                pass
        reader = Reader(repo, tmp_path / f"reader-{number}")
        found = reader.refresh()
        newest = 3 if files_of(found, "stable", 3) else 2
        assert files_of(found, "stable", newest) == expected[newest - 1]
        assert publish(bundles[2], Repository(repo), keys, PublishSettings(keep=2)).release == 3
        assert publish(bundles[3], Repository(repo), keys, PublishSettings(keep=2)).release == 4
        found = reader.refresh()
        assert files_of(found, "stable", 4) == expected[3]
        assert {int(name.split("/")[1]) for name in found} == {3, 4}
        leftovers = [p.name for p in repo.rglob("*") if p.name.endswith(".tmp")]
        assert leftovers == []
        shutil.rmtree(repo)
    assert number > 20


@pytest.mark.parametrize(
    "settings",
    [{"channel": "No"}, {"share": 1.5}, {"share": -0.1}, {"keep": 0}, {"patches": -1}, {"minimum_runtime": "new"}],
)
def test_odd_settings_are_refused(settings):
    with pytest.raises((ConfigError, SyncError)):
        PublishSettings(**settings)
