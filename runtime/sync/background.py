"""Threads that work for a sync client in the background, and end with it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable


class Background:
    """Runs work in threads until it is stopped.

    Attributes: `stop`, set once; no thread starts afterwards, and repeated work ends.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._repeats = 0  # calls of `repeat`; only the last one's thread goes on
        self._lock = threading.Lock()  # guards `_threads` and `_repeats`

    def start(self, work: Callable[[], object]) -> None:
        """Run once, unless stopped."""
        with self._lock:
            if self.stop.is_set():
                return
            thread = threading.Thread(target=work, name="pocketrec-sync", daemon=True)
            self._threads = [*(running for running in self._threads if running.is_alive()), thread]
            thread.start()

    def repeat(self, work: Callable[[], object], seconds: float, vary: float) -> None:
        """Run again and again after pauses, until stopped or called again.

        :param seconds: a pause; each is longer or shorter by up to the share `vary`.
        """
        with self._lock:
            self._repeats += 1
            number = self._repeats

        def again() -> None:
            while not self.stop.wait(seconds * random.uniform(1 - vary, 1 + vary)) and self._repeats == number:
                work()

        self.start(again)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until every thread has ended, except the calling one.

        :param seconds: how long to wait for each; None: without limit.
        """
        with self._lock:
            running = list(self._threads)
        for thread in running:
            if thread is not threading.current_thread():
                thread.join(seconds)
