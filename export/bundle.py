"""Writes a bundle: weights, graphs, trie, model card and, last, the manifest that vouches for them.

Everything is written into a folder beside the final one, which takes the final name by one rename.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.models.student import Student
from pocketrec.export.onnx.student import write_graphs
from pocketrec.export.weights import model_spec, write_weights
from pocketrec.runtime.bundle.bundle import (
    MANIFEST_FILE,
    MODEL_KIND,
    TRIE_FILE,
    CatalogueSpec,
    Manifest,
    ModelSpec,
    describe_file,
    write_manifest,
)
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.engines.numpy_student import WEIGHTS

CARD = "README.md"


@dataclass(frozen=True)
class Measured:
    """What was measured on a bundle's files: `metrics` on the test questions, `gates` against other exports."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    gates: Sequence[Mapping[str, Any]] = ()


Measure = Callable[[Path], Measured]


def slots(trie: ItemTrie, headroom: float) -> tuple[int, ...]:
    """Slots per level that the graph reserves: today's largest branch with room for growth, at most K."""
    return tuple(min(trie.codes_per_level, max(1, math.ceil(b * headroom))) for b in trie.max_branch)


def write_bundle(
    out: Path,
    student: Student,
    sids: NDArray[np.unsignedinteger],
    item_ids: Sequence[str],
    titles: Sequence[str] | None,
    sid_space: str,
    *,
    beam: int,
    headroom: float,
    provenance: Mapping[str, Any],
    measure: Measure | None = None,
    format: str = "onnx",
    quantize: str = "none",
) -> Manifest:
    """Write a bundle folder; an older one of the same name is replaced when the new one is whole.

    :param sids: [n_items, L], in the order of `item_ids` and `titles`.
    :param measure: called with the finished, still nameless bundle; what it returns goes into the manifest. Where it
        raises, nothing takes the final name.
    :param format: "onnx" or "gguf".
    :param quantize: how weights are stored, a name of `SCHEMES` of `export.quantize` or of `export.gguf`.
    :raises ConfigError: on an unknown quantisation.
    :raises MissingExtraError: if the format's packages are not installed.
    :raises TrieError: if SIDs or ids are not unique.
    """
    partial = begin_folder(out)
    trie = ItemTrie.from_rows(sids, item_ids, codes_per_level=student.codes, titles=titles, sid_space=sid_space)
    spec = model_spec(student, sid_space, beam, slots(trie, headroom), quantize)
    trie.save(partial / TRIE_FILE)
    graphs = _write_model(partial, student, spec, format, quantize)
    manifest = _finish(partial, spec, trie, graphs, provenance, Measured())
    if measure is not None:
        manifest = _finish(partial, spec, trie, graphs, provenance, measure(partial))
    put_in_place(partial, out)
    return manifest


def _write_model(folder: Path, student: Student, spec: ModelSpec, format: str, quantize: str) -> dict[str, str]:
    """Write the files of the model; return role → file name."""
    if format == "gguf":
        from pocketrec.export.gguf.student import write_gguf

        return write_gguf(student, spec, folder, quantize)
    write_weights(student, folder / WEIGHTS, quantize)
    return write_graphs(spec, folder / WEIGHTS)


def begin_folder(out: Path) -> Path:
    """Make an empty folder beside a final one, for `put_in_place`; what an earlier attempt left goes."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def put_in_place(partial: Path, out: Path) -> None:
    """Give a finished folder its final name; an older folder of that name goes."""
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)


def _finish(
    folder: Path,
    spec: ModelSpec,
    trie: ItemTrie,
    graphs: Mapping[str, str],
    provenance: Mapping[str, Any],
    measured: Measured,
) -> Manifest:
    (folder / CARD).write_text(model_card(spec, len(trie), measured.metrics), encoding="utf-8")
    manifest = Manifest(
        model=spec,
        catalogue=CatalogueSpec(items=len(trie), sid_space=trie.sid_space),
        files={p.name: describe_file(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST_FILE},
        graphs=dict(graphs),
        provenance=dict(provenance),
        metrics=dict(measured.metrics),
        gates=tuple(measured.gates),
    )
    write_manifest(folder, manifest)
    return manifest


def model_card(spec: ModelSpec, items: int, metrics: Mapping[str, Any]) -> str:
    """The bundle's README: what it is, how to use it, and what was measured on it."""
    over = "item tokens and a semantic-ID decoder" if spec.kind == MODEL_KIND else "the tokens of semantic IDs"
    lines = [
        "# A pocketrec bundle",
        "",
        f"Recommends from {items:,} items, on the device, without a network. "
        f"{spec.parameters:,} parameters: {spec.layers} Llama layers of width {spec.dim} over {over} "
        f"({spec.levels} levels of {spec.codes} codes); beam {spec.beam}, "
        f"at most {spec.max_history} items of history.",
        "",
        "```python",
        "from pocketrec import Recommender",
        "",
        'rec = Recommender.load("path/to/this/folder")',
        'for item in rec.recommend(["id-1", "id-2"], k=10):',
        "    print(item.item_id, item.score, item.title)",
        "```",
    ]
    if metrics:
        lines += [
            "",
            "Measured on these very files, through the runtime:",
            "",
            "| measure | value |",
            "|---|---|",
        ]
        lines += [f"| {name} | {value} |" for name, value in _flat(metrics)]
    return "\n".join(lines) + "\n"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            out += _flat(value, f"{prefix}{name}, ")
        else:
            out.append((prefix + name, round(value, 5) if isinstance(value, float) else value))
    return out
