"""New catalogues and models for a device: signed releases, fetched, verified, stored and swapped in while it runs.

Using it needs the extra `sync`; importing it does not.
"""

from pocketrec.runtime.sync.client import MODES, Status, SyncClient
from pocketrec.runtime.sync.events import Checking, Downloading, Failed, Refreshed, Swapped, Verifying
from pocketrec.runtime.sync.fetcher import Limits
from pocketrec.runtime.sync.live import LiveRecommender
from pocketrec.runtime.sync.live_session import LiveSession
from pocketrec.runtime.sync.versions import LiveControl

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
