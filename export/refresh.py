"""Writes a bundle with the same model over another catalogue of its SID space, or with other crowd and words.

Only the trie, the crowd's graph, the words and the file of cold items differ.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketrec.export.bundle import CARD, model_card
from pocketrec.export.experts import carry_over
from pocketrec.runtime.bundle.bundle import (
    COLD_FILE,
    GRAPH_FILE,
    MANIFEST_FILE,
    TRIE_FILE,
    WORDS_FILE,
    Bundle,
    CatalogueSpec,
    Manifest,
    check_fit,
    describe_file,
    write_manifest,
)
from pocketrec.runtime.bundle.manifest import REFRESHED_FILES
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.cold_items import FORMAT, VERSION
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.words import Words
from pocketrec.runtime.files.atomic import atomic_folder, atomic_write_text
from pocketrec.runtime.files.safetensors import write_tensors


class Resemblances(NamedTuple):
    """The items that each new item resembles, as rows of the trie's table (format: `pocketrec.runtime.cold_items`).

    items: int32 [n], the new items, rising. counts: uint8 [n], the number of items that each resembles. neighbours:
    int32 [sum of counts], the resembled items, one new item after the other. weights: float16, likewise, at most 1.
    """

    items: NDArray[np.int32]
    neighbours: NDArray[np.int32]
    weights: NDArray[np.float16]
    counts: NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class FreshExperts:
    """Crowd and words for a new catalogue, by row of its table; None: those of the base are carried over.

    tenth: score of the tenth item of a list and the model's share of it, for the scores of cold items
    (`export.experts.tenth_scores`); None: as the base has them.
    """

    crowd: Crowd | None = None
    words: Words | None = None
    tenth: tuple[float, float] | None = None


def write_cold_items(path: Path, cold: Resemblances) -> None:
    """Write the file of cold items; equal contents give equal bytes.

    :raises OSError: if it cannot be written.
    """
    write_tensors(path, {"format": FORMAT, "version": VERSION}, cold._asdict())


def carried_cold_items(base: Bundle, trie: ItemTrie) -> Resemblances | None:
    """Return a bundle's cold items by the rows of another catalogue; None if it has none.

    :param base: an opened bundle.
    :param trie: the new catalogue; items that it lacks are left out.
    """
    old = base.load_cold(base.manifest.catalogue.items)
    if old is None:
        return None
    row = trie.table.find(base.load_trie().table.ids(np.arange(base.manifest.catalogue.items))).astype(np.int64)
    known, new = row[np.repeat(old.known, np.diff(old.first))], row[old.new]
    order = np.lexsort((known, new))
    order = order[(known[order] >= 0) & (new[order] >= 0)]
    items = np.sort(row[old.items])
    items = items[items >= 0]
    return Resemblances(
        items.astype(np.int32),
        known[order].astype(np.int32),
        old.weights[order].astype(np.float16),
        np.bincount(new[order], minlength=len(trie))[items].astype(np.uint8),
    )


def write_refreshed(
    base: Bundle, trie: ItemTrie, out: Path, cold: Resemblances | None = None, experts: FreshExperts | None = None
) -> Manifest:
    """Write a bundle with the model of another bundle and a new catalogue; the model's id does not change.

    Metrics of the old catalogue do not hold for the new one, so they move to `provenance["measured_before"]`. The
    weights of crowd and words stay as they were fitted.

    :param base: an opened bundle.
    :param trie: the whole new catalogue.
    :param cold: the items that each new item resembles; None: the bundle gets no file of cold items.
    :param experts: crowd and words for the new catalogue; what is missing is carried over from the base.
    :raises BundleError: if the trie does not fit the model; nothing is written then.
    """
    check_fit(base.manifest.model, trie)
    old, fusion = base.manifest, base.manifest.fusion
    if fusion is not None and experts is not None and experts.tenth is not None:
        fusion = dataclasses.replace(fusion, tenth=experts.tenth[0], tenth_model=experts.tenth[1])
    measured = old.provenance.get("measured_before", {"items": old.catalogue.items, "metrics": dict(old.metrics)})
    with atomic_folder(out) as folder:
        for name in old.files:
            if name not in (*REFRESHED_FILES, CARD):
                shutil.copyfile(base.file(name), folder / name)
        trie.save(folder / TRIE_FILE)
        _write_experts(base, trie, folder, experts or FreshExperts())
        if cold is not None:
            write_cold_items(folder / COLD_FILE, cold)
        atomic_write_text(folder / CARD, model_card(old.model, len(trie), {}))
        manifest = dataclasses.replace(
            old,
            catalogue=CatalogueSpec(len(trie), trie.sid_space),
            files={p.name: describe_file(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST_FILE},
            provenance={**old.provenance, "measured_before": measured},
            metrics={},
            gates=(),
            fusion=fusion,
        )
        write_manifest(folder, manifest)
    return manifest


def _write_experts(base: Bundle, trie: ItemTrie, folder: Path, fresh: FreshExperts) -> None:
    """Write the experts that the base has: fresh ones where given, else those of the base, for the new rows."""
    carry_over(base, trie, folder)
    if fresh.crowd is not None and GRAPH_FILE in base.manifest.files:
        fresh.crowd.save(folder / GRAPH_FILE)
    if fresh.words is not None and WORDS_FILE in base.manifest.files:
        fresh.words.save(folder / WORDS_FILE)
