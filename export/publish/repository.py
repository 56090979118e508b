"""The signed repository: TUF metadata over static files (The Update Framework, specification 1.0.x).

- A reader sees the state before a change or after it, never a mixture: every other file has a name that is used once,
  and the change takes effect when `timestamp.json` is replaced, last, by one rename.
- A file is on the disk (fsync) before metadata refers to it.
- What a killed change left behind has names that no signed metadata refers to. The next change skips its version
  numbers and deletes its files.
- One change at a time. The lock is the operating system's, so it ends with the process.
- The files of the state before stay until the change after next, so that readers in the middle of a refresh find them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketrec.export.publish.keys import ROLES, SigningKey
from pocketrec.runtime.errors import ConfigError, MissingExtraError, SyncError
from pocketrec.runtime.files.atomic import atomic_write, make_folder

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

METADATA, TARGETS, LOCK = "metadata", "targets", ".lock"
ONLINE: Final = ("targets", "snapshot", "timestamp")  # the roles that publishing signs; each refers to the one before
EXPIRES: Final[Mapping[str, int]] = {"root": 365, "targets": 90, "snapshot": 14, "timestamp": 2}  # days
DAYS_FIELD: Final = "x-pocketrec-days"  # in root: how long each role's metadata lasts, signed like the rest
_VERSIONED = re.compile(r"([1-9][0-9]*)\.(root|targets|snapshot)\.json")


@dataclass
class State:
    """All metadata of a repository at one time."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]

    def of(self, role: str) -> Metadata[Any]:
        """Return the metadata of a role."""
        found: Metadata[Any] = getattr(self, role)
        return found


class Repository:
    """A repository in a folder. `change` locks it; reading needs no lock."""

    def __init__(self, folder: str | Path) -> None:
        """Name the folder; nothing is read yet.

        :raises MissingExtraError: if python-tuf is not installed.
        """
        self.folder = Path(folder)
        try:
            import tuf  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("publishing needs `pip install pocketrec[publish]`") from error

    @property
    def exists(self) -> bool:
        """Whether the folder holds signed metadata."""
        return (self.folder / METADATA / "timestamp.json").is_file()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Keep other publishers out while the block runs.

        :raises SyncError: if another process is publishing.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                yield
        except Timeout as error:
            raise SyncError(f"another process is publishing into {self.folder}; try again when it is done") from error

    def create(
        self, keys: Sequence[SigningKey], thresholds: Mapping[str, int] | None = None, days: Mapping[str, int] = EXPIRES
    ) -> State:
        """Write the first metadata: a root with these keys, and no targets.

        :param thresholds: role -> how many signatures it needs; 1 for a role that is left out.
        :param days: role -> days until its metadata expires.
        :raises SyncError: if the folder holds a repository already, or a role has too few keys.
        :raises ConfigError: if a threshold is below 1.
        """
        from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

        if self.exists:
            raise SyncError(f"{self.folder} already holds a repository; publish into it, or choose another folder")
        root = Root(consistent_snapshot=True, unrecognized_fields={DAYS_FIELD: {**EXPIRES, **days}})
        for key in keys:
            root.add_key(key.signer.public_key, key.role)
        for role in ROLES:
            root.roles[role].threshold = (thresholds or {}).get(role, 1)
        state = State(Metadata(root), Metadata(Targets()), Metadata(Snapshot()), Metadata(Timestamp()))
        for role in ROLES[1:]:
            state.of(role).signed.version = 0  # the first that is committed is 1
        state.snapshot.signed.meta["targets.json"] = MetaFile(1)
        for role in ROLES:
            _signers(state.root.signed, role, keys)
        self.write_root(state, keys)
        self.commit(state, keys, ONLINE)
        return state

    def load(self) -> State:
        """Read the committed metadata, and verify its signatures by the newest root.

        :raises SyncError: if a file is missing or damaged, or has too few signatures.
        """
        if not self.exists:
            raise SyncError(
                f"{self.folder} holds no repository; `pocketrec publish` or `pocketrec repo init` makes one"
            )
        root = self._read(f"{max(self._versions('root'))}.root.json", None, "root")
        timestamp = self._read("timestamp.json", root, "timestamp")
        snapshot = self._read(f"{timestamp.signed.snapshot_meta.version}.snapshot.json", root, "snapshot")
        targets = self._read(f"{snapshot.signed.meta['targets.json'].version}.targets.json", root, "targets")
        return State(root, targets, snapshot, timestamp)

    def _read(self, name: str, root: Metadata[Root] | None, role: str) -> Metadata[Any]:
        from tuf.api.exceptions import RepositoryError
        from tuf.api.metadata import Metadata
        from tuf.api.serialization import DeserializationError

        try:
            found: Metadata[Any] = Metadata.from_bytes((self.folder / METADATA / name).read_bytes())
            (root or found).signed.verify_delegate(role, found.signed_bytes, found.signatures)
        except (OSError, DeserializationError, RepositoryError, ValueError) as error:
            raise SyncError(f"{name} of the repository cannot be used ({error}); restore it from a copy") from error
        return found

    def commit(
        self, state: State, keys: Sequence[SigningKey], roles: Sequence[str], before: Root | None = None
    ) -> None:
        """Sign and write roles, the timestamp last; with it the change takes effect.

        :param roles: of `ONLINE` and in its order; with a role, all that follow it.
        :param before: the root that clients know, if `state` has a newer one that is not written yet. The metadata is
            then signed for both roots.
        :raises SyncError: if a role has too few keys; nothing is written then.
        """
        from tuf.api.metadata import MetaFile

        root = state.root.signed
        signers = {
            role: {**_signers(root, role, keys), **(_signers(before, role, keys) if before else {})} for role in roles
        }
        for role in roles:
            metadata = state.of(role)
            metadata.signed.version = self._next(role, metadata.signed.version)
            metadata.signed.expires = _expiry(root, role)
            if role == "snapshot":
                metadata.signed.meta["targets.json"] = MetaFile(state.targets.signed.version)
            if role == "timestamp":
                metadata.signed.snapshot_meta = MetaFile(state.snapshot.signed.version)
            _sign(metadata, signers[role])
            name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
            atomic_write(self._metadata() / name, [metadata.to_bytes()])

    def write_root(self, state: State, keys: Sequence[SigningKey], before: Root | None = None) -> None:
        """Sign and write the next root.

        :param before: the root before it, whose keys must sign the next one, too; None: this is the first.
        :raises SyncError: if there are too few keys; nothing is written then.
        """
        root = state.root.signed
        root.version, root.expires = (before.version if before else 0) + 1, _expiry(root, "root")
        _sign(state.root, {**_signers(root, "root", keys), **(_signers(before, "root", keys) if before else {})})
        atomic_write(self._metadata() / f"{root.version}.root.json", [state.root.to_bytes()])

    def check_keys(self, state: State, keys: Sequence[SigningKey], roles: Sequence[str]) -> None:
        """Make sure that the keys suffice for roles, before anything is written.

        :raises SyncError: if a role has too few keys.
        """
        for role in roles:
            _signers(state.root.signed, role, keys)

    def place(self, target: TargetFile) -> Path:
        """Return the path of a target's file."""
        return self.folder / stored_name(target)

    def _metadata(self) -> Path:
        folder = self.folder / METADATA
        make_folder(folder)
        return folder

    def _versions(self, role: str) -> list[int]:
        """Versions of a role's files on disk, committed or not."""
        named = (_VERSIONED.fullmatch(path.name) for path in (self.folder / METADATA).iterdir())
        return [int(found[1]) for found in named if found and found[2] == role]

    def _next(self, role: str, committed: int) -> int:
        if role == "timestamp":
            return committed + 1
        return max([committed, *self._versions(role)]) + 1

    def sweep(self, before: State, now: State) -> None:
        """Delete files to which neither of two states refers, those of killed changes included; roots always stay."""
        keep = {path for state in (before, now) for path in _referred(state)}
        for folder in (self.folder / METADATA, self.folder / TARGETS):
            for path in sorted(folder.rglob("*"), reverse=True):  # a folder after what it holds
                if path.is_dir():
                    if not any(path.iterdir()):
                        path.rmdir()
                elif path.relative_to(self.folder).as_posix() not in keep and not path.name.endswith(".root.json"):
                    path.unlink()


def stored_name(target: TargetFile) -> str:
    """Return a target's path in the repository: TUF puts the hash before the file's name."""
    folder, _, name = target.path.rpartition("/")
    return f"{TARGETS}/{folder}/{target.hashes['sha256']}.{name}"


def _referred(state: State) -> Iterator[str]:
    yield f"{METADATA}/timestamp.json"
    for role in ("targets", "snapshot"):
        yield f"{METADATA}/{state.of(role).signed.version}.{role}.json"
    yield from map(stored_name, state.targets.signed.targets.values())


def _expiry(root: Root, role: str) -> datetime:
    days = root.unrecognized_fields.get(DAYS_FIELD, {}).get(role, EXPIRES[role])
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=days)


def _signers(root: Root, role: str, keys: Sequence[SigningKey]) -> dict[str, Any]:
    """The signers of a role among the keys, by key id.

    :raises SyncError: if they are fewer than its threshold.
    """
    entry = root.roles[role]
    if entry.threshold < 1:
        raise ConfigError(f"the threshold of {role} is {entry.threshold}; it must be at least 1")
    signers = {key.id: key.signer for key in keys if key.id in entry.keyids}
    if len(signers) < entry.threshold:
        raise SyncError(
            f"{role} needs {entry.threshold} of its {len(entry.keyids)} keys to sign, and {len(signers)} were given; "
            "give the folder that holds them"
        )
    return signers


def _sign(metadata: Metadata[Any], signers: Mapping[str, Any]) -> None:
    metadata.signatures.clear()
    for signer in signers.values():
        metadata.sign(signer, append=True)
