"""The form of names and hashes that come from elsewhere: in manifests, in signed metadata and in the store.

A file name that matches `FILE_NAME` is safe to join to a folder on any system: it has no separator, does not begin or
end with a dot, and is not long.
"""

from __future__ import annotations

import re
from typing import Final

FILE_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
SHA256: Final = re.compile(r"[0-9a-f]{64}")


def is_file_name(value: object) -> bool:
    """Whether a value is the name of a file, without folders."""
    return isinstance(value, str) and FILE_NAME.fullmatch(value) is not None


def is_sha256(value: object) -> bool:
    """Whether a value is a SHA-256 as 64 lower-case hex digits."""
    return isinstance(value, str) and SHA256.fullmatch(value) is not None
