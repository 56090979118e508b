"""A trained run over a new catalogue: new items get semantic IDs from the frozen codebooks, the model stays.

Items that stay keep their semantic ID, items that are gone leave the trie, and the semantic IDs of items that the run
or the bundle once had are not given to others, so that an item that comes back is the one that left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.bundle.bundle import Bundle, open_bundle
from pocketrec.runtime.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from pocketrec.distill.config import RunConfig
    from pocketrec.distill.data.catalogue import Catalogue
    from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
    from pocketrec.export.refresh import Resemblances
    from pocketrec.runtime.catalogue.trie import ItemTrie

Known = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Refreshed:
    """What became of the catalogue.

    Attributes: `added`, `removed`, `kept`, against the base bundle's catalogue; `moved`, new items that did not get
    their nearest codes, since these were taken; `cold`, items that the model was not trained on, which recommend
    themselves by what they resemble; `crowding`, by level: mean and largest number of children of a prefix,
    and how many the model's graph has room for.
    """

    added: int
    removed: int
    kept: int
    moved: int
    cold: int
    crowding: list[dict[str, float]]


def refresh_catalogue(
    run: Path, items: Path, out: Path, base: Path | None = None, images: Path | None = None, progress: Progress = SILENT
) -> Refreshed:
    """Write a bundle with a run's model over a new catalogue.

    :param run: a finished run; its codebooks and text encoder are used.
    :param items: the whole new catalogue, with the columns of the training one.
    :param out: folder of the new bundle; an older one of that name is replaced when the new one is whole.
    :param base: a bundle of the run, whose model and catalogue are gone on from; None: the run's own.
    :param images: `.npy`, float [rows of `items`, d], where the run had image vectors.
    :raises ConfigError: if vectors are missing that the codebooks were made with.
    :raises BundleError: if the base is not of this run, or its graph has no room for the new catalogue.
    :raises DataError: if the catalogue cannot be used.
    """
    from pocketrec.config import load_config
    from pocketrec.distill.data.load import load_items
    from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
    from pocketrec.export.refresh import write_refreshed
    from pocketrec.runtime.catalogue.trie import ItemTrie

    config = load_config(run / "config.json", [f'data.images="{images}"'] if images else [])
    bundle = open_bundle(base or run / "export" / "bundle")
    ids, old = SemanticIds.load(run / "sids"), bundle.load_trie()
    if old.sid_space != ids.sid_space:
        raise BundleError(f"the bundle {bundle.path} is not of the run {run}: its codebooks are others")
    catalogue = load_items(items, config.data)
    before = dict(zip(old.table.ids(np.arange(len(old))), map(tuple, old.rows.tolist()), strict=True))
    trained = _of_run(run, ids)
    known = {**trained, **before}
    new = np.array([i for i, item in enumerate(catalogue.item_ids) if item not in known], np.int64)
    vectors = _text_vectors(run, catalogue, list(trained), config, progress)
    placed, moved = _place(catalogue, new, known, ids, config, vectors)
    rows = [known.get(item) for item in catalogue.item_ids]
    for place, row in zip(new.tolist(), placed.tolist(), strict=True):
        rows[place] = tuple(row)
    trie = ItemTrie.from_rows(
        np.array(rows, np.int64).reshape(-1, old.levels),
        catalogue.item_ids,
        codes_per_level=old.codes_per_level,
        titles=catalogue.titles if old.table.title_bytes is not None else None,
        sid_space=old.sid_space,
    )
    cold = None if vectors is None else _cold_items(trie, catalogue.item_ids, trained, vectors)
    write_refreshed(bundle, trie, out, cold)
    stayed = sum(item in before for item in catalogue.item_ids)
    unseen = 0 if cold is None else len(cold.items)
    return Refreshed(len(trie) - stayed, len(old) - stayed, stayed, moved, unseen, _crowding(bundle, trie))


def _of_run(run: Path, ids: SemanticIds) -> Known:
    """Semantic IDs of all items that the run was trained on."""
    from pocketrec.distill.data.storage import load_catalogue

    return dict(zip(load_catalogue(run / "data").item_ids, map(tuple, ids.rows.tolist()), strict=True))


def _text_vectors(
    run: Path, catalogue: Catalogue, trained: list[str], config: RunConfig, progress: Progress
) -> NDArray[np.float32] | None:
    """Text vectors of the whole new catalogue, float32 [n, d]; None where the run has no encoder for new texts."""
    from pocketrec.distill.semantic_ids.text_vectors import encode_texts

    if config.text.encoder == "none" or Path(config.text.encoder).suffix == ".npy":
        return None
    row = {item: place for place, item in enumerate(trained)}
    known = np.array([row.get(item, -1) for item in catalogue.item_ids], np.int64)
    stored = np.load(run / "text" / "vectors.npy", mmap_mode="r", allow_pickle=False)
    out = np.asarray(stored[np.maximum(known, 0)], np.float32)
    cold = np.flatnonzero(known < 0)
    if len(cold):
        out[cold] = encode_texts([catalogue.texts[i] for i in cold.tolist()], config.text, progress)
    return out


def _cold_items(
    trie: ItemTrie, item_ids: Sequence[str], trained: Known, vectors: NDArray[np.float32]
) -> Resemblances | None:
    """What the items that the model was not trained on resemble; None if it was trained on all."""
    from pocketrec.distill.semantic_ids.resemblance import resemblances
    from pocketrec.export.refresh import Resemblances

    row = trie.table.find(list(item_ids))
    new = np.array([place for place, item in enumerate(item_ids) if item not in trained], np.int64)
    if len(new) == 0:
        return None
    new = new[np.argsort(row[new])]  # in the order of the trie's table
    counts, neighbours, weights = resemblances(vectors, new)
    return Resemblances(row[new], row[neighbours], weights, counts)


def _place(
    catalogue: Catalogue,
    new: NDArray[np.int64],
    known: Known,
    ids: SemanticIds,
    config: RunConfig,
    vectors: NDArray[np.float32] | None,
) -> tuple[NDArray[np.unsignedinteger], int]:
    """Give the new items semantic IDs; return them, and how many did not get their nearest."""
    from pocketrec.distill.semantic_ids.fusion import Sources
    from pocketrec.distill.semantic_ids.text_vectors import normalise

    if len(new) == 0:
        return np.empty((0, ids.rows.shape[1]), ids.rows.dtype), 0
    text = image = None
    if "text" in ids.space.projections:
        if vectors is None:
            raise ConfigError(
                "this run took its text vectors from a file, which has none for new items; train with an encoder "
                "(text.encoder = minilm or a local directory) to refresh its catalogue"
            )
        text = vectors[new]
    if "image" in ids.space.projections:
        if catalogue.images is None:
            raise ConfigError("these semantic IDs were made with image vectors; give those of the new catalogue, too")
        image = normalise(catalogue.images[new])
    taken = np.array(sorted(set(known.values())), ids.rows.dtype)
    return ids.assign_beside(taken, Sources(text=text, image=image))


def _crowding(bundle: Bundle, trie: ItemTrie) -> list[dict[str, float]]:
    nodes = [1, *(len(np.unique(trie.rows[:, : level + 1], axis=0)) for level in range(trie.levels))]
    room = bundle.manifest.model.max_branch
    return [
        {"mean": round(below / max(above, 1), 2), "largest": trie.max_branch[level], "room": room[level]}
        for level, (above, below) in enumerate(pairwise(nodes))
    ]
