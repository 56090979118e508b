"""What a refresh reports to its caller while it runs, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Checking:
    """The server is asked whether there is a new release."""


@dataclass(frozen=True)
class Downloading:
    """A file is being downloaded: `done` of `total` bytes so far."""

    file: str
    done: int
    total: int


@dataclass(frozen=True)
class Verifying:
    """All files of a release are here. It is opened, and recommends once as a test."""

    release: int


@dataclass(frozen=True)
class Swapped:
    """Another release is current."""

    release: int


@dataclass(frozen=True)
class Failed:
    """A release does not work here, or a refresh in the background failed; the current version stays."""

    error: Exception


Event = Checking | Downloading | Verifying | Swapped | Failed
OnEvent = Callable[[Event], None]
"""Called in the thread of the refresh."""
Conditions = Callable[[int], bool]
"""Whether a download of this many bytes may run now (unmetered, charging, idle …)."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes: `changed`, whether another version is current; `release`, the current one, None if there is none;
    `bytes` and `requests`, over the network; `how`: "unchanged", "files" (whole files), "patch" (at least one file
    came as a patch), "kept" (all files were here already), or "postponed" (the conditions returned False).
    """

    changed: bool
    release: int | None
    bytes: int
    requests: int
    how: str
