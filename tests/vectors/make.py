"""Writes the vectors: small bundles with their expected lists, and damaged bundles with the errors they must raise.

    python tests/vectors/make.py [FOLDER]

Needs torch and the exporters; the readers of the vectors (Python, Kotlin, the browser) need neither. The expected lists
are those of the numpy reference; lists of a whole catalogue are also compared with the model itself by brute force.
`README.md` beside this file describes the format.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.models.student import Student
from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle
from pocketrec.export.experts import BundleExperts
from pocketrec.export.llama.convert import convert_llama
from pocketrec.export.refresh import Resemblances, write_refreshed
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.recommendation import Recommendations
from pocketrec.runtime.recommender import Recommender

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from malformed import write_refusals  # noqa: E402 - beside this file, and not on the path before

from experts import random_crowd, random_words  # noqa: E402
from tiny import CODES, SPACE, brute_force, random_rows, tiny_bundle, tiny_student  # noqa: E402
from tiny_llama import PROMPT, judge, tiny_llama, whole_space, write_index  # noqa: E402

ITEMS = 60
TOLERANCE = 1e-4
GAP = 2 * TOLERANCE  # neighbours in a list are further apart than this, so that the order is certain
SHAPES: dict[str, dict[str, int]] = {
    "plain": {"seed": 2},
    "grouped": {"seed": 1, "heads": 4, "kv_heads": 2, "layers": 3, "pair_dim": 0},
    "pruned": {
        "seed": 1,
        "dim": 12,
        "heads": 1,
        "kv_heads": 1,
        "head_dim": 8,
        "ffn": 5,
        "decoder_dim": 3,
        "pair_dim": 1,
    },
}
QUANTIZED = {"dim": 32, "ffn": 64, "head_dim": 16, "decoder_dim": 32}
WIDE_SEED = 0
WIDE_CODES = 300  # more than a byte holds
USUAL = {"history": [], "k": 10, "exclude_seen": True, "beam": None, "within": None, "control": None}
BUNDLES = ("plain", "grouped", "pruned", "int8", "int4", "wide", "refreshed", "cold", "tokens")


def ids(*numbers: int) -> list[str]:
    return [f"item-{n}" for n in numbers]


def write_bundles(folder: Path) -> dict[str, Any]:
    """Write all bundles; return, by name, functions that give the log-probability of every item after a history."""
    rows = random_rows(ITEMS)
    judges = {}
    for name, shape in SHAPES.items():
        student = tiny_student(**shape)
        tiny_bundle(folder / name, student, rows)
        judges[name] = lambda history, student=student: brute_force(student, rows[history].astype(np.int32), rows)
    for scheme in ("int8", "int4"):
        tiny_bundle(folder / scheme, tiny_student(**QUANTIZED), rows, quantize=scheme)
    write_wide(folder / "wide")
    write_refresh(folder / "refreshed", folder / "plain", rows)
    write_cold(folder / "cold", folder / "plain")
    write_experts(folder / "experts")
    judges["tokens"] = write_tokens(folder / "tokens", rows)
    return judges


def write_wide(folder: Path) -> None:
    """Codes of two bytes, names outside ASCII, items without a title."""
    rng = np.random.default_rng(WIDE_SEED)
    rows = np.unique(rng.integers(0, WIDE_CODES, (ITEMS, 2)).astype(np.uint16), axis=0)
    config = StudentConfig(dim=8, layers=1, heads=1, kv_heads=1, ffn=8, decoder_dim=6, max_history=4, pair_dim=0)
    student = Student(config, 2, WIDE_CODES, rows).eval()
    for parameter in student.parameters():
        parameter.data.add_(parameter.data.new_tensor(0.4 * rng.standard_normal(parameter.shape)))
    names = [f"item-{i}" if i % 3 else f"ítem-☃-{i}" for i in range(len(rows))]
    titles = [f"Título 😀 {i}" if i % 2 else "" for i in range(len(rows))]
    write_bundle(folder, student, BundleItems(rows, names, titles, SPACE), BundleSettings(beam=5, headroom=WIDE_CODES))


def write_refresh(folder: Path, base: Path, rows: NDArray[np.uint8]) -> None:
    """The model of `plain` over another catalogue: two items have left, one has another SID, four are new."""
    free = sorted({tuple(r) for r in whole_space().tolist()} - {tuple(r) for r in rows.tolist()})
    kept = {f"item-{i}": tuple(row) for i, row in enumerate(rows.tolist()) if i not in (4, 17)}
    kept["item-9"] = free[100]
    catalogue = kept | {f"new-{n}": free[7 * n + 1] for n in range(4)}
    trie = ItemTrie.from_rows(
        list(catalogue.values()), list(catalogue), codes_per_level=CODES, titles=[n.upper() for n in catalogue],
        sid_space=SPACE,
    )  # fmt: skip
    write_refreshed(open_bundle(base), trie, folder)


def write_cold(folder: Path, base: Path) -> None:
    """The catalogue of `plain`, whose last twelve items have no interactions: each resembles up to four others."""
    bundle, rng = open_bundle(base), np.random.default_rng(0)
    trie = bundle.load_trie()
    items = np.sort(trie.table.find(ids(*range(ITEMS - 12, ITEMS))))
    counts = rng.integers(0, 5, len(items)).astype(np.uint8)
    others = [
        rng.choice(np.setdiff1d(np.arange(ITEMS), [i]), n, replace=False) for i, n in zip(items, counts, strict=True)
    ]
    weights = rng.uniform(0.02, 1.0, int(counts.sum())).astype(np.float16)
    cold = Resemblances(items, np.concatenate(others).astype(np.int32), weights, counts)
    write_refreshed(bundle, trie, folder, cold)


def write_tokens(folder: Path, rows: NDArray[np.uint8]) -> Any:
    """A converted Llama that generates SID tokens after a prompt, over the whole SID space cut to some items."""
    with tempfile.TemporaryDirectory() as place:
        llama = tiny_llama(Path(place) / "model")
        write_index(Path(place) / "index.json", rows)
        convert_llama(
            Path(place) / "model", Path(place) / "index.json", folder,
            prompt=PROMPT, max_history=6, beam=4, headroom=CODES,
        )  # fmt: skip
    return lambda history: judge(llama, PROMPT, rows[history].astype(np.int64), rows)


def listed(found: Recommendations, in_order: bool = True) -> list[dict[str, Any]]:
    scores = [item.score for item in found]
    gaps = [a - b for a, b in itertools.pairwise(scores)]
    assert not in_order or min(gaps, default=1.0) > GAP, "two scores are too close: take another seed"
    return [{"id": item.item_id, "score": round(item.score, 6), "title": item.title} for item in found]


def recommended(recommender: Recommender, call: dict[str, Any]) -> Recommendations:
    """Make the call that a vector describes."""
    within = None if call.get("within") is None else recommender.trie.filter_ids(call["within"])
    control = call.get("control")
    prepared = None if control is None else recommender.control(within=within, **control)
    return recommender.recommend(
        call["history"],
        call["k"],
        call["exclude_seen"],
        None if prepared else within,
        beam_of(recommender, call),
        prepared,
    )


def beam_of(recommender: Recommender, call: dict[str, Any]) -> int | None:
    """The beam of a call. Where it has none, that of the model, which only Python widens; with experts Python's own."""
    fused = recommender.retriever.experts is not None
    return call["beam"] if call["beam"] is not None or fused else recommender.manifest.model.beam


def names_of(recommender: Recommender) -> list[str]:
    """Every item's id, by its number."""
    table = recommender.trie.table
    return sorted(table.ids(range(len(table))), key=lambda name: int(name.split("-")[-1]))


def answers(folder: Path, judges: dict[str, Any]) -> list[dict[str, Any]]:
    out = []
    for bundle in BUNDLES:
        with Recommender.load(folder / bundle, "reference") as recommender:
            names = sorted(
                recommender.trie.table.ids(range(len(recommender.trie))), key=lambda n: int(n.split("-")[-1])
            )
            for name, call in calls(names).items():
                call = {**USUAL, **call}
                found = recommended(recommender, call)
                expected = listed(found, in_order=name != "diverse")
                if bundle in judges and call["k"] >= len(names) and not call["exclude_seen"]:
                    agree_with(judges[bundle], call["history"], expected)
                out.append(
                    {
                        "name": f"{bundle}: {name}",
                        "bundle": bundle,
                        **call,
                        "expected": expected,
                        "unknown": list(found.unknown),
                    }
                )
    return out


def agree_with(judge: Any, history: list[str], expected: list[dict[str, Any]]) -> None:
    """Compare a list of every item with the model itself."""
    truth = judge(np.array([int(name.split("-")[-1]) for name in history], np.int64))
    for item in expected:
        assert abs(truth[int(item["id"].split("-")[-1])] - item["score"]) < TOLERANCE, item


def calls(names: list[str]) -> dict[str, dict[str, Any]]:
    """The calls that are made on every bundle, by name."""
    everything = {"k": 2 * len(names), "exclude_seen": False}
    some = names[::7]
    return {
        "nothing known": {},
        "one item": {"history": names[1:2]},
        "every item after nothing": everything,
        "every item after three": {"history": names[:3], **everything},
        "as many as the model reads": {"history": names[10:16]},
        "more than it reads": {"history": names[20:31]},
        "an item twice": {"history": [names[5], names[6], names[5]]},
        "unknown items": {"history": ["nobody", names[2], "stranger", "nobody"]},
        "seen items kept": {"history": names[30:34], "exclude_seen": False},
        "more wanted than there are": {"history": names[:2], "k": 1000},
        "a beam that the seen items fill": {"history": names[8:40], "k": 5, "beam": 1},
        "a sub-catalogue": {"history": names[:2], "k": 100, "within": some},
        "a sub-catalogue all seen": {"history": some, "within": some},
        "a sub-catalogue of nothing known": {"history": names[:2], "within": ["nobody"]},
        "allowed and denied": {"history": names[3:5], "control": {"allow": names[:20], "deny": names[:20:2]}},
        "denied within": {"history": names[3:5], "within": some, "control": {"deny": some[:2]}},
        "biased": {"history": names[3:5], "control": {"bias": {names[40]: 30.0, names[7]: -5.0, names[50]: 2.5}}},
        "a least score": {"history": names[6:9], "k": 50, "control": {"min_score": -8.0}},
        "diverse": {"history": names[11:13], "k": 6, "control": {"diversity": 0.6}},
    }


def sessions(folder: Path) -> list[dict[str, Any]]:
    """Histories that grow longer than the model reads; the saved form of each at its end."""
    out = []
    for bundle in ("plain", "int8", "wide", "cold", "tokens"):
        with Recommender.load(folder / bundle, "reference") as recommender:
            session = recommender.session()
            names = names_of(recommender)
            steps: list[dict[str, Any]] = []
            for n, name in enumerate([*names[:3], "nobody", *names[12:20], names[1]]):
                steps.append({"observe": name, "known": session.observe(name)})
                if n % 2 == 0:
                    call = {"k": 5, "exclude_seen": n % 4 == 0, "within": names[::2] if n % 6 == 0 else None}
                    within = recommender.trie.filter_ids(call["within"]) if call["within"] else None
                    expected = listed(
                        session.recommend(call["k"], call["exclude_seen"], within, recommender.manifest.model.beam)
                    )
                    steps.append({"recommend": call, "expected": expected})
            saved = session.to_bytes().decode()
            out.append({"name": f"{bundle}: a session", "bundle": bundle, "steps": steps, "saved": saved})
    return out


def swaps(folder: Path) -> list[dict[str, Any]]:
    """One history, before and after a swap to another bundle."""
    history = ids(4, 9, 2, 33)
    out = []
    for old, new in (("plain", "refreshed"), ("plain", "grouped"), ("refreshed", "plain"), ("plain", "cold")):
        case: dict[str, Any] = {"name": f"{old} to {new}", "from": old, "to": new, "history": history}
        for name, when in ((old, "before"), (new, "after")):
            with Recommender.load(folder / name, "reference") as recommender:
                found = recommender.recommend(history, beam=recommender.manifest.model.beam)
                case[when], case[f"unknown_{when}"] = listed(found), list(found.unknown)
        out.append(case)
    return out


def explanations(folder: Path) -> list[dict[str, Any]]:
    out = []
    for bundle in ("plain", "int8"):
        with Recommender.load(folder / bundle, "reference") as recommender:
            for history in (ids(1, 2, 3), ids(5), []):
                why = recommender.explain(history, "item-40")
                changes = [[name, round(change, 6)] for name, change in why.history]
                out.append(
                    {"name": f"{bundle}: after {len(history)}", "bundle": bundle, "history": history, "item": "item-40",
                     "score": round(why.score, 6), "history_changes": changes}
                )  # fmt: skip
    return out


def write_experts(folder: Path) -> None:
    """The model of `plain` with crowd and words beside it."""
    beside = BundleExperts(
        random_crowd(ITEMS, 5), random_words(ITEMS, 5), FusionWeights(crowd=0.6, words=2.0, seen=-1.5, words_items=2)
    )
    names, titles = [f"item-{i}" for i in range(ITEMS)], [f"Title {i}" for i in range(ITEMS)]
    items, settings = BundleItems(random_rows(ITEMS), names, titles, SPACE), BundleSettings(40, CODES)
    write_bundle(folder, tiny_student(**SHAPES["plain"]), items, settings, experts=beside)


def fused_answers(folder: Path) -> list[dict[str, Any]]:
    """Lists of the model with its experts; the beam is wide enough for engines that cannot widen it."""
    out = []
    with Recommender.load(folder / "experts", "reference") as recommender:
        names = names_of(recommender)
        histories = {
            "nothing": [], "one item": names[1:2], "more than the model reads": names[7:31:2],
            "items that repeat": [names[5], names[9], names[5], names[9], names[5]],
            "unknown ids": ["nobody", names[3], "nothing", names[30], "nobody"],
        }  # fmt: skip
        ways: dict[str, dict[str, Any]] = {
            "excluded": {}, "kept": {"exclude_seen": False}, "everything": {"k": 2 * ITEMS, "exclude_seen": False},
            "within": {"within": names[::3]}, "within, kept": {"within": names[1::2], "exclude_seen": False},
            "biased": {"control": {"bias": {names[40]: 30.0, names[7]: -5.0, names[9]: 1.5}}},
            "denied": {"control": {"deny": names[:20:2]}, "within": names[:45], "exclude_seen": False},
        }  # fmt: skip
        for (said, history), (way, options) in itertools.product(histories.items(), ways.items()):
            call = {**USUAL, "history": history, **options}
            found = recommended(recommender, call)
            expected = listed(found)
            if way == "everything":
                agree_with(lambda numbers: fused_scores(recommender, numbers), found_of(history), expected)
            out.append({"name": f"{said}, {way}", "bundle": "experts", **call, "expected": expected,
                        "unknown": list(found.unknown)})  # fmt: skip
    return out


def found_of(history: list[str]) -> list[str]:
    return [name for name in history if name.startswith("item-")]


def fused_scores(recommender: Recommender, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score of every item by the formulas, without a search: by number."""
    student, rows, experts = tiny_student(**SHAPES["plain"]), random_rows(ITEMS), recommender.retriever.experts
    assert experts is not None
    assert experts.crowd is not None
    assert experts.words is not None
    place = recommender.trie.table.find(ids(*range(ITEMS)))  # table row of each number
    seen, w = place[numbers], experts.weights
    share = np.zeros(ITEMS)
    reached, arrived = experts.crowd.reached(seen, w.crowd_recency)
    share[reached] = arrived / max(arrived.sum(), 1e-30)
    popular = np.exp(experts.crowd.log_popularity.astype(np.float64))
    fused = w.crowd * np.log((1 - w.popular) * share + w.popular * popular)
    reached, cosines = experts.words.reached(seen[-w.words_items :], w.words_recency)
    fused[reached] += w.words * cosines
    fused[np.unique(seen)] += w.seen
    return brute_force(student, rows[numbers][-6:].astype(np.int32), rows) + fused[place]


def write_vectors(folder: Path) -> None:
    """Write everything into a folder; older vectors in it are deleted."""
    for part in ("bundles", "malformed"):
        shutil.rmtree(folder / part, ignore_errors=True)
    bundles = folder / "bundles"
    bundles.mkdir(parents=True)
    judges = write_bundles(bundles)
    vectors = {
        "format": "pocketrec-vectors",
        "version": 1,
        "tolerance": TOLERANCE,
        "answers": answers(bundles, judges),
        "sessions": sessions(bundles),
        "swaps": swaps(bundles),
        "explanations": explanations(bundles),
        "fused": fused_answers(bundles),
        **write_refusals(folder),
    }
    text = json.dumps(vectors, ensure_ascii=False, indent=1, allow_nan=False)
    (folder / "vectors.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_vectors(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
