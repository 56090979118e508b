"""A web server for development: the files of one folder, on 127.0.0.1, with byte ranges."""

from __future__ import annotations

import re
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_RANGE = re.compile(r"bytes=(\d+)-")


class _Handler(SimpleHTTPRequestHandler):
    """Serves files; a range request gets the file from the start of the range to the end of the file."""

    protocol_version = "HTTP/1.1"

    def send_head(self) -> Any:
        """Respond with 206 to a range, and as the base class to everything else."""
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            return super().send_head()
        begin, size = int(wanted[1]), path.stat().st_size
        if begin >= size:
            self.send_error(416)
            return None
        file = path.open("rb")
        file.seek(begin)
        self.send_response(206)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - begin))
        self.end_headers()
        return file

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file; a client that disconnects is not an error."""
        try:
            super().copyfile(source, outputfile)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests."""


def make_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Make a server of a folder on 127.0.0.1; the caller calls `serve_forever`.

    :param port: 0: any free port.
    """

    def handler(*arguments: Any) -> _Handler:
        return _Handler(*arguments, directory=str(folder))

    return ThreadingHTTPServer(("127.0.0.1", port), handler)


def serve_folder(folder: Path, port: int, started: Callable[[str], None]) -> None:
    """Serve a folder until interrupted.

    :param started: called with the address when the server listens.
    """
    with make_server(folder, port) as server:
        started(f"http://127.0.0.1:{server.server_address[1]}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
