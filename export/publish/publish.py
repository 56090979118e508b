"""Publishing a bundle as a release of a channel. What a release is: `pocketrec.runtime.sync.release`.

- The files are written first, under names that hold their hashes, then the signed metadata that refers to them. A
  reader finds every file of the metadata that it has.
- Publishing the same bundle with the same settings again changes nothing.
- No release number is given twice, not even that of a release that was withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketrec.export.publish.keys import SigningKey
from pocketrec.export.publish.patches import make_patch
from pocketrec.export.publish.repository import ONLINE, Repository
from pocketrec.runtime.bundle.bundle import MANIFEST_FILE, Bundle, describe_file, open_bundle
from pocketrec.runtime.bundle.manifest import REFRESHED_FILES
from pocketrec.runtime.errors import ConfigError, SyncError
from pocketrec.runtime.files.atomic import (
    atomic_write,
    link_or_copy,
    make_folder,
    open_plain,
    sha256_of,
    sync_to_disk,
)
from pocketrec.runtime.session import model_id
from pocketrec.runtime.sync.patch import MAX_WINDOW_LOG
from pocketrec.runtime.sync.release import (
    ReleaseInfo,
    check_channel,
    check_version,
    parse_info,
    patch_path,
    split_patch,
    split_path,
    target_path,
)

if TYPE_CHECKING:
    from tuf.api.metadata import Targets

COUNT_FIELD: Final = "x-pocketrec-releases"  # in targets: the greatest release ever made, withdrawn ones included
MAX_PATCH_SHARE: Final = 0.5  # of the file's bytes; a larger patch is not kept


@dataclass(frozen=True)
class PublishSettings:
    """How to publish.

    Attributes: `share`, of the devices that may have the release, in [0, 1]; `minimum_runtime`, the least version of
    pocketrec that opens it; `keep`, how many releases of the channel stay; `patches`, from how many older versions of
    a file a patch is made.
    """

    channel: str = "stable"
    share: float = 1.0
    minimum_runtime: str = "0"
    keep: int = 5
    patches: int = 5

    def __post_init__(self) -> None:
        """Check every value.

        :raises ConfigError: if a number is out of range.
        :raises SyncError: if the channel or the version has another form.
        """
        check_channel(self.channel)
        check_version(self.minimum_runtime)
        if not 0 <= self.share <= 1:
            raise ConfigError(f"share is {self.share}; it must be from 0 to 1")
        if self.keep < 1 or self.patches < 0:
            raise ConfigError(
                f"keep is {self.keep} and patches {self.patches}; keep must be 1 or more, patches 0 or more"
            )


@dataclass(frozen=True)
class Published:
    """What publishing did.

    Attributes: `changed`, whether the repository was; `bytes`, of the files that were new, patches included; `patches`,
    base release -> bytes of the patches from its files.
    """

    release: int
    channel: str
    changed: bool
    bytes: int = 0
    patches: dict[int, int] = field(default_factory=dict)


def publish(
    bundle: str | Path, repository: Repository, keys: Sequence[SigningKey], settings: PublishSettings | None = None
) -> Published:
    """Publish a bundle. If there is no repository yet, one is made with these keys.

    :raises BundleError: if the bundle is damaged.
    :raises SyncError: if keys are missing, another process is publishing, or the repository is damaged.
    """
    settings = settings or PublishSettings()
    checked = open_bundle(bundle)
    items = len(checked.load_trie())
    checked.load_cold(items)
    checked.load_experts(items)
    with repository.change():
        before = repository.load() if repository.exists else repository.create(keys)
        state = repository.load()
        targets = state.targets.signed
        release, is_new = _release_of(checked, targets, settings.channel)
        info = _info(checked, settings, release)
        manifest = target_path(settings.channel, release, MANIFEST_FILE)
        if not is_new and parse_info(manifest, targets.targets[manifest].custom) == info:
            return Published(release, settings.channel, changed=False)
        written, patches = 0, dict[int, int]()
        if is_new:
            written = _add_files(checked, repository, targets, settings.channel, release)
            targets.unrecognized_fields[COUNT_FIELD] = release
        targets.targets[manifest].unrecognized_fields["custom"] = info.to_custom()
        if is_new:
            patches = _add_patches(repository, targets, settings, release)
        _forget_old(targets, settings)
        repository.commit(state, keys, ONLINE)
        repository.sweep(before, state)
        return Published(release, settings.channel, True, written + sum(patches.values()), patches)


def releases(targets: Targets) -> dict[str, dict[int, ReleaseInfo]]:
    """Return all releases: channel -> release -> its signed data; channels by name, releases ascending."""
    found: dict[str, dict[int, ReleaseInfo]] = {}
    for path, target in targets.targets.items():
        named = split_path(path)
        if named and named[2] == MANIFEST_FILE:
            found.setdefault(named[0], {})[named[1]] = parse_info(path, target.custom)
    return {channel: dict(sorted(numbered.items())) for channel, numbered in sorted(found.items())}


def withdraw(repository: Repository, keys: Sequence[SigningKey], channel: str, release: int) -> None:
    """Withdraw a release. Clients go to the greatest that is left to them.

    :raises SyncError: if the channel has no such release, keys are missing, or another process is publishing.
    """
    with repository.change():
        before, state = repository.load(), repository.load()
        if release not in releases(state.targets.signed).get(channel, {}):
            raise SyncError(f"{channel} has no release {release}; `pocketrec repo status` lists them")
        _drop(state.targets.signed, channel, release)
        repository.commit(state, keys, ONLINE)
        repository.sweep(before, state)


def _info(bundle: Bundle, settings: PublishSettings, release: int) -> ReleaseInfo:
    model = bundle.manifest.model
    return ReleaseInfo(
        settings.channel, release, model_id(bundle.manifest), model.sid_space, settings.minimum_runtime, settings.share
    )


def _release_of(bundle: Bundle, targets: Targets, channel: str) -> tuple[int, bool]:
    """The bundle's release, and whether it is new: it is not if it is the channel's newest already."""
    newest = max(releases(targets).get(channel, {}), default=0)
    if newest:
        signed = targets.targets[target_path(channel, newest, MANIFEST_FILE)].hashes["sha256"]
        if signed == describe_file(bundle.path / MANIFEST_FILE).sha256:
            return newest, False
    return int(targets.unrecognized_fields.get(COUNT_FIELD, 0)) + 1, True


def _add_files(bundle: Bundle, repository: Repository, targets: Targets, channel: str, release: int) -> int:
    """Put a bundle's files into the repository and its targets; return the bytes that were new."""
    from tuf.api.metadata import TargetFile

    present = {target.hashes["sha256"]: repository.place(target) for target in targets.targets.values()}
    entries = {**bundle.manifest.files, MANIFEST_FILE: describe_file(bundle.path / MANIFEST_FILE)}
    written = 0
    for name, entry in sorted(entries.items()):
        path = target_path(channel, release, name)
        target = TargetFile(entry.bytes, {"sha256": entry.sha256}, path)
        place = repository.place(target)
        make_folder(place.parent)
        if entry.sha256 not in present:
            _copy(bundle.path / name, place, entry.sha256)
            written += entry.bytes
        elif not place.exists():  # the same bytes under another release's name
            link_or_copy(present[entry.sha256], place)
            sync_to_disk(place.parent)
        targets.targets[path] = target
    return written


def _copy(source: Path, place: Path, sha256: str) -> None:
    with open_plain(source) as file:
        atomic_write(place, iter(lambda: file.read(1 << 20), b""))
    with open_plain(place) as file:
        if sha256_of(file) != sha256:
            place.unlink()
            raise SyncError(f"{source.name} was changed while it was published; publish again")


def _add_patches(repository: Repository, targets: Targets, settings: PublishSettings, release: int) -> dict[int, int]:
    """Add patches of the files that a refresh changes; return base release -> bytes of the patches from it."""
    made: dict[int, int] = {}
    older = sorted(set(releases(targets).get(settings.channel, {})) - {release}, reverse=True)
    for file in REFRESHED_FILES:
        for number, size in _add_patches_of(file, repository, targets, settings, release, older):
            made[number] = made.get(number, 0) + size
    return dict(sorted(made.items(), reverse=True))


def _add_patches_of(
    file: str, repository: Repository, targets: Targets, settings: PublishSettings, release: int, older: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Add patches that make a file from its last versions in the channel; yield the base release and the bytes.

    :param older: the channel's other releases, the newest first.
    """
    new = targets.targets.get(target_path(settings.channel, release, file))
    if new is None:
        return
    content = repository.place(new).read_bytes()
    made, seen = 0, {new.hashes["sha256"]}
    for number in older:
        base = targets.targets.get(target_path(settings.channel, number, file))
        if made == settings.patches:
            break
        if base is None or base.hashes["sha256"] in seen:
            continue
        seen.add(base.hashes["sha256"])
        if base.length + new.length > 1 << MAX_WINDOW_LOG:
            continue
        patch = make_patch(repository.place(base).read_bytes(), content)
        if len(patch) <= MAX_PATCH_SHARE * len(content):
            path = patch_path(settings.channel, release, file, base.hashes["sha256"])
            yield number, _add_patch(repository, targets, path, patch)
            made += 1


def _add_patch(repository: Repository, targets: Targets, path: str, patch: bytes) -> int:
    from tuf.api.metadata import TargetFile

    target = TargetFile.from_data(path, patch, ["sha256"])
    atomic_write(repository.place(target), [patch])
    targets.targets[path] = target
    return len(patch)


def _forget_old(targets: Targets, settings: PublishSettings) -> None:
    """Drop all but the last releases of the channel, and the patches of every release but the newest."""
    numbers = sorted(releases(targets).get(settings.channel, {}))
    for number in numbers[: -settings.keep]:
        _drop(targets, settings.channel, number)
    for path in list(targets.targets):
        named = split_path(path)
        if named and named[0] == settings.channel and named[1] != numbers[-1] and split_patch(named[2]):
            del targets.targets[path]


def _drop(targets: Targets, channel: str, release: int) -> None:
    for path in list(targets.targets):
        named = split_path(path)
        if named and named[:2] == (channel, release):
            del targets.targets[path]
