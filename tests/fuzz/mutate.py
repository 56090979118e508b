"""Damage to files, by a seeded generator: the same seed, the same damage."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import PocketRecError
from pocketrec.runtime.recommender import Recommender

NUMBERS = (0, 1, -1, 2, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**63, 2**64, 1e308, 0.5, True, None)
HEAD = 2048
WORDS = (b"NaN", b"Infinity", b"\x00", b"\xff", b"{}", b"[]", b'""', b"..", b"/", b"U8", b"I64", b"1e999", b"-1")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Change bytes here and there, or cut, repeat, swap and insert pieces."""
    out = bytearray(data)
    head = rng.random() < 0.5  # where files say what they are
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        place = rng.randrange(min(len(out), HEAD if head else len(out)) + 1)
        size = rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(6)
        if kind == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(out):
            out[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            del out[place : place + size]
        elif kind == 3:
            out[place:place] = out[max(0, place - size) : place]
        elif kind == 4:
            out[place : place + size] = rng.choice(WORDS)
        else:
            del out[place if rng.random() < 0.2 else len(out) - size :]
    return bytes(out)


def twisted(manifest: dict[str, object], rng: random.Random) -> dict[str, object]:
    """Change a value of a manifest, or leave it out."""
    out = json.loads(json.dumps(manifest))
    where = out
    while True:
        name = rng.choice(sorted(where))
        inner = where[name]
        if isinstance(inner, dict) and inner and rng.random() < 0.85:
            where = inner
            continue
        break
    kind = rng.randrange(4)
    if kind == 0:
        del where[name]
    elif kind == 1:
        where[name] = rng.choice(NUMBERS)
    elif kind == 2:
        where[name] = rng.choice(("", "..", "x" * 1000, "a/b", [], {}, [[]], ["x"], "model.safetensors"))
    elif isinstance(inner, int) and not isinstance(inner, bool):
        where[name] = inner + rng.choice((-1, 1, 1000))
    else:
        where[name] = [inner]
    return out


def sealed(folder: Path) -> None:
    """Write the files' hashes into the manifest as they are now, so that the checks behind the hashes are reached."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        entry["sha256"], entry["bytes"] = hashlib.sha256(data).hexdigest(), len(data)
    path.write_text(json.dumps(manifest))


def trie_case(good: Path, place: Path, rng: random.Random) -> Callable[[], object]:
    """A damaged trie file, and what loads it and looks around in it."""
    path = place / "trie"
    path.write_bytes(damaged(good.read_bytes(), rng))

    def use() -> object:
        trie = ItemTrie.load(path)
        ids = trie.table.ids(range(len(trie)))
        assert len(set(ids)) == len(ids)
        assert trie.table.find(ids).tolist() == list(range(len(ids)))
        assert all(trie.contains(row) for row in trie.rows.tolist())
        return ids, trie.rows.tolist(), trie.table.titles(range(len(ids)))

    return use


def bundle_case(good: Path, place: Path, rng: random.Random, engine: str) -> Callable[[], object]:
    """Make a bundle with one damaged file, mostly with the right hash, and a function that opens it and recommends."""
    folder = place / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    names = sorted(p.name for p in folder.iterdir() if p.suffix != ".md")
    name = rng.choice(names)
    if name == "manifest.json" and rng.random() < 0.7:
        (folder / name).write_text(json.dumps(twisted(json.loads((folder / name).read_text()), rng)))
    else:
        (folder / name).write_bytes(damaged((folder / name).read_bytes(), rng))
        if name != "manifest.json" and rng.random() < 0.8:
            sealed(folder)

    def use() -> object:
        with Recommender.load(folder, engine) as recommender:
            found = recommender.recommend(recommender.trie.table.ids(range(3)), k=5)
            known = set(recommender.trie.table.ids(range(len(recommender.trie))))
            for item in found:
                assert item.item_id in known
                assert abs(item.score) < 1e9
        return [item.item_id for item in found]

    return use


def session_case(recommender: Recommender, rng: random.Random) -> Callable[[], object]:
    """A damaged session, and what goes on with it."""
    saved = recommender.session(recommender.trie.table.ids([1, 5])).to_bytes()
    data = damaged(saved, rng)

    def use() -> object:
        session = recommender.restore_session(data)
        assert session.history == tuple(recommender.trie.table.ids([1, 5]))
        return session.recommend(3)

    return use


def outcome(use: Callable[[], object]) -> str:
    """What came of it: "refused" by an error of ours of one line, or "answered". Anything else is raised."""
    try:
        use()
    except PocketRecError as error:
        if "\n" in str(error) or not str(error):
            raise AssertionError(f"the refusal is no single sentence: {error!r}") from error
        return "refused"
    return "answered"
