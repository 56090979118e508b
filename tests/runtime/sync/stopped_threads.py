"""Threads that are stopped inside a step and released again, for orders of events that must not depend on luck."""

from __future__ import annotations

import threading
from contextlib import contextmanager

SECONDS = 10  # that a test waits for a thread at most


class Gate:
    """A place where a thread waits until it is opened."""

    def __init__(self):
        self.reached, self.opened = threading.Event(), threading.Event()

    def wait(self):
        self.reached.set()
        assert self.opened.wait(SECONDS)

    def await_thread(self):
        assert self.reached.wait(SECONDS)


@contextmanager
def thread(work, *arguments):
    """Run in a thread; when the block ends, it must have ended, too. What it raised is raised here."""
    errors = []

    def run():
        try:
            work(*arguments)
        except BaseException as error:
            errors.append(error)

    started = threading.Thread(target=run, daemon=True)
    started.start()
    yield started
    started.join(SECONDS)
    assert not started.is_alive()
    if errors:
        raise errors[0]
