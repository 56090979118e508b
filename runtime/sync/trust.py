"""What is signed: python-tuf's client over our own line. It alone decides what may be believed.

The whole refresh asks for the next root, the timestamp and, where that is new, snapshot and targets. `is_news` asks
for the timestamp alone. That is sound: equal bytes were verified before they were kept; whatever else is signed anew, a
root included, brings a new timestamp with it (our publisher sees to that); and who can hold back a new timestamp could
as well hold back a new root, which is why all of it expires. So nothing is believed that the whole refresh would
refuse, but for what somebody holds back, and that no longer than the signed days of expiry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

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
    """A target: what is signed for it, and where it lies."""

    path: str
    length: int
    hashes: Mapping[str, str]
    url: str
    custom: Any = None

    @property
    def sha256(self) -> str:
        """The SHA-256, which every file of a release has.

        :raises TrustError: if there is none.
        """
        if "sha256" not in self.hashes:
            raise TrustError(f"{self.path} is signed without a SHA-256; publish it with pocketrec")
        return self.hashes["sha256"]


@dataclass
class Trust:
    """The signed metadata of one repository, kept in a folder.

    Attributes: `url`, of the repository; `root`, the metadata that the app came with; `metadata_url` and `targets_url`,
    where they are not below `url`.
    """

    folder: Path
    url: str
    root: bytes
    fetcher: Fetcher
    metadata_url: str = ""
    targets_url: str = ""
    _updater: Updater | None = None
    _timestamp: bytes | None = None  # fetched by `is_news`, for the whole refresh

    def __post_init__(self) -> None:
        """Complete the addresses."""
        base = self.url.rstrip("/")
        self.metadata_url = self.metadata_url or f"{base}/metadata/"
        self.targets_url = self.targets_url or f"{base}/targets/"

    def is_news(self) -> bool:
        """Ask for the timestamp alone: whether it is another than the one that is kept.

        :raises NetworkError: if the line fails.
        """
        data = self.fetcher.get(self.metadata_url + "timestamp.json", MAX_TIMESTAMP_BYTES)
        self._timestamp = data
        return data != self._kept("timestamp") or self.expires() <= datetime.now(timezone.utc)

    def expires(self) -> datetime:
        """When the first of what is kept expires; long ago, if something is not kept."""
        found = []
        for role in ROLES:
            try:
                found.append(datetime.fromisoformat(json.loads(self._kept(role))["signed"]["expires"][:19] + "+00:00"))
            except (ValueError, TypeError, KeyError):
                return datetime.min.replace(tzinfo=timezone.utc)
        return min(found)

    def refresh(self) -> None:
        """Bring what is kept up to date, by the whole of TUF's rules.

        :raises TrustError: if the repository's metadata is not to be believed, or has expired.
        :raises NetworkError: if the line fails.
        :raises StoreError: if the folder cannot be written.
        """
        with _told(self.folder):
            self._updater = self._make_updater()
            self._updater.refresh()
            for role in ROLES:
                sync_to_disk(self.folder / f"{role}.json")

    def _make_updater(self) -> Updater:
        try:
            from tuf.ngclient import Updater
        except ImportError as error:
            raise MissingExtraError("sync needs `pip install pocketrec[sync]`") from error
        self.folder.mkdir(parents=True, exist_ok=True)
        ready = {} if self._timestamp is None else {self.metadata_url + "timestamp.json": self._timestamp}
        self._timestamp = None
        fetch = _tuf_fetcher(self.fetcher, ready)
        return Updater(str(self.folder), self.metadata_url, fetcher=fetch, bootstrap=self.root)

    def targets(self) -> Iterator[str]:
        """Names of all targets, once refreshed."""
        return iter(self._signed("targets")["targets"])

    def find(self, path: str) -> SignedFile | None:
        """What is signed for a target, None if there is no such target; refreshes first if nobody did.

        :raises SyncError: as `refresh`.
        """
        if self._updater is None:
            self.refresh()
        assert self._updater is not None
        with _told(self.folder):
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
        """What the updater has just verified and kept."""
        try:
            signed: dict[str, Any] = json.loads(self._kept(role))["signed"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{role}.json in {self.folder} cannot be read back; refresh again") from error
        return signed

    def _kept(self, role: str) -> bytes:
        try:
            return (self.folder / f"{quote(role, '')}.json").read_bytes()
        except OSError:
            return b""


def _tuf_fetcher(fetcher: Fetcher, ready: dict[str, bytes]) -> FetcherInterface:
    """Our fetcher in the shape that python-tuf asks for. `ready`: answers that are here already, used once."""
    from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
    from tuf.ngclient import FetcherInterface

    class TufFetcher(FetcherInterface):
        def _fetch(self, url: str) -> Iterator[bytes]:
            yield self.download_bytes(url, MAX_TARGETS_BYTES)

        def download_bytes(self, url: str, max_length: int) -> bytes:
            if url in ready:
                return ready.pop(url)
            try:
                return fetcher.get(url, max_length)
            except NotFoundError as error:
                raise DownloadHTTPError(str(error), 404) from error
            except NetworkError as error:
                raise DownloadError(str(error)) from error
            except TrustError as error:
                raise DownloadLengthMismatchError(str(error)) from error

    return TufFetcher()


class _told:
    """Turns python-tuf's errors into ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, SyncError):
            return
        from tuf.api.exceptions import DownloadError, DownloadLengthMismatchError, RepositoryError

        said = one_line(error)
        if isinstance(error, (RepositoryError, DownloadLengthMismatchError)):
            raise TrustError(f"the repository is not to be believed ({said}); nothing was changed") from error
        if isinstance(error, DownloadError):
            raise NetworkError(f"the repository cannot be read ({said}); try again later") from error
        if isinstance(error, OSError):
            raise StoreError(f"{self.folder} cannot be written ({said})") from error
        if isinstance(error, ValueError):
            raise TrustError(f"the repository's metadata is malformed ({said}); nothing was changed") from error
