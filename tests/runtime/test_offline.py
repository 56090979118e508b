"""No byte leaves the device: proven in a fresh process, for Python's sockets and for those of native code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest

from device_engines import DEVICE_ENGINES
from tiny import random_rows, tiny_bundle, tiny_student

SCRIPT = """
import json, os, sys, threading, time
events = []
sys.addaudithook(lambda name, args: events.append(name) if name.startswith(("socket.", "urllib.", "http.")) else None)
from pocketrec.runtime.recommender import Recommender
with Recommender.load(sys.argv[1], sys.argv[2]) as rec:
    rec.recommend(["item-1", "item-2"])
    session = rec.session(["item-1"])
    session.observe("item-3")
    session.recommend(control=rec.control(bias={"item-4": 1.0}))
    rec.explain(["item-1"], "item-2")
    if "--again" in sys.argv:  # the proof must be able to fail
        import socket
        kept = socket.socket()
    time.sleep(0.3)  # for a thread that would report later
    folder = "/proc/self/fd"
    links = []
    for fd in os.listdir(folder) if os.path.isdir(folder) else []:
        try:
            links.append(os.readlink(f"{folder}/{fd}"))
        except OSError:
            pass
print(json.dumps({"events": events, "sockets": [link for link in links if link.startswith("socket:")]}))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("offline") / "b", tiny_student(), random_rows(30))


def ran(bundle, *arguments, before=()):
    command = [*before, sys.executable, "-c", SCRIPT, str(bundle), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("engine", DEVICE_ENGINES)
def test_recommending_opens_no_socket(bundle, engine):
    assert ran(bundle, engine) == {"events": [], "sockets": []}


def test_a_socket_would_be_seen(bundle):
    found = ran(bundle, "onnx", "--again")
    assert found["events"]
    assert found["sockets"] or sys.platform != "linux"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_kernel_is_asked_for_no_network(bundle, tmp_path):
    trace = tmp_path / "trace"
    before = ("strace", "-f", "-qq", "-e", "trace=socket,connect,sendto,sendmsg", "-o", str(trace))
    ran(bundle, "onnx", before=before)
    assert [line for line in trace.read_text().splitlines() if "AF_INET" in line] == []


def test_onnx_runtime_is_of_a_time_before_telemetry():
    major, minor = map(int, version("onnxruntime").split(".")[:2])
    assert (major, minor) < (1, 29)
