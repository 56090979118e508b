"""Looking after the signed roles of a repository: signing them again before they expire, and changing their keys.

Whatever is signed again, a new timestamp follows it. Clients request the timestamp alone while it does not change, so
they would not notice anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pocketrec.export.publish.keys import SigningKey
from pocketrec.export.publish.repository import ONLINE, Repository
from pocketrec.runtime.errors import ConfigError, SyncError

if TYPE_CHECKING:
    from tuf.api.metadata import Root


def renew(repository: Repository, keys: Sequence[SigningKey], roles: Sequence[str] = ("snapshot", "timestamp")) -> None:
    """Sign roles again, so that they expire later: snapshot and timestamp by a timer, the root once a year.

    :param roles: of "root", "targets", "snapshot" and "timestamp"; the roles that refer to them are signed again, too.
    :raises ConfigError: if there is no such role.
    :raises SyncError: if a role has too few keys, or another process is publishing.
    """
    if unknown := [role for role in roles if role not in ("root", *ONLINE)]:
        raise ConfigError(f"there is no role {unknown[0]!r}; choose root, {', '.join(ONLINE)}")
    with repository.change():
        before, state = repository.load(), repository.load()
        first = min((ONLINE.index(role) for role in roles if role in ONLINE), default=len(ONLINE) - 1)
        repository.check_keys(state, keys, ONLINE[first:])
        if "root" in roles:
            repository.write_root(state, keys, before.root.signed)
        repository.commit(state, keys, ONLINE[first:])
        repository.sweep(before, state)


def rotate_keys(
    repository: Repository, keys: Sequence[SigningKey], new: SigningKey | None = None, remove: str | None = None
) -> int:
    """Give a role a new key, take a key from it, or both; return the root's new version.

    The new root is signed by the keys of the old root and of the new one. The metadata of the other roles first gets
    the signatures that both roots require, so clients of either find metadata that they can verify.

    :param keys: the root's keys, and those of the other roles.
    :param remove: the first digits of a key's id.
    :raises SyncError: if these digits name no key or several, or if a role has too few keys.
    """
    with repository.change():
        before, state = repository.load(), repository.load()
        root = state.root.signed
        if new:
            root.add_key(new.signer.public_key, new.role)
        if remove:
            _revoke(root, remove, new.role if new else None)
        all_keys = [*keys, *([new] if new else [])]
        for roots in (before, state):  # before anything is written
            repository.check_keys(roots, all_keys, ("root", *ONLINE))
        repository.commit(state, all_keys, ONLINE, before.root.signed)
        repository.write_root(state, all_keys, before.root.signed)
        repository.commit(state, all_keys, ("timestamp",))
        repository.sweep(before, state)
        return int(root.version)


def _revoke(root: Root, digits: str, role: str | None) -> None:
    """Take a key from a role.

    :param role: where the key must be; None: in any role.
    """
    found = [
        (name, keyid)
        for name, entry in root.roles.items()
        for keyid in entry.keyids
        if keyid.startswith(digits) and role in (None, name)
    ]
    if len(found) != 1:
        raise SyncError(f"{len(found)} keys have an id that begins with {digits}; give digits that name a single key")
    name, keyid = found[0]
    if len(root.roles[name].keyids) <= root.roles[name].threshold:
        raise SyncError(f"{name} would have fewer keys than its threshold; add a key with --new in the same call")
    root.revoke_key(keyid, name)
