"""The errors that pocketrec raises on purpose. Each message says what is wrong, where, and what to do."""

from __future__ import annotations


class PocketRecError(Exception):
    """Base of all pocketrec errors; the CLI prints its message and exits with code 1."""


class BundleError(PocketRecError):
    """A bundle is damaged, incomplete, of another version, or its parts do not belong together."""


class TrieError(PocketRecError):
    """Semantic-ID rows or a trie file break the trie's rules."""


class SessionError(PocketRecError):
    """A saved session is damaged, too large, or of another version."""


class SyncError(PocketRecError):
    """A release cannot be published, fetched, verified or stored."""


class TrustError(SyncError):
    """The repository sent invalid data: a wrong signature, hash, length or version, or expired metadata."""


class NetworkError(SyncError):
    """A request failed: no connection, a time-out, a cut connection or an HTTP error. Try again later."""


class StoreError(SyncError):
    """The device cannot store a release: no space, no permission, or another process is writing."""


class DataError(PocketRecError):
    """An interaction log or a catalogue cannot be used as it is."""


class ConfigError(PocketRecError):
    """An option or a configuration value is wrong; the CLI exits with code 2."""


class TrainingError(PocketRecError):
    """Training failed to give a usable result (a collapsed codebook, a diverged loss)."""


class ExportError(PocketRecError):
    """A file cannot be exported, or lost more quality than was allowed."""


class MissingExtraError(PocketRecError):
    """A feature needs an optional dependency that is not installed; the message names the extra."""


def one_line(error: BaseException) -> str:
    """Return the message of a library's error as one short line."""
    return " ".join(str(error).split())[:300]
