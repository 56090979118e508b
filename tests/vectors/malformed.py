"""The damaged bundles, sessions and calls of the vectors, and the message that each refusal must contain.

A damaged bundle is kept as the files that differ. Where hashes would hide the damage, the manifest has the new hashes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from damage import (
    COLD,
    GRAPH,
    MANIFEST,
    TRIE,
    constants,
    cut,
    double,
    edit,
    elsewhere,
    empty,
    put,
    rename,
    replace,
    rewrite,
    rewrite_ids,
    sealed,
    twice,
    write,
)

from pocketrec.runtime.errors import PocketRecError
from pocketrec.runtime.recommender import Recommender

BASE = "plain"
Edit = Callable[[Path], None]


def write_refusals(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Write `malformed/`; return the cases, after checking that each is refused with its words."""
    bundles = []
    for name, says, damage, remove in damages():
        base = "cold" if name.startswith("cold") else BASE
        with tempfile.TemporaryDirectory() as place:
            bundle = Path(place) / "bundle"
            shutil.copytree(folder / "bundles" / base, bundle)
            damage(bundle)
            for gone in remove:
                (bundle / gone).unlink()
            case: dict[str, Any] = {"name": name, "bundle": base, "overlay": None, "remove": list(remove)}
            case |= refused(partial(load_and_recommend, bundle), says)
            changed = [p for p in sorted(bundle.iterdir()) if differs(p, folder / "bundles" / base / p.name)]
            if changed:
                case["overlay"] = f"malformed/{name.replace(':', '').replace(' ', '-')}"
                (folder / case["overlay"]).mkdir(parents=True)
                for path in changed:
                    shutil.copyfile(path, folder / case["overlay"] / path.name)
        bundles.append(case)
    with Recommender.load(folder / "bundles" / BASE, "onnx") as recommender:
        return {
            "refusals": bundles,
            "session_refusals": session_refusals(recommender),
            "argument_refusals": argument_refusals(recommender),
        }


def differs(path: Path, base: Path) -> bool:
    return not base.exists() or path.read_bytes() != base.read_bytes()


def refused(action: Callable[[], object], says: str) -> dict[str, str]:
    """Make sure that a call is refused in these words; return the fields of the vector."""
    try:
        action()
    except PocketRecError as error:
        found: PocketRecError = error
    else:
        raise AssertionError(f"nothing was refused, where {says!r} should be said")
    assert says in str(found), f"{found} does not say {says!r}"
    return {"error": type(found).__name__, "says": says}


def load_and_recommend(bundle: Path) -> None:
    """Load a bundle and use it; one of the two must fail."""
    with Recommender.load(bundle, "onnx") as recommender:
        recommender.recommend([])


def leave(_bundle: Path) -> None:
    """Change nothing."""


def damages() -> Iterator[tuple[str, str, Edit, tuple[str, ...]]]:
    """Yield name, words of the refusal, a function that damages a bundle, and files to delete."""
    yield "no manifest", "has no manifest.json", leave, (MANIFEST,)
    yield "no trie", "trie.safetensors is missing", leave, (TRIE,)
    yield "no weights", "model.safetensors is missing", leave, ("model.safetensors",)
    for name, says, damage in (*manifest_damages(), *trie_damages(), *cold_damages(), *graph_damages()):
        yield name, says, damage, ()


def manifest_damages() -> Iterator[tuple[str, str, Edit]]:
    def model(name: str, value: Any) -> Edit:
        return lambda bundle: edit(bundle, ["model", name], value)

    def entry(name: str, value: Any) -> Edit:
        return lambda bundle: edit(bundle, ["files", TRIE, name], value)

    def graph(role: str, value: Any) -> Edit:
        return lambda bundle: edit(bundle, ["graphs", role], value)

    yield "file: cut short", "bytes, but the manifest says", lambda b: cut(b / TRIE, -1)
    yield "file: a bit flipped", "SHA-256 differs", lambda b: put(b / TRIE, -1, b"\xee")
    yield "file: weights of the same length", "SHA-256 differs", lambda b: put(b / "model.safetensors", -4, b"\0\1\2\3")
    yield "manifest: no JSON", "is not valid JSON", lambda b: cut(b / MANIFEST, -20)
    yield "manifest: a name twice", "is not valid JSON", lambda b: replace(b, '"dim":', '"dim": 4, "dim":')
    yield "manifest: NaN", "is not valid JSON", lambda b: replace(b, '"metrics": {}', '"metrics": {"a": NaN}')
    yield "manifest: no UTF-8", "is not valid JSON", lambda b: put(b / MANIFEST, 5, b"\xff")
    yield "manifest: deep", "is not valid JSON", lambda b: replace(b, '"metrics": {}', f'"metrics": {"[" * 3000}')
    yield "manifest: a list", "a top level that is not an object", lambda b: write(b / MANIFEST, b"[]")
    yield "manifest: a later schema", "reads 2; update pocketrec", lambda b: edit(b, ["schema_version"], 3)
    yield "manifest: an older schema", "reads 2; export the bundle again", lambda b: edit(b, ["schema_version"], 1)
    yield "manifest: another kind", "the model is of kind 'gpt'", model("kind", "gpt")
    yield "manifest: no levels", "model.levels is missing", model("levels", None)
    yield "manifest: a size of nothing", "model.dim is 0", model("dim", 0)
    yield "manifest: a size as text", "model.dim is '16'", model("dim", "16")
    yield "manifest: a size as truth", "model.layers is True", model("layers", True)
    yield "manifest: a fraction", "model.heads is 2.5", model("heads", 2.5)
    yield "manifest: a huge beam", "model.beam is", model("beam", 10**12)
    yield "manifest: heads that do not divide", "a divisor of heads", model("kv_heads", 3)
    yield "manifest: an odd head", "an even number", model("head_dim", 7)
    yield "manifest: branches of too few levels", "model.max_branch is", model("max_branch", [8])
    yield "manifest: a path", "which is not a plain file name", lambda b: rename(b, "../trie.safetensors")
    yield "manifest: a hidden name", "which is not a plain file name", lambda b: rename(b, ".trie")
    yield "manifest: trie not listed", "does not list 'trie.safetensors'", lambda b: edit(b, ["files", TRIE], None)
    yield (
        "manifest: a hash in capitals",
        "64 lower-case hex digits",
        lambda b: edit(b, ["files", TRIE, "sha256"], "AB" * 32),
    )
    yield "manifest: negative bytes", "bytes is -1", entry("bytes", -1)
    yield (
        "manifest: a graph not listed",
        "does not list 'other.onnx'",
        lambda b: edit(b, ["graphs", "encoder"], "other.onnx"),
    )
    yield "manifest: two spaces", "is not the model's", lambda b: edit(b, ["catalogue", "sid_space"], "1" * 32)
    yield "manifest: another count", "but the manifest says 61", lambda b: edit(b, ["catalogue", "items"], 61)
    yield "manifest: no graph", "no 'recommender' graph", graph("recommender", None)
    yield (
        "manifest: narrow branches",
        "but the model's graph has room",
        model("max_branch", [1, 8, 8]),
    )


def trie_damages() -> Iterator[tuple[str, str, Edit]]:
    def header(change: Callable[[dict[str, Any]], None]) -> Edit:
        return lambda bundle: rewrite(bundle, TRIE, change, None)

    def data(name: str, place: int, value: bytes) -> Edit:
        return lambda bundle: rewrite(bundle, TRIE, None, (name, place, value))

    meta = "__metadata__"
    damaged = "is damaged or no safetensors file"
    yield "trie: no header", damaged, lambda b: sealed(b, lambda: write(b / TRIE, b"\x10\0\0"))
    yield "trie: a huge header", "over the limit of", lambda b: sealed(b, lambda: put(b / TRIE, 0, b"\xff" * 7))
    yield "trie: a header of nothing", damaged, lambda b: sealed(b, lambda: put(b / TRIE, 8, b"["))
    yield "trie: bytes missing", damaged, lambda b: sealed(b, lambda: cut(b / TRIE, -1))
    yield "trie: bytes left over", damaged, lambda b: sealed(b, lambda: write(b / TRIE, (b / TRIE).read_bytes() + b"x"))
    yield "trie: a tensor twice", damaged, lambda b: sealed(b, lambda: double(b / TRIE))
    yield "trie: overlapping tensors", damaged, header(lambda h: h["codes"].update(data_offsets=[0, 180]))
    yield (
        "trie: a shape that is none",
        "has an invalid shape",
        header(lambda h: h["codes"].update(shape=[-60, 3])),
    )
    yield "trie: another format", "has format 'x', not", header(lambda h: h[meta].update(format="x"))
    yield "trie: a later version", "has version '9'", header(lambda h: h[meta].update(version="9"))
    yield "trie: no space", "lacks 'sid_space'", header(lambda h: h[meta].pop("sid_space"))
    yield "trie: another space", "is not the model's", header(lambda h: h[meta].update(sid_space="f" * 32))
    yield "trie: fewer codes", "but codes_per_level is 4", header(lambda h: h[meta].update(codes_per_level="4"))
    yield "trie: more codes", "codes, but the model", header(lambda h: h[meta].update(codes_per_level="9"))
    yield (
        "trie: codes as words",
        "not a number from",
        header(lambda h: h[meta].update(codes_per_level="eight")),
    )
    yield "trie: codes of another type", "has codes of type I8", header(lambda h: h["codes"].update(dtype="I8"))
    yield "trie: flat codes", "has codes of shape", header(lambda h: h["codes"].update(shape=[180]))
    yield "trie: no ids", "lacks the tensor", header(lambda h: h.update(names=h.pop("id_bytes")))
    yield (
        "trie: a stranger among the tensors",
        "that the format does not know",
        header(lambda h: h.update(more=empty(h))),
    )
    yield "trie: a code out of range", "has a code 200", data("codes", 179, b"\xc8")
    yield "trie: codes out of order", "are not sorted", data("codes", 0, b"\x07")
    yield "trie: a semantic ID twice", "have one semantic ID", lambda b: rewrite(b, TRIE, None, ("codes", 3, None))
    yield "trie: lengths that do not add up", "id_lengths that sum to", data("id_lengths", 0, b"\x01\0")
    yield "trie: an id of nothing", "ids of 0 to", lambda b: rewrite_ids(b, lambda ids: ["", ids[0] + ids[1], *ids[2:]])
    yield "trie: an id that is no UTF-8", "ids that are not valid UTF-8", data("id_bytes", 0, b"\xff")
    yield "trie: an id twice", "is malformed", lambda b: rewrite_ids(b, twice)
    yield "trie: a title that is no UTF-8", "titles that are not valid UTF-8", data("title_bytes", 3, b"\xc3")


def cold_damages() -> Iterator[tuple[str, str, Edit]]:
    def header(change: Callable[[dict[str, Any]], None]) -> Edit:
        return lambda bundle: rewrite(bundle, COLD, change, None)

    def data(name: str, place: int, value: bytes) -> Edit:
        return lambda bundle: rewrite(bundle, COLD, None, (name, place, value))

    meta = "__metadata__"
    yield "cold: bytes missing", "is damaged or no safetensors", lambda b: sealed(b, lambda: cut(b / COLD, -1))
    yield "cold: another format", "has format 'x'", header(lambda h: h[meta].update(format="x"))
    yield "cold: a later version", "'9'", header(lambda h: h[meta].update(version="9"))
    yield "cold: another tensor", "has other tensors than", header(lambda h: h.update(more=empty(h)))
    yield "cold: another type", "has weights of I16", header(lambda h: h["weights"].update(dtype="I16"))
    yield "cold: items out of order", "rising", data("items", 0, b"\x3b\0\0\0")
    yield "cold: no such item", "rows of the catalogue", data("items", 44, b"\x3c\0\0\0")
    yield "cold: a count too many", "do not fit each other", data("counts", 0, b"\xc8")
    yield "cold: no such neighbour", "not in the catalogue", data("neighbours", 0, b"\x3c\0\0\0")
    yield "cold: a weight of nothing", "not above 0", data("weights", 0, b"\0\0")
    yield "cold: a weight above one", "at most 1", data("weights", 0, b"\1\x3c")
    yield "cold: a weight that is no number", "at most 1", data("weights", 0, b"\1\x7c")


def graph_damages() -> Iterator[tuple[str, str, Edit]]:
    import numpy as np

    def graph(rows: list[int], scores: list[float], **how: Any) -> Edit:
        content = constants(np.array(rows, np.int32), np.array(scores, np.float32), **how)
        return lambda bundle: sealed(bundle, lambda: write(bundle / GRAPH, content))

    yield (
        "graph: no graph",
        "cannot open recommender.onnx",
        lambda b: sealed(b, lambda: write(b / GRAPH, b"\x08\x09nonsense")),
    )
    yield (
        "graph: weights from elsewhere",
        "recommender.onnx takes weights",
        lambda b: sealed(b, lambda: elsewhere(b / GRAPH)),
    )
    yield "graph: an unknown input", "recommender.onnx has 'history2'", graph([1], [-1.0], history="history2")
    yield "graph: no scores", "does not give 'scores'", graph([1], [-1.0], scores_name="other")
    yield "answer: no such item", "names items that do not exist", graph([60], [-1.0])
    yield "answer: a negative item", "names items that do not exist", graph([-1], [-1.0])
    yield "answer: an item twice", "names an item twice", graph([3, 3], [-1.0, -2.0])
    yield "answer: worse before better", "names a worse item before a better one", graph([3, 4], [-2.0, -1.0])
    yield "answer: a probability above one", "gives a score of", graph([3], [5.0])
    yield "answer: other lengths", "where int32 and float32 of one length are needed", graph([3, 4], [-1.0])


def session_refusals(recommender: Recommender) -> list[dict[str, Any]]:
    session = recommender.session(["item-1", "item-2"])
    good = json.loads(session.to_bytes())
    texts = {
        "no JSON": ("{", "damaged"),
        "a name twice": ('{"format":"a","format":"b"}', "damaged"),
        "something else": (json.dumps({"a": 1}), "this is not a saved session"),
        "a later version": (json.dumps({**good, "version": 2}), "of version 2"),
        "items that are no texts": (json.dumps({**good, "items": [1, 2]}), "damaged"),
        "other items": (json.dumps({**good, "items": ["item-1", "item-3"]}), "do not match its checksum"),
        "no model": (json.dumps({**good, "model": None}), "damaged"),
    }
    return [
        {"name": name, "bundle": BASE, "saved": text}
        | refused(partial(recommender.restore_session, text.encode()), says)
        for name, (text, says) in texts.items()
    ]


def argument_refusals(recommender: Recommender) -> list[dict[str, Any]]:
    calls: dict[str, tuple[dict[str, Any], str]] = {
        "nothing wanted": ({"k": 0}, "k is 0; it must be at least 1"),
        "less than nothing wanted": ({"k": -3}, "k is -3"),
        "no beam": ({"beam": 0}, "beam is 0"),
        "a beam below nothing": ({"beam": -1}, "beam is -1"),
        "too much diversity": ({"control": {"diversity": 1.5}}, "diversity is 1.5"),
        "a bias beyond all scores": ({"control": {"bias": {"item-1": 1e9}}}, "item-1"),
    }

    def ask(k: int = 10, beam: int | None = None, control: dict[str, Any] | None = None) -> None:
        prepared = None if control is None else recommender.control(**control)
        recommender.recommend([], k, beam=beam, control=prepared)

    return [
        {"name": name, "bundle": BASE, "call": {"history": [], **call}} | refused(partial(ask, **call), says)
        for name, (call, says) in calls.items()
    ]
