"""Crowd and words built again for a bundle: from texts, and from a log that is newer than the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from pocketrec.config import load_config
from pocketrec.distill.config import DataConfig, ExpertsConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.run.run import Run
from pocketrec.runtime.bundle.bundle import GRAPH_FILE, WORDS_FILE, Bundle
from pocketrec.runtime.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pocketrec.distill.data.catalogue import Catalogue
    from pocketrec.distill.data.newer_log import UserLog
    from pocketrec.export.refresh import FreshExperts
    from pocketrec.runtime.catalogue.trie import ItemTrie
    from pocketrec.runtime.experts.crowd import Crowd
    from pocketrec.runtime.experts.words import Words

How = Literal["none", "carried over", "rebuilt"]


@dataclass(frozen=True)
class NewerLog:
    """The log that the crowd is built from: files as for `pocketrec train`; alone: without the log of training."""

    files: Sequence[Path]
    alone: bool = False


@dataclass(frozen=True)
class ExpertsReport:
    """What became of crowd and words.

    crowd, words: "none" (the bundle has none), "carried over" (items that stay keep theirs) or "rebuilt". events: that
    the crowd was built from, those of the training log included; training_events: these alone; unknown_events: events
    of the newer log whose item is not in the catalogue.
    """

    crowd: How
    words: How
    events: int = 0
    training_events: int = 0
    unknown_events: int = 0


@dataclass(frozen=True)
class ExpertSettings:
    """The settings that a bundle's experts were built with."""

    data: DataConfig
    experts: ExpertsConfig

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> ExpertSettings:
        """Read them from a bundle's provenance; where it says nothing, they have their defaults.

        :raises ConfigError: if the provenance has settings that this pocketrec does not know.
        """
        stored = bundle.manifest.provenance.get("config", {})
        sections = {name: stored[name] for name in ("data", "experts") if name in stored}
        config = load_config(defaults=sections)
        return cls(config.data, config.experts)


def fresh_experts(
    base: Bundle,
    trie: ItemTrie,
    settings: ExpertSettings,
    catalogue: Catalogue | None,
    log: NewerLog | None,
    run: Run | None = None,
    progress: Progress = SILENT,
) -> tuple[FreshExperts, ExpertsReport]:
    """Build the experts of a refreshed bundle: words where texts are given, the crowd where a log is.

    :param trie: the new catalogue; catalogue: its texts, if they are known.
    :param run: the run of the model, whose training log is joined.
    :raises ConfigError: if a log is given and the bundle has no crowd.
    :raises DataError: if the log cannot be used.
    """
    from pocketrec.export.refresh import FreshExperts

    has = [name in base.manifest.files for name in (GRAPH_FILE, WORDS_FILE)]
    if log is not None and not has[0]:
        raise ConfigError(
            f"the bundle {base.path} has no crowd beside its model, so a newer log changes nothing; leave out "
            "--interactions, or train with experts.enabled=true"
        )
    crowd, words = None, None
    counts = (0, 0, 0)
    if log is not None:
        crowd, counts = _crowd(trie, settings, log, run, progress)
    if has[1] and catalogue is not None and any(catalogue.texts):
        words = _words(trie, settings, catalogue)
    states: list[How] = [
        "none" if not there else "carried over" if made is None else "rebuilt"
        for there, made in zip(has, (crowd, words), strict=True)
    ]
    return FreshExperts(crowd, words), ExpertsReport(states[0], states[1], *counts)


def _words(trie: ItemTrie, settings: ExpertSettings, catalogue: Catalogue) -> Words:
    from pocketrec.distill.experts.words import build_words

    texts = [""] * len(trie.table)
    for row, text in zip(trie.table.find(catalogue.item_ids).tolist(), catalogue.texts, strict=True):
        texts[row] = text
    return build_words(texts, settings.experts.terms)


def _crowd(
    trie: ItemTrie, settings: ExpertSettings, log: NewerLog, run: Run | None, progress: Progress
) -> tuple[Crowd, tuple[int, int, int]]:
    """Return the crowd by table row, and the numbers of events: all, of the training log, of unknown items."""
    from pocketrec.distill.data.newer_log import join_logs
    from pocketrec.distill.experts.crowd import build_crowd

    newer, unknown = _read(log.files, settings.data, trie, progress)
    older = None if run is None or log.alone else _training_log(run, trie)
    joined = newer if older is None else join_logs(older, newer, settings.data.duplicates == "drop")
    with progress.track("building the crowd", 1) as advance:
        histories = joined.aged(settings.data.half_life)
        crowd = build_crowd(histories, len(trie.table), settings.experts.neighbours, settings.experts.min_users)
        advance(1)
    before = 0 if older is None else int(older.histories.lengths.sum())
    return crowd, (int(joined.histories.lengths.sum()), before, unknown)


def _read(files: Sequence[Path], config: DataConfig, trie: ItemTrie, progress: Progress) -> tuple[UserLog, int]:
    """Read a log by table rows; return it and the number of events whose item the catalogue lacks.

    The catalogue says which items count, so a k-core and the shortest history do not apply.
    """
    from pocketrec.distill.data.load import load_dataset
    from pocketrec.distill.data.newer_log import UserLog, user_hashes

    every = msgspec.structs.replace(config, user_core=0, item_core=0, min_history=1, images=None)
    data = load_dataset(list(files), None, every, progress)
    log = UserLog(user_hashes(data.user_ids), data.users, data.times)
    known = log.over(trie.table.find(data.catalogue.item_ids))
    unknown = len(data.users.items) - len(known.histories.items)
    if len(known.histories.items) == 0:
        raise DataError(
            f"none of the {len(data.users.items)} events of the newer log is of an item of the catalogue; "
            "check its item column (data.item)"
        )
    if unknown and config.unknown_items == "refuse":
        raise DataError(
            f"{unknown} events of the newer log are of items that the catalogue lacks, and data.unknown_items is "
            '"refuse"; give the catalogue that has them with --items'
        )
    return known, unknown


def _training_log(run: Run, trie: ItemTrie) -> UserLog:
    """Read all events of the run's log by table rows, those of validation and test included.

    :raises ConfigError: if an older pocketrec wrote them without users.
    """
    from pocketrec.distill.data.storage import load_user_log

    log = load_user_log(run.folder / "data")
    if log is None:
        raise ConfigError(
            f"the run {run.folder} was made by an older pocketrec, whose data stage did not note the users, so the "
            "newer log cannot be joined with its own; give the whole log and --alone, or run `pocketrec train` again"
        )
    return log.over(trie.table.find(run.catalogue.item_ids))
