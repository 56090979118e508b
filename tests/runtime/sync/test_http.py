"""The client over real HTTP on loopback: Python's server with faults, and nginx where it is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace

import pytest

import network_faults as faults
from pocketrec import SyncClient
from pocketrec.runtime.errors import NetworkError, SyncError
from pocketrec.runtime.sync import Limits
from pocketrec.runtime.sync.transport import HttpTransport
from pocketrec.serving import _Handler, make_server
from repository_server import QUICK, still_recommends


@pytest.fixture
def served(world):
    """The world's repository, served; `url` is where."""
    world.publish(0)
    server = make_server(world.repo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    world.url, world.server = f"http://127.0.0.1:{server.server_address[1]}", server
    yield world
    server.shutdown()
    server.server_close()


def device(world, store="store", **options):
    return SyncClient(world.url, world.folder / store, world.root, **{"limits": QUICK, "mode": "latest", **options})


def test_a_device_follows_over_http(served):
    with device(served) as client:
        assert client.refresh().release == 1
        again = client.refresh()
        assert (again.changed, again.requests) == (False, 1)
        served.publish(1)
        done = client.refresh()
        assert (done.release, done.how) == (2, "patch")
    assert still_recommends(served.folder / "store", served.bundles[1])


def test_an_interrupted_download_resumes_by_a_range(served, monkeypatch):
    ranges = []
    real = _Handler.send_head

    def watched(self):
        ranges.append((self.path, self.headers.get("Range")))
        return real(self)

    def once_cut(self, source, outputfile):
        if "model.safetensors" in self.path and not self.headers.get("Range"):
            outputfile.write(source.read(5000))
            self.close_connection = True
            return
        shutil.copyfileobj(source, outputfile)

    monkeypatch.setattr(_Handler, "send_head", watched)
    monkeypatch.setattr(_Handler, "copyfile", once_cut)
    with device(served) as client:
        assert client.refresh().release == 1
    assert [asked for path, asked in ranges if "model.safetensors" in path] == [None, "bytes=5000-"]


def test_a_stalled_download_is_given_up(served, monkeypatch):
    def stall(self, source, outputfile):
        outputfile.write(source.read(100))
        outputfile.flush()
        time.sleep(3)

    monkeypatch.setattr(_Handler, "copyfile", stall)
    start = time.monotonic()
    with pytest.raises(NetworkError):
        device(served, transport=HttpTransport(read_timeout=0.2), limits=Limits(attempts=2, pause=0)).refresh()
    assert time.monotonic() - start < 3


def test_a_trickling_download_is_given_up_at_the_deadline(served, monkeypatch):
    def drip(self, source, outputfile):
        while piece := source.read(1):
            outputfile.write(piece)
            outputfile.flush()
            time.sleep(0.02)

    monkeypatch.setattr(_Handler, "copyfile", drip)
    start = time.monotonic()
    with pytest.raises(NetworkError):
        device(served, limits=Limits(attempts=3, pause=0, deadline=0.5)).refresh()
    assert time.monotonic() - start < 3


def test_a_slow_network_only_takes_longer(served, monkeypatch):
    def narrow(self, source, outputfile):
        while piece := source.read(8192):
            outputfile.write(piece)
            time.sleep(0.005)

    monkeypatch.setattr(_Handler, "copyfile", narrow)
    with device(served) as client:
        assert client.refresh().release == 1


def test_a_missing_server_is_a_network_error(world):
    world.publish(0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world.url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(NetworkError, match="does not respond"):
        device(world).refresh()


def test_redirects_are_followed_a_few_times_and_only_to_where_may_be_asked(served, monkeypatch):
    real = _Handler.send_head
    elsewhere = [served.url]

    def redirect(self):
        if not self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", elsewhere[0] + "/moved" + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.path = self.path.removeprefix("/moved")
        return real(self)

    monkeypatch.setattr(_Handler, "send_head", redirect)
    assert device(served).refresh().release == 1
    elsewhere[0] = "http://example.invalid"
    with pytest.raises(NetworkError, match="not an https address"):
        device(served, "other").refresh()
    elsewhere[0] = "/round/and/round"
    with pytest.raises(NetworkError):
        device(served, "third").refresh()


def test_the_body_of_a_redirect_is_not_read(served, monkeypatch):
    def endless_redirect(self):
        self.send_response(302)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * 65536)
        except OSError:
            return None

    monkeypatch.setattr(_Handler, "send_head", endless_redirect)
    begun = time.monotonic()
    with pytest.raises(NetworkError, match="redirects more than"):
        device(served, limits=Limits(attempts=1)).refresh()
    assert time.monotonic() - begun < 10


def test_every_response_is_closed_whatever_it_was(world):
    requested, closed = [], []

    class Watched:
        def get(self, url, offset=0):
            response = world.server.get(url, offset)
            requested.append(url)
            return replace(response, close=lambda: closed.append(url))

    world.publish(0)
    client = world.client(transport=Watched())
    for fault in (faults.cut(10), faults.too_long, faults.status(500), faults.status(404), faults.corrupt(1)):
        world.server.always = fault
        with pytest.raises(SyncError):
            client.refresh()
    world.server.always = faults.no_fault
    assert client.refresh().changed
    assert len(requested) > 12
    assert closed == requested


def test_one_connection_serves_a_whole_refresh(served, monkeypatch):
    connections, real = [], _Handler.setup

    def setup(self):
        connections.append(self.client_address)
        real(self)

    monkeypatch.setattr(_Handler, "protocol_version", "HTTP/1.1")
    monkeypatch.setattr(_Handler, "setup", setup)
    with device(served) as client:
        done = client.refresh()
    assert done.requests > 8
    assert len(connections) <= 2  # a response without a file closes its connection


def test_a_closed_transport_makes_no_request(served):
    transport = HttpTransport()
    client = device(served, transport=transport)
    client.close()
    assert device(served, "other", transport=transport).refresh().release == 1  # the app's own stays open
    transport.close()
    with pytest.raises(NetworkError, match="were closed"):
        transport.get(served.url)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx (Debian's package of that name)")
def test_a_device_follows_over_nginx(world):
    world.publish(0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = world.folder / "nginx.conf"
    config.write_text(
        f"pid {world.folder}/nginx.pid; error_log stderr; daemon off; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {world.folder}/tmp; proxy_temp_path {world.folder}/tmp;"
        f" fastcgi_temp_path {world.folder}/tmp; uwsgi_temp_path {world.folder}/tmp; scgi_temp_path {world.folder}/tmp;"
        f" server {{ listen 127.0.0.1:{port}; root {world.repo}; }} }}\n"
    )
    world.folder.chmod(0o755)
    for parent in world.folder.parents:
        if parent.name.startswith("pytest"):
            parent.chmod(0o755)
    process = subprocess.Popen(["nginx", "-c", str(config), "-g", "user root;"], stderr=subprocess.DEVNULL)
    try:
        world.url = f"http://127.0.0.1:{port}"
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        with device(world) as client:
            assert client.refresh().release == 1
            world.publish(1)
            assert client.refresh().how == "patch"
        assert still_recommends(world.folder / "store", world.bundles[1])
    finally:
        process.terminate()
        process.wait()
