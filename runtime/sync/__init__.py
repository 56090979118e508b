"""Refreshed catalogues for a device: signed releases of bundles, fetched, checked, kept and swapped in.

Needs the extra `sync`; importing it does not.
"""

from pocketrec.runtime.sync.client import MODES, Status, SyncClient
from pocketrec.runtime.sync.events import Checking, Downloading, Failed, Refreshed, Swapped, Verifying
from pocketrec.runtime.sync.fetcher import Limits
from pocketrec.runtime.sync.live import LiveControl, LiveRecommender, LiveSession

__all__ = [
    "MODES",
    "Checking",
    "Downloading",
    "Failed",
    "Limits",
    "LiveControl",
    "LiveRecommender",
    "LiveSession",
    "Refreshed",
    "Status",
    "Swapped",
    "SyncClient",
    "Verifying",
]
