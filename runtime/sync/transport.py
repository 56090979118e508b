"""HTTP requests for files. What comes back is not trusted here; `fetcher` and `trust` check it.

- Only https, unless the server is this machine or the caller allows http. A redirect must keep to the same rule.
- At most `MAX_REDIRECTS` redirects in a row; the body of a redirect is not read.
- Connecting and every read have a time limit. The limits on bytes and on the whole time are the fetcher's.
- The platform's proxies (environment variables) and certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR`, as
  Python's ssl reads them) apply.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, Protocol
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from pocketrec.runtime.errors import ConfigError, MissingExtraError, NetworkError, one_line

CHUNK_BYTES: Final = 1 << 16
MAX_REDIRECTS: Final = 3
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")
_REDIRECTS: Final = (301, 302, 303, 307, 308)


def _nothing() -> None:
    pass


@dataclass
class Response:
    """A server's response to a request for a file.

    Attributes: `status`, of HTTP; `offset`, where in the file the bytes begin, as the server says it, or None;
    `chunks`, the bytes; `close`, to be called when no more of them are wanted.
    """

    status: int
    offset: int | None
    chunks: Iterator[bytes]
    close: Callable[[], None] = _nothing


class Transport(Protocol):
    """Fetches files. Tests use a server in memory instead of HTTP."""

    def get(self, url: str, offset: int = 0) -> Response:
        """Request a file, from a byte on.

        :raises NetworkError: if there is no response; iterating over the chunks may raise it, too.
        """
        ...


@dataclass
class HttpTransport:
    """HTTP by urllib3. Calls from several threads are safe.

    Attributes: `connect_timeout` and `read_timeout`, seconds for a connection and between two pieces of a response;
    `allow_http`, whether addresses may be http.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 20.0
    allow_http: bool = False
    _pools: dict[str, Any] = field(default_factory=dict)  # by proxy
    _lock: threading.Lock = field(default_factory=threading.Lock)  # guards `_pools` and `_closed`
    _closed: bool = False

    def get(self, url: str, offset: int = 0) -> Response:
        """Request a file, from a byte on (see `Transport.get`).

        :raises ConfigError: if the address is not https.
        :raises NetworkError: if there is no response, or a redirect leads to an address that is not https.
        """
        self.check_address(url)
        urllib3 = _urllib3()
        headers = {"Accept-Encoding": "identity", "User-Agent": "pocketrec"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            for _ in range(MAX_REDIRECTS + 1):
                reply = self._pool(url).request(
                    "GET", url, headers=headers, preload_content=False, redirect=False, retries=False
                )
                if reply.status not in _REDIRECTS or not reply.headers.get("Location"):
                    return Response(
                        reply.status, _offset(reply.headers.get("Content-Range")), _chunks(reply), reply.close
                    )
                reply.close()
                url = self._redirected(url, reply.headers["Location"])
        except urllib3.exceptions.HTTPError as error:
            raise NetworkError(f"{urlsplit(url).netloc} does not respond ({one_line(error)})") from error
        raise NetworkError(f"{urlsplit(url).netloc} redirects more than {MAX_REDIRECTS} times")

    def check_address(self, url: str) -> None:
        """Refuse addresses that are not https, except those of this machine and where http is allowed.

        :raises ConfigError: if the address is refused.
        """
        if not self._is_allowed(url):
            raise ConfigError(
                f"{url} is not an https address, so others could see what is fetched; "
                "use https, or pass allow_http=True on a network of your own"
            )

    def _redirected(self, url: str, location: str) -> str:
        to = urljoin(url, location)
        if not self._is_allowed(to):
            raise NetworkError(f"{urlsplit(url).netloc} redirects to {to[:200]}, which is not an https address")
        return to

    def _is_allowed(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme == "https" or (parts.scheme == "http" and (self.allow_http or parts.hostname in _LOCAL))

    def _pool(self, url: str) -> Any:
        import ssl

        urllib3 = _urllib3()
        parts = urlsplit(url)
        proxy = "" if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme, "")
        with self._lock:
            if self._closed:
                raise NetworkError("the connections were closed")
            if proxy not in self._pools:
                options: dict[str, Any] = {
                    "timeout": urllib3.Timeout(connect=self.connect_timeout, read=self.read_timeout),
                    "ssl_context": ssl.create_default_context(),
                }
                self._pools[proxy] = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
            return self._pools[proxy]

    def close(self) -> None:
        """Close all connections; no further request is made."""
        with self._lock:
            self._closed = True
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()


def _urllib3() -> ModuleType:
    try:
        import urllib3
    except ImportError as error:
        raise MissingExtraError("sync needs `pip install pocketrec[sync]`") from error
    return urllib3


def _offset(content_range: str | None) -> int | None:
    """The first byte of a header like `bytes 100-199/200`."""
    unit, _, rest = (content_range or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() and len(first) < 20 else None


def _chunks(reply: Any) -> Iterator[bytes]:
    """The bytes of a response as they arrive. The connection is used again only if all of them were read."""
    urllib3 = _urllib3()
    try:
        # read1 returns what has arrived. A read of a whole chunk would wait for a server that sends byte by byte, and
        # the caller could not check its deadline.
        while piece := reply.read1(CHUNK_BYTES, decode_content=False):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise NetworkError(f"the connection was cut ({one_line(error)})") from error
    reply.release_conn()
