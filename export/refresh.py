"""Writes a bundle with the same model over another catalogue of its SID space: only the trie differs."""

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
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.cold_items import FORMAT, VERSION
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


def write_cold_items(path: Path, cold: Resemblances) -> None:
    """Write the file of cold items; equal contents give equal bytes.

    :raises OSError: if it cannot be written.
    """
    write_tensors(path, {"format": FORMAT, "version": VERSION}, cold._asdict())


def write_refreshed(base: Bundle, trie: ItemTrie, out: Path, cold: Resemblances | None = None) -> Manifest:
    """Write a bundle with the model of another bundle and a new catalogue; the model's id does not change.

    Metrics of the old catalogue do not hold for the new one, so they move to `provenance["measured_before"]`.

    :param base: an opened bundle.
    :param trie: the whole new catalogue.
    :param cold: the items that each new item resembles; None: the bundle gets no file of cold items.
    :raises BundleError: if the trie does not fit the model; nothing is written then.
    """
    check_fit(base.manifest.model, trie)
    old = base.manifest
    measured = old.provenance.get("measured_before", {"items": old.catalogue.items, "metrics": dict(old.metrics)})
    with atomic_folder(out) as folder:
        for name in old.files:
            if name not in (TRIE_FILE, COLD_FILE, GRAPH_FILE, WORDS_FILE, CARD):
                shutil.copyfile(base.file(name), folder / name)
        trie.save(folder / TRIE_FILE)
        carry_over(base, trie, folder)
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
        )
        write_manifest(folder, manifest)
    return manifest
