"""From signed metadata to a version in the store: choose a release, get its files, test it, give it its name.

- Every file is checked against its signed hash, whether it comes from a version that is here, by a patch, or whole.
- A version gets its name only after it was opened and has recommended, as an app would use it.
- A release that does not work on this device is remembered, and not tried again until it or pocketrec changes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from pocketrec.runtime.bundle.fields import MANIFEST_FILE
from pocketrec.runtime.bundle.manifest import MAX_MANIFEST_BYTES, parse_manifest
from pocketrec.runtime.errors import PocketRecError, StoreError, SyncError
from pocketrec.runtime.files.atomic import link_or_copy
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.session import model_id
from pocketrec.runtime.sync.events import Conditions, Downloading, Failed, OnEvent, Verifying
from pocketrec.runtime.sync.fetcher import Fetcher, matches
from pocketrec.runtime.sync.patch import apply_patch
from pocketrec.runtime.sync.release import (
    ReleaseInfo,
    parse_info,
    patch_path,
    runtime_opens,
    split_path,
    target_path,
    version_name,
)
from pocketrec.runtime.sync.store import Current, State, Store
from pocketrec.runtime.sync.trust import SignedFile, Trust

MAX_FILE_BYTES: Final = 1 << 32
TEST_ITEMS: Final = 5  # that the test recommendation asks for


class BadReleaseError(SyncError):
    """A release is signed, but does not work here."""


@dataclass(frozen=True)
class Release:
    """A release that this device may have, and what is signed for its files."""

    info: ReleaseInfo
    manifest: SignedFile
    files: Mapping[str, SignedFile]

    @property
    def name(self) -> str:
        """The version's name in the store."""
        return version_name(self.info.channel, self.info.release, self.manifest.sha256)


def candidates(trust: Trust, channel: str, state: State, runtime: str, on_event: OnEvent) -> Iterator[Release]:
    """The releases of a channel that the device may have, can open and has not found bad, the greatest first.

    A release whose signed data cannot be read, such as that of a later pocketrec, is sent as an event and skipped.
    """
    names: dict[int, set[str]] = {}
    for path in trust.targets():
        split = split_path(path)
        if split and split[0] == channel:
            names.setdefault(split[1], set()).add(split[2])
    for release in sorted(names, reverse=True):
        manifest = trust.find(target_path(channel, release, MANIFEST_FILE))
        if manifest is None:
            continue
        try:
            info, sha256 = parse_info(manifest.path, manifest.custom), manifest.sha256
        except SyncError as error:
            on_event(Failed(error))
            continue
        allowed = info.allows(state.device) and runtime_opens(info.minimum_runtime, runtime)
        if allowed and state.bad.get(sha256) != runtime:
            found = {name: trust.find(target_path(channel, release, name)) for name in names[release]}
            yield Release(info, manifest, {name: file for name, file in found.items() if file is not None})


@dataclass
class Installer:
    """Makes a version of a release in the store. Use it for one refresh.

    Attributes: `how`, as in `Refreshed`.
    """

    store: Store
    fetcher: Fetcher
    conditions: Conditions | None
    on_event: OnEvent
    how: str = "kept"
    _local: dict[str, Path] = field(default_factory=dict)  # SHA-256 -> a file of a stored version

    def install(self, release: Release) -> bool:
        """Make a version, verified and tested, under its name. Returns False if the conditions postpone it.

        :raises BadReleaseError: if its files are the signed ones, but do not make a bundle that works here.
        :raises SyncError: if the repository, the network or the store fails; no version gets the name then.
        """
        if self.store.path(release.name).is_dir():
            if self.store.is_intact(release.name):
                return True
            self.store.drop(release.name)
        self._index_stored_files(self.store.current())
        partial = self.store.begin(release.name)
        self._put(release.manifest, MANIFEST_FILE, partial)
        wanted = _wanted(release, partial / MANIFEST_FILE)
        missing = {name: file for name, file in wanted.items() if file.sha256 not in self._local}
        patches = self._patches_for(release, missing)
        cost = sum((patches[name][1] if name in patches else file).length for name, file in missing.items())
        if missing and self.conditions is not None and not self.conditions(cost):
            return False
        self.store.require_space(sum(file.length for file in missing.values()) + cost)
        for name, file in sorted(wanted.items()):
            if name in patches and self._patched(patches[name], file, partial / name):
                continue
            self._put(file, name, partial)
        self.on_event(Verifying(release.info.release))
        check_works(partial, release.info)
        self.store.finish(release.name)
        return True

    def _index_stored_files(self, now: Current) -> None:
        """Note the files of the stored versions by the hashes in their manifests."""
        for name in (now.current, now.previous):
            if name is None:
                continue
            folder = self.store.path(name)
            try:
                manifest = parse_manifest((folder / MANIFEST_FILE).read_bytes())
            except (OSError, PocketRecError):
                continue
            self._local |= {entry.sha256: folder / file for file, entry in manifest.files.items()}

    def _patches_for(self, release: Release, missing: Mapping[str, SignedFile]) -> dict[str, tuple[Path, SignedFile]]:
        """For each missing file that the release has a patch of: a stored older version of it, and the patch."""
        info, found = release.info, dict[str, tuple[Path, SignedFile]]()
        for sha256, path in self._local.items():
            patch = patch_path(info.channel, info.release, path.name, sha256).rpartition("/")[2]
            if path.name in missing and patch in release.files and path.name not in found:
                found[path.name] = path, release.files[patch]
        return found

    def _put(self, file: SignedFile, name: str, folder: Path) -> None:
        """Put a signed file into a folder: a stored one, or one that is downloaded."""
        stored = self._local.get(file.sha256)
        if stored is not None and _is_the_signed(stored, file):
            link_or_copy(stored, folder / name)
            return
        if file.length > MAX_FILE_BYTES or (name == MANIFEST_FILE and file.length > MAX_MANIFEST_BYTES):
            raise BadReleaseError(f"{file.path} has {file.length:,} bytes, more than this pocketrec reads")
        self.how = self.how if self.how == "patch" else "files"
        link_or_copy(self._download(file, name), folder / name)  # the part file stays until the refresh is finished

    def _download(self, file: SignedFile, name: str) -> Path:
        part = self.store.downloads / f"{file.sha256}.part"

        def progress(done: int) -> None:
            self.on_event(Downloading(name, done, file.length))

        self.fetcher.download(file.url, file.length, file.hashes, part, progress)
        return part

    def _patched(self, patch: tuple[Path, SignedFile], file: SignedFile, place: Path) -> bool:
        """Make a file from a stored older one. Returns False if that fails; the whole file is then downloaded."""
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


def check_works(folder: Path, info: ReleaseInfo) -> None:
    """Open a version as an app would, and recommend from it.

    :raises BadReleaseError: if it does not open, is not the signed model, or recommends wrongly.
    :raises StoreError: if its files, verified a moment ago, cannot be read.
    """
    try:
        with Recommender.load(folder) as recommender:
            manifest = recommender.manifest
            if manifest.model.sid_space != info.sid_space or model_id(manifest) != info.model:
                raise BadReleaseError(f"release {info.release} is not the model that is signed")
            _check_recommends(recommender, info.release)
    except BadReleaseError:
        raise
    except PocketRecError as error:
        if _is_from_the_disk(error):
            raise StoreError(f"release {info.release} cannot be read back ({error}); refresh again") from error
        raise BadReleaseError(f"release {info.release} does not work here: {error}") from error


def _is_from_the_disk(error: BaseException | None) -> bool:
    """Whether an error was caused by an OSError: then the device failed, not the release."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error is not None


def _check_recommends(recommender: Recommender, release: int) -> None:
    """Recommend after no items and after a few: as many items as there are, with finite scores."""
    table, count = recommender.trie.table, len(recommender.trie)
    some = table.ids(np.unique(np.linspace(0, max(count - 1, 0), 3).astype(np.int64))) if count else []
    for history in ([], some):
        found = recommender.recommend(history, k=TEST_ITEMS)
        if len(found) != min(TEST_ITEMS, count - len(history)) or not all(math.isfinite(item.score) for item in found):
            raise BadReleaseError(f"release {release} recommends too few items, or with scores that are not numbers")


def _is_the_signed(path: Path, file: SignedFile) -> bool:
    """Whether a stored file is the signed one."""
    try:
        return matches(path, file.length, file.hashes)
    except OSError:
        return False


def mark_bad(state: State, manifest_sha256: str, runtime: str) -> State:
    """Return a state that remembers that a release does not work with this version of pocketrec."""
    return replace(state, bad={**state.bad, manifest_sha256: runtime})
