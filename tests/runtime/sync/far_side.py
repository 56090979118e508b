"""The far side in memory: a published repository, and a line to it that fails as told.

A fault is a function of (url, begin, content) → (status, begin, pieces); pieces may raise, or never end.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pocketrec.export.publish.keys import SigningKey, create_keys, load_keys
from pocketrec.export.publish.publish import PublishSettings, publish, withdraw
from pocketrec.export.publish.repository import Repository
from pocketrec.runtime.errors import LineError
from pocketrec.runtime.sync import Limits, SyncClient
from pocketrec.runtime.sync.transport import Answer
from tiny import random_rows, tiny_bundle, tiny_refresh, tiny_student

URL = "https://far.side/repo"
PIECE = 4096
QUICK = Limits(attempts=3, pause=0.0)

Fault = Callable[[str, int, bytes], tuple[int, "int | None", Iterator[bytes]]]


def in_pieces(content: bytes) -> Iterator[bytes]:
    for begin in range(0, len(content), PIECE):
        yield content[begin : begin + PIECE]


def well(url: str, begin: int, content: bytes) -> tuple[int, int | None, Iterator[bytes]]:
    """No fault."""
    return (206, begin, in_pieces(content[begin:])) if begin else (200, None, in_pieces(content))


def cut(after: int) -> Fault:
    def fault(url, begin, content):
        def pieces():
            yield content[begin : begin + after]
            raise LineError("the line was cut")

        return (206 if begin else 200), begin or None, pieces()

    return fault


def short(less: int) -> Fault:
    """Ends early, as if that were all."""
    return lambda url, begin, content: well(url, begin, content[: max(begin, len(content) - less)])


def longer(url, begin, content):
    return well(url, begin, content + b"x")


def endless(url, begin, content):
    return (206 if begin else 200), begin or None, itertools.repeat(b"\0" * PIECE)


def corrupt(at: int, mask: int = 0xFF) -> Fault:
    def fault(url, begin, content):
        place = at % max(len(content), 1)
        return well(url, begin, content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :])

    return fault


def refuses(url, begin, content):
    raise LineError("no connection")


def status(code: int) -> Fault:
    return lambda url, begin, content: (code, None, iter([b"an error page"]))


def ignores_ranges(url, begin, content):
    return 200, None, in_pieces(content)


def wrong_range(url, begin, content):
    """Says that it goes on, from elsewhere."""
    return (206, max(begin - 1, 0), in_pieces(content[max(begin - 1, 0) :])) if begin else well(url, begin, content)


@dataclass
class FarSide:
    """Serves the files of a folder. `plan`: question's number, from 0 → fault; `always`: for all others."""

    folder: Path
    plan: dict[int, Fault] = field(default_factory=dict)
    always: Fault = well
    asked: list[str] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    def ask(self, url: str, begin: int = 0) -> Answer:
        number = len(self.asked)
        self.asked.append(url.removeprefix(URL))
        path = self.folder / url.removeprefix(URL).lstrip("/")
        if not path.is_file():
            return Answer(404, None, iter([b"not found"]))
        code, starts, pieces = self.plan.get(number, self.always)(url, begin, path.read_bytes())
        return Answer(code, starts, pieces)


@dataclass
class World:
    """A repository with its keys, bundles to publish, and devices that follow it."""

    folder: Path
    bundles: list[Path]
    keys: list[SigningKey]

    def __post_init__(self) -> None:
        self.repo = self.folder / "repo"
        self.far = FarSide(self.repo)

    def publish(self, number: int = 0, **settings) -> int:
        return publish(self.bundles[number], Repository(self.repo), self.keys, PublishSettings(**settings)).release

    def withdraw(self, release: int, channel: str = "stable") -> None:
        withdraw(Repository(self.repo), self.keys, channel, release)

    @property
    def root(self) -> bytes:
        return (self.repo / "metadata" / "1.root.json").read_bytes()

    def client(self, store: str = "store", **options) -> SyncClient:
        """A device; its questions are counted from 0."""
        self.far.asked.clear()
        settings = {"limits": QUICK, "line": self.far, "mode": "latest", **options}
        return SyncClient(URL, self.folder / store, self.root, **settings)

    def frozen(self, name: str = "frozen") -> Path:
        """The repository as it is now, for replaying it later."""
        return shutil.copytree(self.repo, self.folder / name)


def make_bundles(folder: Path) -> list[Path]:
    """Four bundles of one model over different catalogues, and one of another model."""
    first = tiny_bundle(folder / "first", tiny_student(), random_rows(60, seed=1))
    other = tiny_bundle(folder / "other", tiny_student(seed=5), random_rows(60, seed=1))
    rows = random_rows(80, seed=2)
    made = [tiny_refresh(folder / str(i), first, rows[2 * i : 60 + 2 * i]) for i in range(4)]
    return [*made, tiny_refresh(folder / "4", other, rows[8:68])]


def plain_keys(folder: Path) -> list[SigningKey]:
    create_keys(folder)
    return load_keys(folder, environment={})


def items_of(bundle: Path) -> set[str]:
    from pocketrec.runtime.catalogue.trie import ItemTrie

    trie = ItemTrie.load(bundle / "trie.safetensors")
    return set(trie.table.ids(range(len(trie))))


def still_recommends(store: Path, bundle: Path) -> bool:
    """Whether a device without a line recommends the items of a bundle, and no others."""
    with SyncClient(URL, store, b"", mode="local", line=FarSide(Path("nowhere"))) as client:
        live = client.recommender(engine="reference")
        found = live.recommend([], k=1000)
        return {item.item_id for item in found} == items_of(bundle)
