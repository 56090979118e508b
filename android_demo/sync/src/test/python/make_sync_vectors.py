"""Writes the vectors of sync: a signed repository of three releases, a store that follows it, and the expected results.

    python android_demo/sync/src/test/python/make_sync_vectors.py FOLDER

Needs torch and the exporters; reading the vectors needs neither. Keys, dates and bundles are fixed, so the same
versions of the libraries give the same bytes. The keys are public: sign nothing else with them.

    repo/            three releases of `stable`, the second and third with patches
    marked/          the same targets under metadata with a field that sigstore-java requires
    store/           a store of the Python client at release 2, after release 1
    expected.json    versions and their items; cases of the release rules with their results
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

ROOT = Path(__file__).resolve().parents[5]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "runtime" / "sync")]

from pocketrec.export.publish import repository as signed  # noqa: E402
from pocketrec.export.publish.keys import ROLES, SigningKey  # noqa: E402
from pocketrec.export.publish.publish import PublishSettings, publish  # noqa: E402
from pocketrec.runtime.recommender import Recommender  # noqa: E402
from pocketrec.runtime.sync import SyncClient  # noqa: E402
from pocketrec.runtime.sync.release import ReleaseInfo, runtime_opens  # noqa: E402
from pocketrec.runtime.sync.store import State, Store  # noqa: E402
from repository_server import URL, RepositoryServer  # noqa: E402 - among the tests, and not on the path before
from tiny import random_rows, tiny_bundle, tiny_refresh, tiny_student  # noqa: E402

NEVER = datetime(2126, 1, 1, tzinfo=timezone.utc)
DEVICE = "5f" * 16
MARK = {"sigstore": {"status": "Active", "usage": "pocketrec"}}
RELEASES = 3
SHARES = (0, 1, 50_000, 333_333, 500_000, 999_999, 1_000_000)
VERSIONS = ("0", "0.1", "0.1.0", "0.1.0.dev3", "0.2", "0.10", "1", "1.0.0.1", "nonsense")


def keys() -> list[SigningKey]:
    """A key for each role, derived from its name."""
    seeds = {role: hashlib.sha256(f"pocketrec vectors: {role}".encode()).digest() for role in ROLES}
    return [SigningKey(role, CryptoSigner(Ed25519PrivateKey.from_private_bytes(seed))) for role, seed in seeds.items()]


def make_bundles(folder: Path) -> list[Path]:
    """One model over three catalogues that share most of their items."""
    first = tiny_bundle(folder / "first", tiny_student(), random_rows(60, seed=1))
    rows = random_rows(80, seed=2)
    return [tiny_refresh(folder / str(n), first, rows[2 * n : 60 + 2 * n]) for n in range(RELEASES)]


def publish_all(bundles: list[Path], repo: Path, store: Path | None = None) -> None:
    """Publish all bundles; a device follows the first two."""
    for number, bundle in enumerate(bundles, 1):
        publish(bundle, signed.Repository(repo), keys(), PublishSettings())
        if store is not None and number < RELEASES:
            follow(repo, store)
    (repo / signed.LOCK).unlink()


def follow(repo: Path, store: Path) -> None:
    """Refresh a device's store once."""
    root = (repo / "metadata" / "1.root.json").read_bytes()
    store.mkdir(exist_ok=True)
    if not (store / "state.json").exists():
        Store(store).remember(State(DEVICE))
    with SyncClient(URL, store, root, mode="latest", transport=RepositoryServer(repo)) as client:
        client.refresh()


def expected(bundles: list[Path], store: Path) -> dict[str, Any]:
    """The results that every client must give."""
    now = Store(store).current()
    versions = []
    for number, bundle in enumerate(bundles, 1):
        digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
        with Recommender.load(bundle, engine="reference") as recommender:
            table = recommender.trie.table
            items = sorted(table.ids(range(len(recommender.trie))))
            first = [item.item_id for item in recommender.recommend([], k=5)]
        versions.append({"release": number, "name": f"stable-{number}-{digest[:16]}", "items": items, "first": first})
    return {
        "versions": versions,
        "store": {"device": DEVICE, "current": now.current, "previous": now.previous},
        "shares": [
            [device, release, share, ReleaseInfo("stable", release, "", "", share=share / 1_000_000).allows(device)]
            for share in SHARES
            for device in (DEVICE, "a", "b", "c")
            for release in (1, 7)
        ],
        "runtimes": [
            [least, have, runtime_opens(least, have)] for least in VERSIONS if least[-1].isdigit() for have in VERSIONS
        ],
    }


def write(folder: Path) -> None:
    """Write all vectors into a folder; an existing one is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    signed._expiry = lambda root, role: NEVER
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        bundles = make_bundles(scratch / "bundles")
        publish_all(bundles, folder / "repo", folder / "store")
        to_custom = ReleaseInfo.to_custom
        ReleaseInfo.to_custom = lambda self: {**to_custom(self), **MARK}
        publish_all(bundles, scratch / "marked")
        shutil.copytree(scratch / "marked" / "metadata", folder / "marked" / "metadata")
        found = expected(bundles, folder / "store")
    for left in ("trust", "downloads"):
        shutil.rmtree(folder / "store" / left, ignore_errors=True)
    (folder / "store" / "lock").unlink(missing_ok=True)
    (folder / "expected.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
