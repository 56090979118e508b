"""Writes a bundle: weights, graphs, trie, model card and, last, the manifest that lists them all.

Everything is written into a folder beside the final one, which takes the final name when the bundle is complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.models.student import Student
from pocketrec.export.experts import BundleExperts
from pocketrec.export.onnx.write import write_graphs
from pocketrec.export.weights import model_spec, write_weights
from pocketrec.runtime.bundle.bundle import (
    MANIFEST_FILE,
    MODEL_KIND,
    TRIE_FILE,
    WEIGHTS_FILE,
    CatalogueSpec,
    Manifest,
    ModelSpec,
    describe_file,
    write_manifest,
)
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.files.atomic import atomic_folder, atomic_write_text

CARD = "README.md"


@dataclass(frozen=True)
class BundleItems:
    """The items that a bundle recommends from.

    sids: unsigned integers [n_items, L], in the order of `ids` and `titles`; an item may lack a title, or all may.
    sid_space: hash of the codebooks that gave the SIDs.
    """

    sids: NDArray[np.unsignedinteger]
    ids: Sequence[str]
    titles: Sequence[str | None] | None
    sid_space: str

    def trie(self, codes: int) -> ItemTrie:
        """Build the trie of these items, with `codes` codes per level.

        :raises TrieError: if SIDs or ids are not unique.
        """
        return ItemTrie.from_rows(
            self.sids, self.ids, codes_per_level=codes, titles=self.titles, sid_space=self.sid_space
        )


@dataclass(frozen=True)
class BundleSettings:
    """How a bundle searches, and how its model is stored.

    beam: beam width unless a call asks for another. headroom: how much wider than today's the widest branch of the trie
    may become, at least 1. format: "onnx" or "gguf". quantize: a name of `SCHEMES` of `export.quantize` (of
    `export.gguf.student` for "gguf").
    """

    beam: int
    headroom: float
    format: str = "onnx"
    quantize: str = "none"

    def max_branch(self, trie: ItemTrie) -> tuple[int, ...]:
        """Slots per level that the graph reserves: today's largest branch with headroom, at most K."""
        widths = (max(1, math.ceil(branch * self.headroom)) for branch in trie.max_branch)
        return tuple(min(trie.codes_per_level, width) for width in widths)


@dataclass(frozen=True)
class Measured:
    """Measurements of a bundle's files: `metrics` on the test questions, `gates` against other exports."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    gates: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Contents:
    """The content of a folder that has no manifest yet; graphs: role → file name."""

    spec: ModelSpec
    trie: ItemTrie
    graphs: Mapping[str, str]
    provenance: Mapping[str, Any]
    fusion: FusionWeights | None = None


Measure = Callable[[Path], Measured]


def write_bundle(
    out: Path,
    student: Student,
    items: BundleItems,
    settings: BundleSettings,
    provenance: Mapping[str, Any] | None = None,
    measure: Measure | None = None,
    experts: BundleExperts | None = None,
) -> Manifest:
    """Write a bundle folder; it replaces an older one of the same name when it is complete.

    :param provenance: where the model comes from, a JSON object for the manifest.
    :param measure: called with the finished bundle before it gets its name; its result goes into the manifest. If it
        raises, the older folder stays.
    :param experts: crowd and words beside the model, by row of `items`; None: the model alone.
    :raises ConfigError: on an unknown quantisation.
    :raises MissingExtraError: if the format's packages are not installed.
    :raises TrieError: if SIDs or ids are not unique.
    """
    with atomic_folder(out) as folder:
        trie = items.trie(student.codes)
        spec = model_spec(student, items.sid_space, settings.beam, settings.max_branch(trie), settings.quantize)
        trie.save(folder / TRIE_FILE)
        graphs = _write_model(folder, student, spec, settings)
        if experts is not None:
            experts.write(folder, trie, items.ids)
        contents = Contents(spec, trie, graphs, provenance or {}, experts.weights if experts else None)
        manifest = finish_bundle(folder, contents)
        if measure is not None:
            manifest = finish_bundle(folder, contents, measure(folder))
    return manifest


def _write_model(folder: Path, student: Student, spec: ModelSpec, settings: BundleSettings) -> dict[str, str]:
    """Write the files of the model; return role → file name."""
    if settings.format == "gguf":
        from pocketrec.export.gguf.student import write_gguf

        return write_gguf(student, spec, folder, settings.quantize)
    write_weights(student, folder / WEIGHTS_FILE, settings.quantize)
    return write_graphs(spec, folder / WEIGHTS_FILE)


def finish_bundle(folder: Path, contents: Contents, measured: Measured | None = None) -> Manifest:
    """Write the model card and the manifest of a folder that holds everything else."""
    measured = measured or Measured()
    spec, trie = contents.spec, contents.trie
    atomic_write_text(folder / CARD, model_card(spec, len(trie), measured.metrics))
    manifest = Manifest(
        model=spec,
        catalogue=CatalogueSpec(items=len(trie), sid_space=trie.sid_space),
        files={p.name: describe_file(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST_FILE},
        graphs=dict(contents.graphs),
        provenance=dict(contents.provenance),
        metrics=dict(measured.metrics),
        gates=tuple(measured.gates),
        fusion=contents.fusion,
    )
    write_manifest(folder, manifest)
    return manifest


def model_card(spec: ModelSpec, items: int, metrics: Mapping[str, Any]) -> str:
    """Return the bundle's README: the model, how to use it, and its measurements."""
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
