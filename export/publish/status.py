"""What a repository holds, as dictionaries that become JSON: for `pocketrec repo status`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pocketrec.export.publish.keys import ROLES
from pocketrec.export.publish.publish import releases
from pocketrec.export.publish.repository import DAYS_FIELD, EXPIRES, Repository
from pocketrec.runtime.sync.release import split_patch, split_path


def describe(folder: str | Path) -> dict[str, Any]:
    """Return roles (version, expiry, threshold, key ids), channels (releases, newest first) and warnings.

    :raises SyncError: if the folder holds no repository, or a damaged one.
    """
    state = Repository(folder).load()
    root, now = state.root.signed, datetime.now(timezone.utc)
    roles, warnings = {}, []
    for role in ROLES:
        signed = state.of(role).signed
        days = root.unrecognized_fields.get(DAYS_FIELD, {}).get(role, EXPIRES[role])
        entry, remedy = root.roles[role], f"run `pocketrec repo renew --role {role}`"
        roles[role] = {
            "version": signed.version,
            "expires": signed.expires.isoformat(),
            "threshold": entry.threshold,
            "keys": sorted(entry.keyids),
        }
        if signed.expires <= now:
            warnings.append(f"{role} has expired, so clients refuse the repository; {remedy}")
        elif signed.expires - now < timedelta(days=days / 4):
            warnings.append(f"{role} expires on {signed.expires:%Y-%m-%d %H:%M} UTC; {remedy} before")
    return {"roles": roles, "channels": _channels(state.targets.signed), "warnings": warnings}


def _channels(targets: Any) -> dict[str, list[dict[str, Any]]]:
    channels: dict[str, list[dict[str, Any]]] = {}
    for channel, numbered in releases(targets).items():
        for number, info in sorted(numbered.items(), reverse=True):
            files, patches = 0, {}
            for path, target in targets.targets.items():
                named = split_path(path)
                if named is None or named[:2] != (channel, number):
                    continue
                if patch := split_patch(named[2]):
                    patches[patch[1]] = target.length
                else:
                    files += target.length
            one = {"release": number, "share": info.share, "bytes": files, "patches": patches}
            one |= {"model": info.model, "sid_space": info.sid_space, "minimum_runtime": info.minimum_runtime}
            channels.setdefault(channel, []).append(one)
    return channels
