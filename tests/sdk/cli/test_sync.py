"""The commands around a repository: keys, publish, repo, sync, from an empty folder to a device that follows."""

from __future__ import annotations

import json
import threading
from typing import NamedTuple

import pytest
from command import pocketrec

from pocketrec.serving import make_server
from tiny import random_rows, tiny_bundle, tiny_refresh, tiny_student


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    first = tiny_bundle(folder / "0", tiny_student(), random_rows(60, seed=1))
    return [first, tiny_refresh(folder / "1", first, random_rows(62, seed=2))]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments):
    return Done(*pocketrec(*arguments))


def told(*arguments):
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def site(tmp_path, bundles):
    """Keys, and a repository with one release."""
    told("keys", "create", "--out", tmp_path / "keys", "--plain")
    return told("publish", bundles[0], "--repo", tmp_path / "site", "--keys", tmp_path / "keys")


@pytest.fixture
def url(tmp_path, site):
    server = make_server(tmp_path / "site")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def sync(tmp_path, url, *more):
    return ["sync", url, "--store", tmp_path / "store", "--root", tmp_path / "site" / "metadata" / "1.root.json", *more]


def test_from_a_bundle_to_a_device(tmp_path, bundles, site, url):
    assert (site["version"], site["changed"], site["channel"]) == (1, True, "stable")
    first = told(*sync(tmp_path, url))
    assert (first["version"], first["changed"], first["how"]) == (1, True, "files")
    assert told("inspect", first["bundle"])["catalogue"]["items"] == 60
    again = told(*sync(tmp_path, url))
    assert (again["changed"], again["requests"]) == (False, 1)
    told("publish", bundles[1], "--repo", tmp_path / "site", "--keys", tmp_path / "keys")
    assert told(*sync(tmp_path, url))["version"] == 2
    assert told(*sync(tmp_path, url, "--status"))["version"] == 2
    assert told(*sync(tmp_path, url, "--rollback"))["version"] == 1
    assert told(*sync(tmp_path, url))["version"] == 1


def test_publishing_again_changes_nothing(tmp_path, bundles, site):
    again = told("publish", bundles[0], "--repo", tmp_path / "site", "--keys", tmp_path / "keys")
    assert (again["version"], again["changed"], again["bytes"]) == (1, False, 0)


def test_status_renewal_rotation_and_withdrawal(tmp_path, bundles, site):
    where = ("--repo", tmp_path / "site")
    keys = ("--keys", tmp_path / "keys")
    status = told("repo", "status", *where)
    assert set(status["roles"]) == {"root", "targets", "snapshot", "timestamp"}
    assert [one["release"] for one in status["channels"]["stable"]] == [1]
    told("repo", "renew", *where, *keys)
    (new,) = told("keys", "create", "--out", tmp_path / "new", "--role", "timestamp", "--plain")["keys"]
    old = status["roles"]["timestamp"]["keys"][0]
    assert told("repo", "rotate", *where, *keys, "--new", new, "--remove", old[:10])["root"] == 2
    assert told("repo", "status", *where)["roles"]["timestamp"]["keys"] != [old]
    failed = run("publish", bundles[1], *where, *keys)
    assert failed.returncode == 1
    assert "timestamp needs 1" in failed.stderr
    assert run("repo", "status", *where).returncode == 0


def test_withdrawing(tmp_path, bundles, site):
    where = ("--repo", tmp_path / "site", "--keys", tmp_path / "keys")
    told("publish", bundles[1], *where)
    assert run("repo", "withdraw", "stable/2", *where).returncode == 0
    assert run("repo", "withdraw", "stable/2", *where).returncode == 1
    assert run("repo", "withdraw", "two", *where).returncode == 2


def test_a_repository_with_thresholds(tmp_path):
    told("keys", "create", "--out", tmp_path / "keys", "--plain")
    told("keys", "create", "--out", tmp_path / "keys", "--role", "root", "--plain")
    made = told("repo", "init", "--repo", tmp_path / "s", "--keys", tmp_path / "keys", "--threshold", "root=2")
    assert made["root"].endswith("1.root.json")
    again = run("repo", "init", "--repo", tmp_path / "s", "--keys", tmp_path / "keys")
    assert again.returncode == 1
    assert "already" in again.stderr
    for odd in ("root", "king=1", "root=x"):
        assert (
            run("repo", "init", "--repo", tmp_path / "t", "--keys", tmp_path / "keys", "--threshold", odd).returncode
            == 2
        )


def test_keys_inside_the_repository_are_refused(tmp_path, bundles):
    told("keys", "create", "--out", tmp_path / "site" / "keys", "--plain")
    refused = run("publish", bundles[0], "--repo", tmp_path / "site", "--keys", tmp_path / "site" / "keys")
    assert refused.returncode == 2
    assert "inside the repository" in refused.stderr


def test_errors_say_what_to_do(tmp_path, bundles, site, url):
    missing = run(*sync(tmp_path, url)[:-1], tmp_path / "no-root.json")
    assert missing.returncode == 2
    assert "1.root.json" in missing.stderr
    plain = run(*sync(tmp_path, "http://example.com/repo"))
    assert plain.returncode == 2
    assert "https" in plain.stderr
    nobody = run(*sync(tmp_path, "http://127.0.0.1:9/repo"))
    assert nobody.returncode == 1
    assert "does not respond" in nobody.stderr
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    assert run("publish", damaged, "--repo", tmp_path / "site", "--keys", tmp_path / "keys").returncode == 1
    assert run("serve", tmp_path / "nowhere").returncode == 2
