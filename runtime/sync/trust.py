"""The signed metadata: python-tuf's client, over our own transport. It alone decides what is trusted.

`refresh` follows the whole workflow of the TUF specification: the next roots, the timestamp and, where they changed,
snapshot and targets. python-tuf checks signatures, versions, hashes and expiry, and stores what it has verified.

`has_news` requests the timestamp alone. If its bytes are those of the stored timestamp, and nothing that is stored has
expired, no refresh is needed:

- The stored timestamp was verified before it was stored, so equal bytes are verified, too.
- Whenever anything is signed again, a root included, `pocketrec publish` and `pocketrec repo` sign a new timestamp.
- A server that withholds a new timestamp could withhold a new root from a whole refresh as well. In both cases the
  device notices at the latest when the stored metadata expires.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketrec.runtime.errors import MissingExtraError, NetworkError, StoreError, SyncError, TrustError, one_line
from pocketrec.runtime.files.atomic import sync_to_disk
from pocketrec.runtime.sync.fetcher import Fetcher, NotFoundError

if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface, Updater

MAX_TIMESTAMP_BYTES: Final = 16_384
MAX_TARGETS_BYTES: Final = 5_000_000
ROLES: Final = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True)
class SignedFile:
    """A target: its name, what is signed for it, and its address."""

    path: str
    length: int
    hashes: Mapping[str, str]
    url: str
    custom: Any = None

    @property
    def sha256(self) -> str:
        """The SHA-256, which every file of a release has.

        :raises TrustError: if it is not signed.
        """
        if "sha256" not in self.hashes:
            raise TrustError(f"{self.path} is signed without a SHA-256; publish it with pocketrec")
        return self.hashes["sha256"]


@dataclass
class Trust:
    """The verified metadata of one repository, stored in a folder.

    Attributes: `url`, of the repository; `root`, the root metadata that the app carries; `metadata_url` and
    `targets_url`, where they are not below `url`.
    """

    folder: Path
    url: str
    root: bytes
    fetcher: Fetcher
    metadata_url: str = ""
    targets_url: str = ""
    _updater: Updater | None = None
    _timestamp: bytes | None = None  # fetched by `has_news`, for `refresh`

    def __post_init__(self) -> None:
        """Complete the addresses."""
        base = self.url.rstrip("/")
        self.metadata_url = self.metadata_url or f"{base}/metadata/"
        self.targets_url = self.targets_url or f"{base}/targets/"

    def has_news(self) -> bool:
        """Request the timestamp, and return whether a refresh is needed.

        :raises NetworkError: if the request fails.
        """
        data = self.fetcher.get(self.metadata_url + "timestamp.json", MAX_TIMESTAMP_BYTES)
        self._timestamp = data
        return data != self._stored("timestamp") or self.expires() <= datetime.now(timezone.utc)

    def expires(self) -> datetime:
        """Return when the first of the stored metadata expires; the least datetime if a role is not stored."""
        found = []
        for role in ROLES:
            try:
                expires = json.loads(self._stored(role))["signed"]["expires"]
                found.append(datetime.fromisoformat(expires[:19] + "+00:00"))
            except (ValueError, TypeError, KeyError):
                return datetime.min.replace(tzinfo=timezone.utc)
        return min(found)

    def refresh(self) -> None:
        """Bring the stored metadata up to date, by the whole of TUF's rules.

        :raises TrustError: if the repository's metadata is invalid or expired.
        :raises NetworkError: if a request fails.
        :raises StoreError: if the folder cannot be written.
        """
        with _errors_of_tuf(self.folder):
            self._updater = self._make_updater()
            self._updater.refresh()
            for role in ROLES:
                sync_to_disk(self.folder / f"{role}.json")
            sync_to_disk(self.folder)

    def _make_updater(self) -> Updater:
        try:
            from tuf.ngclient import Updater
        except ImportError as error:
            raise MissingExtraError("sync needs `pip install pocketrec[sync]`") from error
        self.folder.mkdir(parents=True, exist_ok=True)
        fetched = {} if self._timestamp is None else {self.metadata_url + "timestamp.json": self._timestamp}
        self._timestamp = None
        fetch = _tuf_fetcher(self.fetcher, fetched)
        return Updater(str(self.folder), self.metadata_url, fetcher=fetch, bootstrap=self.root)

    def targets(self) -> Iterator[str]:
        """Return the names of all targets; refresh first."""
        return iter(self._signed("targets")["targets"])

    def find(self, path: str) -> SignedFile | None:
        """Return what is signed for a target, None if there is no such target; refreshes if that was not done.

        :raises SyncError: as `refresh`.
        """
        if self._updater is None:
            self.refresh()
        assert self._updater is not None
        with _errors_of_tuf(self.folder):
            found = self._updater.get_targetinfo(path)
        if found is None:
            return None
        known = {name: digits for name, digits in found.hashes.items() if name in hashlib.algorithms_guaranteed}
        if not known:
            raise TrustError(f"{path} is signed without a hash that Python knows; publish it with pocketrec")
        url = self._address(path, next(iter(found.hashes.values())))
        return SignedFile(path, found.length, known, url, found.custom)

    def _address(self, path: str, first_hash: str) -> str:
        folder, slash, name = path.rpartition("/")
        if self._signed("root").get("consistent_snapshot"):
            name = f"{first_hash}.{name}"
        return f"{self.targets_url}{folder}{slash}{name}"

    def _signed(self, role: str) -> dict[str, Any]:
        """Return what the updater has verified and stored."""
        try:
            signed: dict[str, Any] = json.loads(self._stored(role))["signed"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{role}.json in {self.folder} cannot be read back; refresh again") from error
        return signed

    def _stored(self, role: str) -> bytes:
        try:
            return (self.folder / f"{role}.json").read_bytes()
        except OSError:
            return b""


def _tuf_fetcher(fetcher: Fetcher, fetched: dict[str, bytes]) -> FetcherInterface:
    """Our fetcher behind python-tuf's interface. `fetched`: files that are here already, each used once."""
    from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
    from tuf.ngclient import FetcherInterface

    class TufFetcher(FetcherInterface):
        def _fetch(self, url: str) -> Iterator[bytes]:
            yield self.download_bytes(url, MAX_TARGETS_BYTES)

        def download_bytes(self, url: str, max_length: int) -> bytes:
            if url in fetched:
                return fetched.pop(url)
            try:
                return fetcher.get(url, max_length)
            except NotFoundError as error:
                raise DownloadHTTPError(str(error), 404) from error
            except NetworkError as error:
                raise DownloadError(str(error)) from error
            except TrustError as error:
                raise DownloadLengthMismatchError(str(error)) from error

    return TufFetcher()


@contextmanager
def _errors_of_tuf(folder: Path) -> Iterator[None]:
    """Raise python-tuf's errors as ours: what the repository sent is invalid, or a request or the folder failed."""
    try:
        yield
    except SyncError:
        raise
    except Exception as error:
        from tuf.api.exceptions import DownloadError, DownloadLengthMismatchError, RepositoryError

        reason = one_line(error)
        if isinstance(error, (RepositoryError, DownloadLengthMismatchError)):
            raise TrustError(f"the repository's metadata is invalid ({reason}); nothing was changed") from error
        if isinstance(error, DownloadError):
            raise NetworkError(f"the repository cannot be reached ({reason}); try again later") from error
        if isinstance(error, OSError):
            raise StoreError(f"{folder} cannot be written ({reason}); free some space or check permissions") from error
        if isinstance(error, ValueError):
            raise TrustError(f"the repository's metadata is malformed ({reason}); nothing was changed") from error
        raise
