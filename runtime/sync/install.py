"""From what is signed to a version in the store: choose a release, come by its files, try it, make it current.

Every file is checked against its signed hash, however it came: from a version that is here already, as a patch, or
whole. A release that does not work on this device is remembered, and not tried again until it or the runtime changes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from pocketrec.runtime.bundle.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, TRIE_FILE, parse_manifest
from pocketrec.runtime.errors import PocketRecError, StoreError, SyncError
from pocketrec.runtime.files.atomic import link_or_copy
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.session import model_id
from pocketrec.runtime.sync.events import Conditions, Downloading, OnEvent, Verifying
from pocketrec.runtime.sync.fetcher import Fetcher, matches
from pocketrec.runtime.sync.patch import apply_patch
from pocketrec.runtime.sync.release import (
    ReleaseInfo,
    parse_info,
    patch_path,
    runtime_opens,
    split_path,
    target_path,
)
from pocketrec.runtime.sync.store import Current, State, Store
from pocketrec.runtime.sync.trust import SignedFile, Trust

MAX_FILE_BYTES: Final = 1 << 32
PROBES: Final = 5  # items that the trial recommendation asks for


class BadReleaseError(SyncError):
    """A release is signed, and yet does not work here."""


@dataclass(frozen=True)
class Release:
    """A release that this device may have, and what is signed for its files."""

    info: ReleaseInfo
    manifest: SignedFile
    files: Mapping[str, SignedFile]

    @property
    def name(self) -> str:
        """The version's name in the store."""
        return f"{self.info.channel}-{self.info.release}-{self.manifest.sha256[:16]}"


def candidates(trust: Trust, channel: str, state: State, runtime: str) -> Iterator[Release]:
    """Releases of a channel that the device may have, can open, and has not found bad, the greatest first."""
    names: dict[int, set[str]] = {}
    for path in trust.targets():
        split = split_path(path)
        if split and split[0] == channel:
            names.setdefault(split[1], set()).add(split[2])
    for release in sorted(names, reverse=True):
        manifest = trust.find(target_path(channel, release, MANIFEST_FILE))
        if manifest is None:
            continue
        info = parse_info(manifest.path, manifest.custom)
        may = info.allows(state.device) and runtime_opens(info.minimum_runtime, runtime)
        if may and state.bad.get(manifest.sha256) != runtime:
            found = {name: trust.find(target_path(channel, release, name)) for name in names[release]}
            yield Release(info, manifest, {name: file for name, file in found.items() if file is not None})


@dataclass
class Assembly:
    """Puts a release together in the store."""

    store: Store
    fetcher: Fetcher
    conditions: Conditions | None
    on_event: OnEvent
    how: str = "kept"
    _have: dict[str, Path] = field(default_factory=dict)  # SHA-256 → a file of a kept version

    def install(self, release: Release) -> bool:
        """Bring a release into the store under its name, tried and whole; False if the conditions said no.

        :raises BadReleaseError: if its files are as signed, but do not make a bundle that works here.
        :raises SyncError: if the line, the far side or the store failed; nothing of it is visible then.
        """
        if self.store.path(release.name).is_dir():
            return True
        self._look_around(self.store.current())
        partial = self.store.begin(release.name)
        self._place(release.manifest, MANIFEST_FILE, partial)
        wanted = _wanted(release, partial / MANIFEST_FILE)
        patch = self._patch_for(release, wanted)
        missing = {name: file for name, file in wanted.items() if file.sha256 not in self._have}
        cost = sum(patch[1].length if patch and name == TRIE_FILE else file.length for name, file in missing.items())
        if missing and self.conditions is not None and not self.conditions(cost):
            return False
        self.store.room_for(sum(file.length for file in missing.values()) + cost)
        for name, file in sorted(wanted.items()):
            if name == TRIE_FILE and patch and name in missing and self._apply(patch, file, partial / name):
                continue
            self._place(file, name, partial)
        self.on_event(Verifying(release.info.release))
        try_out(partial, release.info)
        self.store.finish(release.name)
        return True

    def _look_around(self, now: Current) -> None:
        """Note the files of the versions that are here, by what their manifests say of them."""
        for name in (now.current, now.previous):
            if name is None:
                continue
            folder = self.store.path(name)
            try:
                manifest = parse_manifest((folder / MANIFEST_FILE).read_bytes())
            except (OSError, PocketRecError):
                continue
            self._have |= {entry.sha256: folder / file for file, entry in manifest.files.items()}

    def _patch_for(self, release: Release, wanted: Mapping[str, SignedFile]) -> tuple[Path, SignedFile] | None:
        """A kept trie and the patch that makes the new one of it, if there are both."""
        info = release.info
        for sha256, path in self._have.items():
            name = patch_path(info.channel, info.release, TRIE_FILE, sha256).rpartition("/")[2]
            if path.name == TRIE_FILE and name in release.files and TRIE_FILE in wanted:
                return path, release.files[name]
        return None

    def _place(self, file: SignedFile, name: str, folder: Path) -> None:
        """Put a file into a folder: one that is here, or from the line."""
        have = self._have.get(file.sha256)
        if have is not None and _is_still(have, file):
            link_or_copy(have, folder / name)
            return
        if file.length > MAX_FILE_BYTES or (name == MANIFEST_FILE and file.length > MAX_MANIFEST_BYTES):
            raise BadReleaseError(f"{file.path} has {file.length:,} bytes, which is too many")
        self.how = self.how if self.how == "patch" else "files"
        link_or_copy(self._download(file, name), folder / name)  # it stays among the downloads until all are here

    def _download(self, file: SignedFile, name: str) -> Path:
        part = self.store.downloads / f"{file.sha256}.part"

        def progress(done: int) -> None:
            self.on_event(Downloading(name, done, file.length))

        self.fetcher.download(file.url, file.length, file.hashes, part, progress)
        return part

    def _apply(self, patch: tuple[Path, SignedFile], file: SignedFile, place: Path) -> bool:
        """Make the trie from a kept one; False, whatever went wrong, means: fetch it whole."""
        base, signed = patch
        try:
            part = self._download(signed, place.name)
            made = apply_patch(base.read_bytes(), part.read_bytes(), file.length)
            if hashlib.sha256(made).hexdigest() != file.sha256:
                return False
            place.write_bytes(made)
        except StoreError:
            raise
        except (SyncError, OSError, MemoryError):
            return False
        self.how = "patch"
        return True


def _wanted(release: Release, path: Path) -> dict[str, SignedFile]:
    """The files that the manifest lists, which must be those that are signed.

    :raises BadReleaseError: if they are not.
    """
    try:
        manifest = parse_manifest(path.read_bytes())
    except PocketRecError as error:
        raise BadReleaseError(f"release {release.info.release} has no usable manifest ({error})") from error
    wanted = {}
    for name, entry in manifest.files.items():
        file = release.files.get(name)
        if file is None or (file.sha256, file.length) != (entry.sha256, entry.bytes):
            raise BadReleaseError(f"release {release.info.release}: {name} is not signed as its manifest lists it")
        wanted[name] = file
    return wanted


def try_out(folder: Path, info: ReleaseInfo) -> None:
    """Open a version as an app would, and ask it for recommendations.

    :raises BadReleaseError: if it cannot be opened, is another model than was signed, or recommends nonsense.
    """
    try:
        with Recommender.load(folder) as recommender:
            manifest = recommender.manifest
            if manifest.model.sid_space != info.sid_space or model_id(manifest) != info.model:
                raise BadReleaseError(f"release {info.release} holds another model than the one that is signed")
            _probe(recommender, info.release)
    except BadReleaseError:
        raise
    except PocketRecError as error:
        if _is_the_disks(error):
            raise StoreError(f"release {info.release} cannot be read back ({error}); refresh again") from error
        raise BadReleaseError(f"release {info.release} does not work here: {error}") from error


def _is_the_disks(error: BaseException | None) -> bool:
    """Whether the device, not the release, is to blame: its files were just verified."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error is not None


def _probe(recommender: Recommender, release: int) -> None:
    """Recommend after nothing and after a few items: as many as there are, with finite scores."""
    table, count = recommender.trie.table, len(recommender.trie)
    some = table.ids(np.unique(np.linspace(0, max(count - 1, 0), 3).astype(np.int64))) if count else []
    for history in ([], some):
        found = recommender.recommend(history, k=PROBES)
        if len(found) != min(PROBES, count - len(history)) or not all(math.isfinite(item.score) for item in found):
            raise BadReleaseError(f"release {release} does not recommend what it should")


def _is_still(path: Path, file: SignedFile) -> bool:
    """Whether a kept file is what is signed."""
    try:
        return matches(path, file.length, file.hashes)
    except OSError:
        return False


def mark_bad(state: State, manifest_sha256: str, runtime: str) -> State:
    """Remember that a release does not work with this runtime."""
    return replace(state, bad={**state.bad, manifest_sha256: runtime})
