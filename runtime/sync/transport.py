"""The line to a server: plain HTTP requests, with time limits, and no opinion on what is fetched.

Uses the platform's proxies (environment variables) and certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` as
Python's ssl does). Only https, unless the server is this machine or the caller insists. Redirects are followed a few
times, under the same rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from pocketrec.runtime.errors import ConfigError, MissingExtraError, NetworkError, one_line

CHUNK_BYTES: Final = 1 << 16
MAX_REDIRECTS: Final = 3
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")


@dataclass
class Response:
    """A server's answer: its status, where in the file its bytes begin (None: it does not say), and the bytes."""

    status: int
    begin: int | None
    chunks: Iterator[bytes]


class Transport(Protocol):
    """What fetches. Tests put a server in memory behind it."""

    def get(self, url: str, begin: int = 0) -> Response:
        """Ask for a file, from a byte on.

        :raises NetworkError: if there is no answer; the chunks may raise it later, too.
        """
        ...


@dataclass
class HttpTransport:
    """HTTP over urllib3. Attributes are seconds: until a connection stands, and between two pieces of an answer."""

    connect_timeout: float = 10.0
    read_timeout: float = 20.0
    allow_http: bool = False
    _pools: dict[str, Any] = field(default_factory=dict)

    def get(self, url: str, begin: int = 0) -> Response:
        """Ask for a file, from a byte on (see `Transport.get`).

        :raises ConfigError: if the address is not https.
        """
        import urllib3

        headers = {"Accept-Encoding": "identity", "User-Agent": "pocketrec"}
        if begin:
            headers["Range"] = f"bytes={begin}-"
        try:
            for _ in range(MAX_REDIRECTS + 1):
                self.check_address(url)
                reply = self._pool(url).request(
                    "GET", url, headers=headers, preload_content=False, redirect=False, retries=False
                )
                if reply.status not in (301, 302, 303, 307, 308) or not reply.headers.get("Location"):
                    return Response(reply.status, _begins_at(reply.headers.get("Content-Range")), _chunks(reply))
                reply.drain_conn()
                url = urljoin(url, reply.headers["Location"])
        except urllib3.exceptions.HTTPError as error:
            raise NetworkError(f"{urlsplit(url).netloc} does not answer ({one_line(error)})") from error
        raise NetworkError(f"{urlsplit(url).netloc} sends from one address to the next")

    def check_address(self, url: str) -> None:
        """Refuse what is not https, but for this machine.

        :raises ConfigError: if it is.
        """
        parts = urlsplit(url)
        if parts.scheme == "https" or (parts.scheme == "http" and (self.allow_http or parts.hostname in _LOCAL)):
            return
        raise ConfigError(f"{url} is no https address; releases are signed, but others could see what is fetched")

    def _pool(self, url: str) -> Any:
        try:
            import urllib3
        except ImportError as error:
            raise MissingExtraError("sync needs `pip install pocketrec[sync]`") from error
        parts = urlsplit(url)
        proxy = "" if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme, "")
        if proxy not in self._pools:
            limits = urllib3.Timeout(connect=self.connect_timeout, read=self.read_timeout)
            options: dict[str, Any] = {"timeout": limits, "ssl_context": _certificates()}
            self._pools[proxy] = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        return self._pools[proxy]

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()
        self._pools.clear()


def _certificates() -> Any:
    import ssl

    return ssl.create_default_context()


def _begins_at(content_range: str | None) -> int | None:
    """The first byte of a header like `bytes 100-199/200`."""
    unit, _, rest = (content_range or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() and len(first) < 20 else None


def _chunks(reply: Any) -> Iterator[bytes]:
    import urllib3

    whole = False
    try:
        # What has come, not a whole piece: else a server that drips would hold the reader past any deadline.
        while piece := reply.read1(CHUNK_BYTES, decode_content=False):
            yield piece
        whole = True
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise NetworkError(f"the line was cut ({one_line(error)})") from error
    finally:
        if whole:
            reply.release_conn()
        else:
            reply.close()  # what is left of the answer must not reach the next question
