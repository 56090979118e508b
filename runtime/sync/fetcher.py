"""Fetching with limits: on bytes, time and attempts. Downloads resume where they stopped.

- No response is read beyond the bytes that it may have: the signed length of a file, or a limit.
- A file is taken only if its length and all of its signed hashes match.
- A download is written to a part file that is named after its signed hash. A later attempt, from whatever address,
  resumes it. If the whole file does not match, the part is deleted.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pocketrec.runtime.errors import NetworkError, StoreError, TrustError
from pocketrec.runtime.files.atomic import open_plain
from pocketrec.runtime.sync.transport import Response, Transport

_T = TypeVar("_T")

Progress = Callable[[int], None]
"""Called with the bytes that a file has so far."""


@dataclass(frozen=True)
class Limits:
    """How long to try.

    Attributes: `attempts`, for one file; `pause`, seconds before the second attempt, doubled for each further one and
    varied by half; `deadline`, seconds for one file with all its attempts.
    """

    attempts: int = 4
    pause: float = 0.5
    deadline: float = 900.0


class NotFoundError(NetworkError):
    """The server does not have the file."""


@dataclass
class Fetcher:
    """Fetches by a transport, within limits.

    Attributes: `stop`, which ends what is running when it is set; `requests` and `received` (bytes), counted so far.
    """

    transport: Transport
    limits: Limits = field(default_factory=Limits)
    stop: threading.Event = field(default_factory=threading.Event)
    random: random.Random = field(default_factory=random.Random)
    requests: int = 0
    received: int = 0

    def get(self, url: str, limit: int) -> bytes:
        """Fetch a small file whose length is not signed.

        :param limit: bytes; a longer file is refused.
        :raises NotFoundError: if the server does not have it.
        :raises NetworkError: if every attempt fails.
        :raises TrustError: if it has more bytes than `limit`.
        """

        def once(end: float) -> bytes:
            content = bytearray()
            with self._response(url, 0, end) as (_, chunks):
                for chunk in chunks:
                    content += chunk
                    if len(content) > limit:
                        raise TrustError(f"{_name(url)} has more than {limit} bytes, so it is not valid metadata")
            return bytes(content)

        return self._try(once)

    def download(
        self, url: str, length: int, hashes: Mapping[str, str], part: Path, progress: Progress | None = None
    ) -> None:
        """Fetch a file into `part`, resuming what is there.

        :param length: the signed length in bytes.
        :param hashes: the signed hashes, one at least: algorithm of hashlib -> hex digits.
        :raises NetworkError: if every attempt fails; `part` keeps what has arrived.
        :raises TrustError: if the file is not the signed one; `part` is then deleted.
        :raises StoreError: if it cannot be written.
        """

        def once(end: float) -> None:
            try:
                self._continue(url, length, part, progress, end)
                if not matches(part, length, hashes):
                    raise TrustError(f"{_name(url)} is not the signed file (its hash differs)")
            except TrustError:
                part.unlink(missing_ok=True)
                raise

        resumed = part.exists()
        try:
            try:
                self._try(once)
            except TrustError:
                if not resumed:
                    raise
                self._try(once)  # the wrong bytes may have been those of an earlier attempt
        except OSError as error:
            raise StoreError(
                f"{part.name} cannot be written ({error}); free some space or check permissions"
            ) from error

    def _continue(self, url: str, length: int, part: Path, progress: Progress | None, end: float) -> None:
        """Fetch what `part` lacks."""
        have = part.stat().st_size if part.exists() else 0
        if have > length:
            part.unlink()
            have = 0
        if have == length and part.exists():
            return
        with self._response(url, have, end) as (resumed, chunks):
            have = have if resumed else 0  # a server without ranges sends the whole file again
            with part.open("ab" if resumed else "wb") as file:
                for chunk in chunks:
                    have += len(chunk)
                    if have > length:
                        raise TrustError(f"{_name(url)} has more than the {length} bytes that are signed")
                    file.write(chunk)
                    if progress:
                        progress(have)
        if have < length:
            raise NetworkError(f"{_name(url)} ended after {have} of {length} bytes")

    @contextmanager
    def _response(self, url: str, offset: int, end: float) -> Iterator[tuple[bool, Iterator[bytes]]]:
        """Request a file: whether the response begins at `offset` (else at the file's start), and its chunks."""
        self._check_stop()
        self.requests += 1
        response = self.transport.get(url, offset)
        try:
            resumed = offset > 0 and response.status == 206 and response.offset == offset
            if response.status in (403, 404, 410):
                raise NotFoundError(f"{_name(url)} is not on the server (HTTP {response.status})")
            if response.status != 200 and not resumed:
                raise NetworkError(f"the server responds to {_name(url)} with HTTP {response.status}")
            yield resumed, self._counted(response, url, end)
        finally:
            response.close()

    def _counted(self, response: Response, url: str, end: float) -> Iterator[bytes]:
        for chunk in response.chunks:
            self.received += len(chunk)
            self._check_stop()
            if time.monotonic() > end:
                raise NetworkError(f"{_name(url)} takes longer than {self.limits.deadline:.0f} seconds")
            yield chunk

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise NetworkError("the sync client was closed")

    def _try(self, once: Callable[[float], _T]) -> _T:
        """Call until it succeeds. `once` gets the time at which to give up."""
        end = time.monotonic() + self.limits.deadline
        for attempt in range(self.limits.attempts):
            try:
                return once(end)
            except NotFoundError:
                raise
            except NetworkError:
                pause = self.limits.pause * 2**attempt * self.random.uniform(0.5, 1.5)
                if attempt + 1 == self.limits.attempts or time.monotonic() + pause > end:
                    raise
                if self.stop.wait(pause):
                    raise
        raise NetworkError(f"attempts is {self.limits.attempts}; allow 1 or more")


def matches(path: Path, length: int, hashes: Mapping[str, str]) -> bool:
    """Whether a plain file has a length and all of some hashes (one at least)."""
    digests = {name: hashlib.new(name) for name in hashes}
    with open_plain(path) as file:
        if os.fstat(file.fileno()).st_size != length:
            return False
        while piece := file.read(1 << 18):
            for digest in digests.values():
                digest.update(piece)
    return bool(digests) and all(digest.hexdigest() == hashes[name] for name, digest in digests.items())


def _name(url: str) -> str:
    return url.rpartition("/")[2]
