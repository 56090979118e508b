"""A bundle: the directory that holds a model, its catalogue and the manifest that lists them.

`open_bundle` checks everything before anything is used: the manifest, then every file that it lists, by kind, size and
SHA-256. Files that the manifest does not list are never read. `Bundle.load_trie` then checks that the catalogue fits
the model. Every fault is a BundleError that says in one sentence what is wrong and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from pocketrec.runtime.bundle.fields import MANIFEST_FILE
from pocketrec.runtime.bundle.manifest import (
    COLD_FILE,
    GRAPH_FILE,
    MAX_MANIFEST_BYTES,
    MODEL_KIND,
    SCHEMA_VERSION,
    TOKENS_KIND,
    TRIE_FILE,
    WEIGHTS_FILE,
    WORDS_FILE,
    CatalogueSpec,
    FileEntry,
    Manifest,
    ModelSpec,
    parse_manifest,
)
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.cold_items import ColdItems
from pocketrec.runtime.errors import BundleError, TrieError
from pocketrec.runtime.experts.crowd import Crowd
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.experts.words import Words
from pocketrec.runtime.files.atomic import FileState, atomic_write, file_state, open_plain, sha256_of

__all__ = [
    "COLD_FILE",
    "GRAPH_FILE",
    "MANIFEST_FILE",
    "MODEL_KIND",
    "SCHEMA_VERSION",
    "TOKENS_KIND",
    "TRIE_FILE",
    "WEIGHTS_FILE",
    "WORDS_FILE",
    "Bundle",
    "CatalogueSpec",
    "FileEntry",
    "Manifest",
    "ModelSpec",
    "check_fit",
    "describe_file",
    "open_bundle",
    "write_manifest",
]

_REMEDY = "fetch the bundle again or re-export it"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files all agree with its manifest. path: its directory, absolute."""

    path: Path
    manifest: Manifest
    checked: Mapping[str, FileState] = field(default_factory=dict)  # the state of each file when it was checked

    def file(self, name: str) -> Path:
        """Return the path of a checked file; make sure that the file has not changed since the check.

        :raises BundleError: if the manifest does not list it, or it was changed or replaced since.
        """
        if name not in self.manifest.files:
            raise BundleError(f"the bundle has no file {name!r} (it has {_listed(self.manifest.files)}); re-export it")
        self._check_unchanged(name)
        return self.path / name

    def open(self, name: str) -> BufferedReader:
        """Open a checked file for reading; other parameters and errors as `file`.

        What is read from it stays the same when the bundle's folder is renamed or deleted.
        """
        path = self.file(name)
        try:
            file = open_plain(path)
        except OSError as error:
            raise BundleError(f"{name} cannot be read ({error}); {_REMEDY}") from error
        self._check_unchanged(name)
        return file

    def check_unchanged(self) -> None:
        """Make sure that the files that were read since the check are those that were checked; call it after reading.

        :raises BundleError: if a file was changed or replaced since.
        """
        for name in self.checked:
            self._check_unchanged(name)

    def _check_unchanged(self, name: str) -> None:
        try:
            now = file_state((self.path / name).lstat())
        except OSError as error:
            raise BundleError(
                f"{name} was deleted or moved after it was checked ({self.path}); open the bundle again"
            ) from error
        if now != self.checked.get(name, now):
            raise BundleError(f"{name} was changed after it was checked; open the bundle again")

    def graph(self, role: str) -> Path:
        """Return the path of the file with a role ("recommender", "encoder", "search", ...).

        :raises BundleError: if the bundle has none.
        """
        if role not in self.manifest.graphs:
            raise BundleError(
                f"the bundle has no {role!r} graph (it has {_listed(self.manifest.graphs)}); "
                "choose another engine or re-export it"
            )
        return self.file(self.manifest.graphs[role])

    def load_trie(self) -> ItemTrie:
        """Load the catalogue and check that it fits the model.

        :raises BundleError: if it is malformed, or does not fit the model.
        """
        try:
            trie = ItemTrie.load(self.file(TRIE_FILE))
        except TrieError as error:
            raise BundleError(str(error)) from error
        if len(trie) != self.manifest.catalogue.items:
            raise BundleError(
                f"{TRIE_FILE} holds {len(trie)} items, but the manifest says {self.manifest.catalogue.items}; {_REMEDY}"
            )
        check_fit(self.manifest.model, trie)
        return trie

    def load_cold(self, n_items: int) -> ColdItems | None:
        """Load which items the catalogue's cold items resemble; None if the bundle has no such file.

        :raises BundleError: if it is malformed, or not of a catalogue of `n_items`.
        """
        return ColdItems.load(self.file(COLD_FILE), n_items) if COLD_FILE in self.manifest.files else None

    def load_experts(self, n_items: int) -> Experts | None:
        """Load the experts beside the model; None if the bundle has none.

        :raises BundleError: if a file is malformed, or not of a catalogue of `n_items`.
        """
        fusion = self.manifest.fusion
        if fusion is None or not fusion.active:
            return None
        crowd = Crowd.load(self.file(GRAPH_FILE), n_items) if fusion.crowd else None
        words = Words.load(self.file(WORDS_FILE), n_items) if fusion.words else None
        return Experts(crowd, words, fusion, n_items)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle, checking its manifest and the size and SHA-256 of every file.

    Files are hashed in small pieces, about a gigabyte a second.

    :param path: the bundle's directory (which may be reached through a link; its files may not).
    :raises BundleError: if anything is missing, damaged, of another version or not what the manifest says.
    """
    path = Path(path)
    if not path.is_dir():
        raise BundleError(f"{path} is not a directory; give the path of a bundle")
    try:
        with open_plain(path / MANIFEST_FILE) as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError as error:
        raise BundleError(f"{path} has no {MANIFEST_FILE}, so it is not a bundle; give the path of one") from error
    except OSError as error:
        raise BundleError(f"{MANIFEST_FILE} cannot be read ({error}); {_REMEDY}") from error
    manifest = parse_manifest(content)
    path = path.resolve()  # files may be opened later, from another directory
    return Bundle(path, manifest, {name: _check_file(path / name, entry) for name, entry in manifest.files.items()})


def _check_file(path: Path, entry: FileEntry) -> FileState:
    try:
        with open_plain(path) as file:
            state = file_state(os.fstat(file.fileno()))
            size = state.bytes
            if size != entry.bytes:
                raise BundleError(f"{path.name} has {size} bytes, but the manifest says {entry.bytes}; {_REMEDY}")
            if sha256_of(file) != entry.sha256:
                raise BundleError(f"{path.name} is not the file of the manifest (its SHA-256 differs); {_REMEDY}")
            return state
    except FileNotFoundError as error:
        raise BundleError(f"{path.name} is missing from the bundle; {_REMEDY}") from error
    except OSError as error:
        raise BundleError(f"{path.name} cannot be read ({error}); {_REMEDY}") from error


def check_fit(model: ModelSpec, trie: ItemTrie) -> None:
    """Check that a model can search a catalogue.

    :raises BundleError: if they come from different codebooks, have different levels or codes, or a node of
        the trie has more children than the graph has room for.
    """
    if trie.sid_space != model.sid_space:
        raise BundleError(
            f"the trie's sid_space {trie.sid_space!r} is not the model's {model.sid_space!r}; "
            "re-export the model or re-publish the catalogue from the same codebooks"
        )
    if (trie.levels, trie.codes_per_level) != (model.levels, model.codes):
        raise BundleError(
            f"the trie has {trie.levels} levels of {trie.codes_per_level} codes, but the model "
            f"{model.levels} of {model.codes}; re-export the model or re-publish the catalogue"
        )
    for level, (have, room) in enumerate(zip(trie.max_branch, model.max_branch, strict=True)):
        if have > room:
            raise BundleError(
                f"the trie has a node with {have} children at level {level}, but the model's graph has room "
                f"for {room}; re-export the model with a larger max_branch or re-publish a smaller catalogue"
            )


def describe_file(path: str | Path) -> FileEntry:
    """Return a file's entry for the manifest.

    :raises OSError: if it is not a plain file, or cannot be read.
    """
    with open_plain(Path(path)) as file:
        return FileEntry(sha256_of(file), os.fstat(file.fileno()).st_size)


def write_manifest(folder: str | Path, manifest: Manifest) -> Path:
    """Write `manifest.json` atomically; equal manifests give equal bytes.

    Write it last: a folder becomes a bundle by its manifest.

    :return: the path of the file.
    :raises BundleError: if `open_bundle` would refuse it.
    :raises OSError: if it cannot be written.
    """
    path = Path(folder) / MANIFEST_FILE
    atomic_write(path, [manifest.to_json()])
    return path
