"""Faults of a network or a server, for `RepositoryServer`.

A fault is a function of (url, offset, content) -> (HTTP status, offset that the response names, chunks). Its chunks may
raise, or never end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from pocketrec.runtime.errors import NetworkError

CHUNK = 4096

Fault = Callable[[str, int, bytes], tuple[int, "int | None", Iterator[bytes]]]


def in_chunks(content: bytes) -> Iterator[bytes]:
    for begin in range(0, len(content), CHUNK):
        yield content[begin : begin + CHUNK]


def no_fault(url: str, offset: int, content: bytes) -> tuple[int, int | None, Iterator[bytes]]:
    return (206, offset, in_chunks(content[offset:])) if offset else (200, None, in_chunks(content))


def cut(after: int) -> Fault:
    """The connection is cut after some bytes."""

    def fault(url, offset, content):
        def chunks():
            yield content[offset : offset + after]
            raise NetworkError("the connection was cut")

        return (206 if offset else 200), offset or None, chunks()

    return fault


def truncated(less: int) -> Fault:
    """The response ends early, as if that were all."""
    return lambda url, offset, content: no_fault(url, offset, content[: max(offset, len(content) - less)])


def too_long(url, offset, content):
    return no_fault(url, offset, content + b"x")


def endless(url, offset, content):
    return (206 if offset else 200), offset or None, itertools.repeat(b"\0" * CHUNK)


def corrupt(at: int, mask: int = 0xFF) -> Fault:
    """One byte of the content differs."""

    def fault(url, offset, content):
        place = at % max(len(content), 1)
        return no_fault(url, offset, content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :])

    return fault


def refused(url, offset, content):
    raise NetworkError("no connection")


def status(code: int) -> Fault:
    return lambda url, offset, content: (code, None, iter([b"an error page"]))


def ignores_ranges(url, offset, content):
    return 200, None, in_chunks(content)


def wrong_range(url, offset, content):
    """Resumes, but one byte too early."""
    return (206, max(offset - 1, 0), in_chunks(content[max(offset - 1, 0) :])) if offset else no_fault(url, 0, content)
