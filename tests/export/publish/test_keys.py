"""Signing keys: made, encrypted, read back, and never in a repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from file_faults import Killed
from pocketrec.export.publish.keys import create_keys, load_keys
from pocketrec.export.publish.publish import publish
from pocketrec.export.publish.repository import Repository
from pocketrec.runtime.errors import ConfigError, SyncError


def test_private_keys_never_lie_in_the_repository(tmp_path, bundles, keys):
    publish(bundles[0], Repository(tmp_path / "repo"), keys)
    for path in (tmp_path / "repo").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"PRIVATE" not in data
            for key in keys:
                assert key.signer.private_bytes not in data


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
    with pytest.raises(SyncError, match="there is no folder"):
        load_keys(Path(tmp_path / "none"), environment={})
    with pytest.raises(ConfigError, match="no role"):
        create_keys(tmp_path, ["admin"])


def test_a_key_that_was_not_written_whole_is_no_key(tmp_path, monkeypatch):
    def full(descriptor, *arguments):
        os.close(descriptor)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with pytest.raises(Killed):
            create_keys(tmp_path / "keys", ["targets"])
    assert list((tmp_path / "keys").glob("*.pem")) == []
    (path,) = create_keys(tmp_path / "keys", ["targets"])
    assert [key.role for key in load_keys(tmp_path / "keys", environment={})] == ["targets"]
    assert path.stat().st_mode & 0o077 == 0
