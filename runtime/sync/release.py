"""What a release is in the signed repository: the names of its targets, and the data that is signed with them.

The publisher writes these and the client reads them, so both use this module.

- A release is one bundle. Its files are TUF targets named `<channel>/<release>/<file>`. Release numbers increase over
  the whole repository, whatever the channel.
- The target of the bundle's manifest carries, signed, what a device chooses a release by: its model and SID space, the
  least version of pocketrec that opens it, and the share of devices that may have it.
- A patch is a further target, `<channel>/<release>/<file>.from-<first 16 hex digits of the base's SHA-256>.zst`. It
  saves bytes and nothing else: the file that it makes is checked against the signed hash of the whole file.
- On a device, a version is named `<channel>-<release>-<first 16 hex digits of the manifest's SHA-256>`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pocketrec.runtime.errors import SyncError
from pocketrec.runtime.files.names import is_file_name, is_sha256

CUSTOM_KEY: Final = "pocketrec"  # of a target's custom data; other keys may stand beside it
SCHEMA: Final = 1
HASH_DIGITS: Final = 16  # of a SHA-256, in the names of patches and versions
MILLION: Final = 1_000_000  # signed JSON has no fractions
MAX_RELEASE: Final = (1 << 53) - 1  # every JSON reader holds it exactly

_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NUMBER = re.compile(r"[1-9][0-9]{0,15}")
_VERSION_NAME = re.compile(rf"{_CHANNEL.pattern}-({_NUMBER.pattern})-[0-9a-f]{{{HASH_DIGITS}}}")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){0,3}")
_PATCH = re.compile(rf"(?P<file>.+)\.from-(?P<base>[0-9a-f]{{{HASH_DIGITS}}})\.zst")


@dataclass(frozen=True)
class ReleaseInfo:
    """The data that is signed with the manifest of a release.

    Attributes: `model`, the model's id (`pocketrec.runtime.session.model_id`); `sid_space`, the codebooks' hash;
    `minimum_runtime`, the least version of pocketrec that opens it, such as "0.3"; `share`, of the devices, in [0, 1].
    """

    channel: str
    release: int
    model: str
    sid_space: str
    minimum_runtime: str = "0"
    share: float = 1.0

    def to_custom(self) -> dict[str, Any]:
        """Return the target's custom data."""
        return {
            CUSTOM_KEY: {
                "schema": SCHEMA,
                "channel": self.channel,
                "release": self.release,
                "model": self.model,
                "sid_space": self.sid_space,
                "minimum_runtime": self.minimum_runtime,
                "per_million": round(self.share * MILLION),
            }
        }

    def allows(self, device: str) -> bool:
        """Whether a device is in the share that may have this release; a larger share keeps the devices it had.

        :param device: the device's random id.
        """
        drawn = hashlib.sha256(f"{device}/{self.channel}/{self.release}".encode()).digest()
        return int.from_bytes(drawn[:6], "big") < self.share * (1 << 48)


def check_channel(channel: str) -> str:
    """Return the name of a channel: lower-case letters, digits and dashes.

    :raises SyncError: if it has another form.
    """
    if not _CHANNEL.fullmatch(channel):
        raise SyncError(
            f"{channel!r:.60} is not the name of a channel; use lower-case letters, digits and dashes, such as stable"
        )
    return channel


def check_version(version: str) -> str:
    """Return a version of pocketrec: numbers with dots.

    :raises SyncError: if it has another form.
    """
    if not _VERSION.fullmatch(version):
        raise SyncError(f"{version!r:.40} is not a version; use numbers with dots, such as 0.3")
    return version


def target_path(channel: str, release: int, file: str) -> str:
    """Return the name of the target that holds a file of a release."""
    return f"{channel}/{release}/{file}"


def patch_path(channel: str, release: int, file: str, base_sha256: str) -> str:
    """Return the name of the target that makes a file of a release from an older one."""
    return f"{channel}/{release}/{file}.from-{base_sha256[:HASH_DIGITS]}.zst"


def split_path(path: str) -> tuple[str, int, str] | None:
    """Return the channel, release and file name in a target's name; None if it has another form."""
    parts = path.split("/")
    if len(parts) != 3 or not _CHANNEL.fullmatch(parts[0]) or not _NUMBER.fullmatch(parts[1]):
        return None
    if not is_file_name(parts[2]) or int(parts[1]) > MAX_RELEASE:
        return None
    return parts[0], int(parts[1]), parts[2]


def split_patch(file: str) -> tuple[str, str] | None:
    """Return the file that a patch makes and the first digits of its base's SHA-256; None if `file` is not a patch."""
    found = _PATCH.fullmatch(file)
    return (found["file"], found["base"]) if found else None


def version_name(channel: str, release: int, manifest_sha256: str) -> str:
    """Return the name that a release has as a version on a device."""
    return f"{channel}-{release}-{manifest_sha256[:HASH_DIGITS]}"


def release_of_version(name: object) -> int | None:
    """Return the release in a version's name; None if it has another form."""
    found = _VERSION_NAME.fullmatch(name) if isinstance(name, str) else None
    return int(found[1]) if found else None


def parse_info(path: str, custom: Mapping[str, Any] | None) -> ReleaseInfo:
    """Read the data that is signed with a manifest.

    :param path: the target's name; channel and release must be those of the custom data.
    :raises SyncError: if a field is missing or of the wrong kind, or the schema is a later one.
    """
    fields = (custom or {}).get(CUSTOM_KEY)
    if not isinstance(fields, Mapping):
        raise SyncError(f"{path} has no release data; publish it with pocketrec")
    if fields.get("schema") != SCHEMA:
        raise SyncError(
            f"{path} has release data of schema {fields.get('schema')!r:.20}, and this pocketrec reads {SCHEMA}; "
            "update pocketrec"
        )
    named = split_path(path)
    if named is None or (fields.get("channel"), fields.get("release")) != named[:2]:
        raise SyncError(f"{path} has the data of another release; publish it again")
    model, space = _hex(path, fields, "model"), fields.get("sid_space")
    least, share = fields.get("minimum_runtime"), fields.get("per_million")
    if not isinstance(space, str) or not 0 < len(space) <= 256:
        raise SyncError(f"{path}: sid_space is {space!r:.40}; it must be a text of 1 to 256 characters")
    if not isinstance(least, str) or not _VERSION.fullmatch(least):
        raise SyncError(f"{path}: minimum_runtime is {least!r:.40}; it must be like 0.3")
    if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= MILLION:
        raise SyncError(f"{path}: per_million is {share!r:.40}; it must be from 0 to {MILLION}")
    return ReleaseInfo(named[0], named[1], model, space, least, share / MILLION)


def _hex(path: str, fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not is_sha256(value):
        raise SyncError(f"{path}: {name} is {value!r:.40}; it must be 64 hex digits")
    return value


def runtime_opens(minimum: str, version: str) -> bool:
    """Whether a version of pocketrec is at least a release's minimum; a suffix such as .dev1 does not count."""

    def numbers(text: str) -> list[int]:
        found = re.match(r"\d+(?:\.\d+)*", text)
        values = [int(part) for part in found[0].split(".")] if found else []
        return values + [0] * (8 - len(values))

    return numbers(version) >= numbers(minimum)
