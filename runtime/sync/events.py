"""What a refresh tells its caller while it works, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Checking:
    """Asking the server what is new."""


@dataclass(frozen=True)
class Downloading:
    """A file is on its way: `done` of `total` bytes."""

    file: str
    done: int
    total: int


@dataclass(frozen=True)
class Verifying:
    """All files are here; the new version is opened and asked for a recommendation."""

    release: int


@dataclass(frozen=True)
class Swapped:
    """Another version is current."""

    release: int


@dataclass(frozen=True)
class Failed:
    """A refresh in the background did not succeed; what was there goes on."""

    error: Exception


Event = Checking | Downloading | Verifying | Swapped | Failed
OnEvent = Callable[[Event], None]
Conditions = Callable[[int], bool]
"""Whether a download of so many bytes may run now (unmetered, charging, idle …)."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes: `release`, the current one, None if there is none; `bytes` and `requests` over the line; `how`:
    "unchanged", "files" (whole ones), "patch" (the catalogue came as a patch), "kept" (all bytes were here already),
    or "postponed" (the conditions said no).
    """

    changed: bool
    release: int | None
    bytes: int
    requests: int
    how: str
