"""A trained model with a new catalogue, and with crowd and words from newer data; the model stays the same.

From a run, new items get semantic IDs from the frozen codebooks. A bundle alone has none and takes no new items.

Items that stay keep their semantic ID, and removed items leave the trie. The semantic ID of an item that the run or the
base bundle once had is never given to another item, so that an item that comes back has its old one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.progress import SILENT, Progress
from pocketrec.run.refresh_experts import ExpertSettings, ExpertsReport, NewerLog, fresh_experts
from pocketrec.run.run import TEXT_VECTORS, Run
from pocketrec.runtime.bundle.bundle import MANIFEST_FILE, Bundle, open_bundle
from pocketrec.runtime.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from pocketrec.distill.data.catalogue import Catalogue
    from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
    from pocketrec.export.refresh import Resemblances
    from pocketrec.runtime.catalogue.trie import ItemTrie

Known = Mapping[str, tuple[int, ...]]  # item id → semantic ID
TENTH_CASES = 300  # validation users whose lists are measured


@dataclass(frozen=True)
class Refreshed:
    """How a catalogue changed.

    added, removed, kept: numbers of items, against the base bundle. moved: new items that did not get their nearest
    codes, because another item has them. cold: items that the model was not trained on; they are recommended by their
    resemblance to others. crowding: for every level, the mean and the largest number of children of a prefix, and the
    number that the model's graph has room for. experts: what became of crowd and words.
    """

    added: int
    removed: int
    kept: int
    moved: int
    cold: int
    crowding: list[dict[str, float]]
    experts: ExpertsReport


def refresh_catalogue(
    run: Run,
    items: Path | None,
    out: Path,
    base: Path | None = None,
    progress: Progress = SILENT,
    log: NewerLog | None = None,
) -> Refreshed:
    """Write a bundle with a run's model and a new catalogue, or crowd and words from newer data, or both.

    :param run: a finished run; its codebooks and text encoder are used. Where its items have image vectors, its
        configuration names those of the new catalogue (`data.images`: `.npy`, float [rows of `items`, d]).
    :param items: the whole new catalogue, with the columns of the training catalogue; None: the base's.
    :param out: folder of the new bundle; an older bundle there is replaced once the new one is complete.
    :param base: a bundle of the run that gives the model and the previous catalogue; None: the run's own.
    :param log: the log that the crowd is built from; None: items that stay keep their edges and popularity.
    :raises ConfigError: if vectors are missing that the codebooks were made with, or a log is given and the bundle has
        no crowd.
    :raises BundleError: if the base is not a bundle of this run, or its graph has no room for the new catalogue.
    :raises DataError: if the catalogue or the log cannot be used.
    """
    bundle = open_bundle(base or run.bundle)
    ids, old = run.ids, bundle.load_trie()
    if old.sid_space != ids.sid_space:
        raise BundleError(
            f"the bundle {bundle.path} does not belong to the run {run.folder}: it has other codebooks; "
            "give a bundle that was exported from this run"
        )
    settings = ExpertSettings(run.config.data, run.config.experts)
    if items is None:
        return _write(_same_catalogue(bundle, old), out, settings, log, run, progress)
    from pocketrec.distill.data.load import load_items

    catalogue = load_items(items, run.config.data)
    before = dict(zip(old.table.ids(np.arange(len(old))), map(tuple, old.rows.tolist()), strict=True))
    trained: Known = dict(zip(run.catalogue.item_ids, map(tuple, ids.rows.tolist()), strict=True))
    known = {**trained, **before}
    vectors = _text_vectors(run, catalogue, list(trained), progress)
    rows, moved = _semantic_ids(catalogue, known, ids, vectors)
    trie = _trie(rows, catalogue, old)
    cold = None if vectors is None else _cold_items(trie, catalogue.item_ids, trained, vectors)
    return _write(_NewCatalogue(bundle, old, trie, catalogue, cold, moved), out, settings, log, run, progress)


def refresh_bundle(
    bundle: Path,
    items: Path | None,
    out: Path,
    progress: Progress = SILENT,
    log: NewerLog | None = None,
) -> Refreshed:
    """Write a bundle with another bundle's model, without the run that made it; it takes no new items.

    The columns and filters of the log, and the settings of the experts, are those that the bundle's provenance has.
    Parameters and errors otherwise as for `refresh_catalogue`.

    :param bundle: folder of the bundle.
    :param items: a catalogue of some or all of the bundle's items, with their texts; None: the bundle's.
    :raises ConfigError: if the catalogue has new items.
    """
    base = open_bundle(bundle)
    settings, old = ExpertSettings.of_bundle(base), base.load_trie()
    if items is None:
        return _write(_same_catalogue(base, old), out, settings, log, None, progress)
    from pocketrec.distill.data.load import load_items
    from pocketrec.export.refresh import carried_cold_items

    catalogue = load_items(items, settings.data)
    place = old.table.find(catalogue.item_ids)
    new = [item for item, row in zip(catalogue.item_ids, place.tolist(), strict=True) if row < 0]
    if new:
        raise ConfigError(
            f"{len(new)} items of {items} are not in the bundle {bundle} (the first is {new[0]!r:.60}), and a bundle "
            "alone cannot give them semantic IDs; refresh from the run's folder, or leave them out"
        )
    trie = _trie(old.rows[old.leaves_of(place)].astype(np.int64), catalogue, old)
    return _write(
        _NewCatalogue(base, old, trie, catalogue, carried_cold_items(base, trie)), out, settings, log, None, progress
    )


@dataclass(frozen=True)
class _NewCatalogue:
    """What a bundle is written from. catalogue: the texts; None: not known. moved: as in `Refreshed`."""

    base: Bundle
    old: ItemTrie
    trie: ItemTrie
    catalogue: Catalogue | None
    cold: Resemblances | None
    moved: int = 0


def _same_catalogue(base: Bundle, trie: ItemTrie) -> _NewCatalogue:
    from pocketrec.export.refresh import carried_cold_items

    return _NewCatalogue(base, trie, trie, None, carried_cold_items(base, trie))


def _write(
    new: _NewCatalogue, out: Path, settings: ExpertSettings, log: NewerLog | None, run: Run | None, progress: Progress
) -> Refreshed:
    from pocketrec.export.refresh import write_refreshed

    trie, old = new.trie, new.old
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST_FILE).exists():
        raise ConfigError(f"{out} is a folder that is no bundle, and would be replaced; give another --out")
    experts, report = fresh_experts(new.base, trie, settings, new.catalogue, log, run, progress)
    if new.cold is not None and run is not None and new.base.manifest.fusion is not None:
        experts = replace(experts, tenth=_tenth(new.base, run))
    write_refreshed(new.base, trie, out, new.cold, experts)
    stayed = int((old.table.find(trie.table.ids(np.arange(len(trie)))) >= 0).sum())
    unseen = 0 if new.cold is None else len(new.cold.items)
    crowding = _crowding(new.base, trie)
    return Refreshed(len(trie) - stayed, len(old) - stayed, stayed, new.moved, unseen, crowding, report)


def _tenth(base: Bundle, run: Run) -> tuple[float, float] | None:
    """Measure the base's lists for validation users, as the scores of cold items need it."""
    from pocketrec.distill.evaluation.protocol import sample
    from pocketrec.export.experts import tenth_scores
    from pocketrec.runtime.recommender import Recommender

    with Recommender.load(base.path, cold_items=False) as recommender:
        row = recommender.trie.table.find(run.catalogue.item_ids)
        histories = [row[history] for history in sample(run.split.valid, TENTH_CASES).histories]
        return tenth_scores(recommender, [history[history >= 0] for history in histories])


def _trie(rows: NDArray[np.int64], catalogue: Catalogue, old: ItemTrie) -> ItemTrie:
    from pocketrec.runtime.catalogue.trie import ItemTrie

    return ItemTrie.from_rows(
        rows,
        catalogue.item_ids,
        codes_per_level=old.codes_per_level,
        titles=catalogue.titles if old.table.title_bytes is not None else None,
        sid_space=old.sid_space,
    )


def _text_vectors(run: Run, catalogue: Catalogue, trained: list[str], progress: Progress) -> NDArray[np.float32] | None:
    """Text vectors of the whole new catalogue, float32 [n, d]; None if the run has no encoder for new texts."""
    from pocketrec.distill.semantic_ids.text_vectors import encode_texts

    text = run.config.text
    if text.encoder == "none" or Path(text.encoder).suffix == ".npy":
        return None
    row = {item: place for place, item in enumerate(trained)}
    known = np.array([row.get(item, -1) for item in catalogue.item_ids], np.int64)
    stored = np.load(run.folder / TEXT_VECTORS, mmap_mode="r", allow_pickle=False)
    out = np.asarray(stored[np.maximum(known, 0)], np.float32)
    cold = np.flatnonzero(known < 0)
    if len(cold):
        out[cold] = encode_texts([catalogue.texts[i] for i in cold.tolist()], text, progress)
    return out


def _cold_items(
    trie: ItemTrie, item_ids: Sequence[str], trained: Known, vectors: NDArray[np.float32]
) -> Resemblances | None:
    """Which items the ones that the model was not trained on resemble; None if it was trained on all."""
    from pocketrec.distill.semantic_ids.resemblance import resemblances
    from pocketrec.export.refresh import Resemblances

    row = trie.table.find(list(item_ids))
    new = np.array([place for place, item in enumerate(item_ids) if item not in trained], np.int64)
    if len(new) == 0:
        return None
    new = new[np.argsort(row[new])]  # in the order of the trie's table
    counts, neighbours, weights = resemblances(vectors, new)
    return Resemblances(row[new], row[neighbours], weights, counts)


def _semantic_ids(
    catalogue: Catalogue, known: Known, ids: SemanticIds, vectors: NDArray[np.float32] | None
) -> tuple[NDArray[np.int64], int]:
    """Return the semantic IDs of the catalogue, [n, levels], and how many new items did not get their nearest."""
    new = np.array([i for i, item in enumerate(catalogue.item_ids) if item not in known], np.int64)
    placed, moved = _place(catalogue, new, known, ids, vectors)
    rows = [known.get(item) for item in catalogue.item_ids]
    for place, row in zip(new.tolist(), placed.tolist(), strict=True):
        rows[place] = tuple(row)
    return np.array(rows, np.int64).reshape(-1, ids.rows.shape[1]), moved


def _place(
    catalogue: Catalogue,
    new: NDArray[np.int64],
    known: Known,
    ids: SemanticIds,
    vectors: NDArray[np.float32] | None,
) -> tuple[NDArray[np.unsignedinteger], int]:
    """Return the semantic IDs of the new items, and how many did not get their nearest."""
    from pocketrec.distill.semantic_ids.fusion import Sources
    from pocketrec.distill.semantic_ids.text_vectors import normalise

    if len(new) == 0:
        return np.empty((0, ids.rows.shape[1]), ids.rows.dtype), 0
    text = image = None
    if "text" in ids.space.projections:
        if vectors is None:
            raise ConfigError(
                "this run read its text vectors from a file, which has none for new items; to refresh the catalogue, "
                "train with an encoder (text.encoder = minilm or a local directory)"
            )
        text = vectors[new]
    if "image" in ids.space.projections:
        if catalogue.images is None:
            raise ConfigError(
                "this run's semantic IDs use image vectors; give those of the new catalogue with --images"
            )
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
