"""A published repository behind a server in memory, and devices that follow it; no sockets."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from network_faults import Fault, no_fault
from pocketrec.export.publish.keys import SigningKey, create_keys, load_keys
from pocketrec.export.publish.publish import PublishSettings, publish, withdraw
from pocketrec.export.publish.repository import Repository
from pocketrec.runtime.sync import Limits, SyncClient
from pocketrec.runtime.sync.transport import Response
from tiny import random_rows, tiny_bundle, tiny_refresh, tiny_student

URL = "https://releases.example/repo"
QUICK = Limits(attempts=3, pause=0.0)


@dataclass
class RepositoryServer:
    """A transport that reads the files of a folder. `plan`: number of a request, from 0 -> fault; `always`: any other.

    `requests` lists the paths that were requested.
    """

    folder: Path
    plan: dict[int, Fault] = field(default_factory=dict)
    always: Fault = no_fault
    requests: list[str] = field(default_factory=list)

    def get(self, url: str, offset: int = 0) -> Response:
        number = len(self.requests)
        self.requests.append(url.removeprefix(URL))
        path = self.folder / url.removeprefix(URL).lstrip("/")
        if not path.is_file():
            return Response(404, None, iter([b"not found"]))
        return Response(*self.plan.get(number, self.always)(url, offset, path.read_bytes()))


@dataclass
class World:
    """A repository with its keys, bundles to publish, and devices that follow it."""

    folder: Path
    bundles: list[Path]
    keys: list[SigningKey]

    def __post_init__(self) -> None:
        self.repo = self.folder / "repo"
        self.server = RepositoryServer(self.repo)

    def publish(self, number: int = 0, **settings) -> int:
        return publish(self.bundles[number], Repository(self.repo), self.keys, PublishSettings(**settings)).release

    def withdraw(self, release: int, channel: str = "stable") -> None:
        withdraw(Repository(self.repo), self.keys, channel, release)

    @property
    def root(self) -> bytes:
        return (self.repo / "metadata" / "1.root.json").read_bytes()

    def client(self, store: str = "store", **options) -> SyncClient:
        """A device; its requests are counted from 0."""
        self.server.requests.clear()
        settings = {"limits": QUICK, "transport": self.server, "mode": "latest", **options}
        return SyncClient(URL, self.folder / store, self.root, **settings)

    def frozen(self, name: str = "frozen") -> Path:
        """A copy of the repository as it is now, for replaying it later."""
        return shutil.copytree(self.repo, self.folder / name)


def make_bundles(folder: Path) -> list[Path]:
    """Four bundles of one model over different catalogues, and one of another model."""
    first = tiny_bundle(folder / "first", tiny_student(), random_rows(60, seed=1))
    other = tiny_bundle(folder / "other", tiny_student(seed=5), random_rows(60, seed=1))
    rows = random_rows(80, seed=2)
    made = [tiny_refresh(folder / str(i), first, rows[2 * i : 60 + 2 * i]) for i in range(4)]
    return [*made, tiny_refresh(folder / "4", other, rows[8:68])]


def unencrypted_keys(folder: Path) -> list[SigningKey]:
    create_keys(folder)
    return load_keys(folder, environment={})


def items_of(bundle: Path) -> set[str]:
    from pocketrec.runtime.catalogue.trie import ItemTrie

    trie = ItemTrie.load(bundle / "trie.safetensors")
    return set(trie.table.ids(range(len(trie))))


def still_recommends(store: Path, bundle: Path) -> bool:
    """Whether a device without a network recommends the items of a bundle, and no others."""
    with SyncClient(URL, store, b"", mode="local", transport=RepositoryServer(Path("nowhere"))) as client:
        live = client.recommender(engine="reference")
        found = live.recommend([], k=1000)
        return {item.item_id for item in found} == items_of(bundle)
