"""The publisher: what readers see is whole at every moment, whoever fails and whenever.

The reader is python-tuf's own client over the folder's files, so nothing here trusts our own reading of the metadata.
"""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from file_faults import Killed, fail_at
from pocketrec.export.publish.keys import create_keys, load_key, load_keys
from pocketrec.export.publish.patches import make_patch
from pocketrec.export.publish.publish import PublishSettings, publish, releases, renew, rotate, withdraw
from pocketrec.export.publish.repository import Repository
from pocketrec.export.publish.status import describe
from pocketrec.runtime.bundle.bundle import BundleError
from pocketrec.runtime.errors import ConfigError, SyncError
from pocketrec.runtime.sync.patch import apply_patch
from tiny import random_rows, tiny_bundle, tiny_refresh, tiny_student


class Files(FetcherInterface):
    """Reads a repository's files as a web server would hand them out."""

    def __init__(self, folder):
        self.folder = folder

    def _fetch(self, url):
        path = self.folder / url.removeprefix("file://")
        if not path.is_file():
            raise DownloadHTTPError("not found", 404)
        yield path.read_bytes()


class Reader:
    """A client with a store of its own, which begins with the first root."""

    def __init__(self, repo, folder):
        self.repo, self.folder = repo, folder
        self.root = (repo / "metadata" / "1.root.json").read_bytes()
        folder.mkdir()

    def refresh(self):
        """All that is signed now: target's name -> bytes, each fetched and checked."""
        updater = Updater(
            str(self.folder),
            "file://metadata",
            str(self.folder),
            "file://targets",
            Files(self.repo),
            bootstrap=self.root,
        )
        updater.refresh()
        signed = json.loads((self.folder / "targets.json").read_bytes())["signed"]["targets"]
        found = {}
        for name in signed:
            updater.download_target(updater.get_targetinfo(name), str(self.folder / "file"))
            found[name] = (self.folder / "file").read_bytes()
        return found


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Five bundles of one model over different catalogues."""
    folder = tmp_path_factory.mktemp("bundles")
    first = tiny_bundle(folder / "0", tiny_student(), random_rows(60, seed=1))
    return [tiny_refresh(folder / str(i), first, random_rows(60 + i, seed=i)) for i in range(1, 6)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    create_keys(folder)
    return load_keys(folder, environment={})


def release_files(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def files_of(found, channel, release):
    prefix = f"{channel}/{release}/"
    return {
        name[len(prefix) :]: data for name, data in found.items() if name.startswith(prefix) and ".from-" not in name
    }


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


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_readers_follow_a_change_of_keys(tmp_path, bundles, keys, role):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    old, new_folder = Reader(tmp_path / "repo", tmp_path / "old"), tmp_path / "new-keys"
    old.refresh()
    new = load_key(create_keys(new_folder, [role])[0], role)
    gone = next(key for key in keys if key.role == role)
    assert rotate(repository, keys, new, gone.id[:12]) == 2
    kept = [*(key for key in keys if key.role != role), new]
    publish(bundles[1], repository, kept)
    another = load_key(create_keys(new_folder, ["timestamp"])[0], "timestamp")
    with pytest.raises(SyncError, match=f"{role} needs 1"):  # the key that is gone signs no more
        rotate(repository, keys, another) if role == "root" else publish(bundles[2], repository, keys)
    for reader in (old, Reader(tmp_path / "repo", tmp_path / "young")):
        assert files_of(reader.refresh(), "stable", 2) == release_files(bundles[1])


def test_a_role_keeps_as_many_keys_as_it_needs(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    publish(bundles[0], repository, keys)
    only = next(key for key in keys if key.role == "timestamp")
    with pytest.raises(SyncError, match="fewer keys"):
        rotate(repository, keys, remove=only.id[:12])
    with pytest.raises(SyncError, match="0 keys have an id"):
        rotate(repository, keys, remove="zz")


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
def test_any_role_can_be_signed_anew(tmp_path, bundles, keys, role):
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


def test_private_keys_never_lie_in_the_repository(tmp_path, bundles, keys):
    publish(bundles[0], Repository(tmp_path / "repo"), keys)
    for path in (tmp_path / "repo").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"PRIVATE" not in data
            for key in keys:
                assert key.signer.private_bytes not in data


def test_status_names_what_expires_soon(tmp_path, bundles, keys):
    repository = Repository(tmp_path / "repo")
    with repository.change():
        repository.create(keys, days={"timestamp": 0})
    warnings = describe(tmp_path / "repo")["warnings"]
    assert any("timestamp has expired" in warning for warning in warnings)
    publish(bundles[0], repository, keys)
    status = describe(tmp_path / "repo")
    assert status["channels"]["stable"][0]["bytes"] == sum(p.stat().st_size for p in bundles[0].iterdir())


def test_a_damaged_repository_is_not_published_into(tmp_path, bundles, keys):
    publish(bundles[0], Repository(tmp_path / "repo"), keys)
    path = tmp_path / "repo" / "metadata" / "timestamp.json"
    content = json.loads(path.read_bytes())
    content["signed"]["version"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(SyncError, match=r"timestamp\.json"):
        publish(bundles[1], Repository(tmp_path / "repo"), keys)


@pytest.mark.parametrize(
    "settings",
    [{"channel": "No"}, {"share": 1.5}, {"share": -0.1}, {"keep": 0}, {"patches": -1}, {"minimum_runtime": "new"}],
)
def test_odd_settings_are_refused(settings):
    with pytest.raises((ConfigError, SyncError)):
        PublishSettings(**settings)


def test_encrypted_keys_need_their_passphrase(tmp_path):
    (path,) = create_keys(tmp_path, ["targets"], "open sesame")
    assert b"ENCRYPTED" in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert load_keys(tmp_path, "open sesame", {})[0].role == "targets"
    with pytest.raises(SyncError, match="POCKETREC_KEY_PASSPHRASE"):
        load_keys(tmp_path, None, {})
    with pytest.raises(SyncError, match="passphrase"):
        load_keys(tmp_path, "wrong", {})


def test_keys_may_come_from_the_environment(tmp_path):
    (path,) = create_keys(tmp_path, ["timestamp"])
    (key,) = load_keys(None, environment={"POCKETREC_KEY_TIMESTAMP": path.read_text()})
    assert key.role == "timestamp"
    assert key.id == load_keys(tmp_path, environment={})[0].id


def test_no_keys_are_no_keys(tmp_path):
    with pytest.raises(SyncError, match="no signing keys"):
        load_keys(tmp_path, environment={})
    with pytest.raises(SyncError, match="no folder"):
        load_keys(Path(tmp_path / "none"), environment={})
    with pytest.raises(ConfigError, match="no role"):
        create_keys(tmp_path, ["admin"])
