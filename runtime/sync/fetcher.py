"""Fetching: bounded in bytes, time and attempts, and resumed where it stopped. It trusts nothing but signed hashes.

A file on its way lies in a part that is named by the hash that is signed for it: what an earlier attempt fetched is
gone on with, from whatever address, and thrown away if the whole turns out to be something else.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
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

    Attributes: `attempts` at one file in a row; `pause`, seconds before the second attempt, doubled for each further
    one and varied by half; `deadline`, seconds for one file in all, so that no server holds the device for ever.
    """

    attempts: int = 4
    pause: float = 0.5
    deadline: float = 900.0


class NotFoundError(NetworkError):
    """The server has no such file."""


@dataclass
class Fetcher:
    """Fetches over a line. Attributes `requests` and `received` (bytes) count what went over it."""

    transport: Transport
    limits: Limits = field(default_factory=Limits)
    sleep: Callable[[float], None] = time.sleep
    random: random.Random = field(default_factory=random.Random)
    requests: int = 0
    received: int = 0

    def get(self, url: str, most: int) -> bytes:
        """Fetch something small whose length is not signed.

        :param most: bytes; more are refused.
        :raises NotFoundError: if the server has no such file.
        :raises NetworkError: if the line fails at every attempt.
        :raises TrustError: if there is more than `most`.
        """

        def once(end: float) -> bytes:
            got = bytearray()
            with closing(self._ask(url, 0, end)[1]) as chunks:
                for chunk in chunks:
                    got += chunk
                    if len(got) > most:
                        raise TrustError(f"{_name(url)} has over {most} bytes; it cannot be genuine")
            return bytes(got)

        return self._try(once)

    def download(
        self, url: str, length: int, hashes: Mapping[str, str], part: Path, progress: Progress | None = None
    ) -> None:
        """Fetch a file whose length and hashes are signed into `part`, going on with what is there.

        :param hashes: algorithm of hashlib → hex digits; all must hold, and there is one at least.
        :raises NetworkError: if the line fails at every attempt; what came so far stays in `part`.
        :raises TrustError: if what came is not what is signed; `part` is gone then.
        :raises StoreError: if it cannot be written.
        """

        def once(end: float) -> None:
            try:
                self._more(url, length, part, progress, end)
                if not matches(part, length, hashes):
                    raise TrustError(f"{_name(url)} is not what is signed (a hash differs)")
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
                self._try(once)  # the earlier attempt's bytes may have been the wrong ones
        except OSError as error:
            raise StoreError(
                f"{part.name} cannot be written ({error}); free some space or check permissions"
            ) from error

    def _more(self, url: str, length: int, part: Path, progress: Progress | None, end: float) -> None:
        have = part.stat().st_size if part.exists() else 0
        if have > length:
            part.unlink()
            have = 0
        if have == length and part.exists():
            return
        goes_on, pieces = self._ask(url, have, end)
        have = have if goes_on else 0  # a server that knows no ranges begins again
        with closing(pieces) as chunks, part.open("ab" if goes_on else "wb") as file:
            for chunk in chunks:
                have += len(chunk)
                if have > length:
                    raise TrustError(f"{_name(url)} has more than the {length} bytes that are signed")
                file.write(chunk)
                if progress:
                    progress(have)
        if have < length:
            raise NetworkError(f"{_name(url)} ended after {have} of {length} bytes")

    def _ask(self, url: str, begin: int, end: float) -> tuple[bool, Generator[bytes, None, None]]:
        """Ask; return whether the answer goes on at `begin` (else it is the whole file), and its pieces."""
        self.requests += 1
        answer = self.transport.get(url, begin)
        pieces = self._counted(answer, url, end)
        goes_on = begin > 0 and answer.status == 206 and answer.begin == begin
        if answer.status == 200 or goes_on:
            return goes_on, pieces
        with closing(pieces):
            if answer.status in (403, 404, 410):
                raise NotFoundError(f"{_name(url)} is not there (HTTP {answer.status})")
            raise NetworkError(f"the server answers {_name(url)} with HTTP {answer.status}")

    def _counted(self, answer: Response, url: str, end: float) -> Generator[bytes, None, None]:
        for chunk in answer.chunks:
            self.received += len(chunk)
            if time.monotonic() > end:
                raise NetworkError(f"{_name(url)} takes longer than {self.limits.deadline:.0f} seconds")
            yield chunk

    def _try(self, once: Callable[[float], _T]) -> _T:
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
                self.sleep(pause)
        raise NetworkError("no attempt was allowed")


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
