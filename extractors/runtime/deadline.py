"""The longest time that a scene may take. A worker that hangs keeps its connection and so its claim; ended, it frees
both, and another worker takes the scene."""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from extractors.health import report

log = logging.getLogger(__name__)

EXIT_CODE = 70
# A native call that holds Python's lock stops our own watch as well; then a thread outside Python ends the process
# (exit code 1, without a word).
GRACE_SECONDS = 5.0


class Deadline:
    """How long a worker may be `doing` something by itself, whatever that is. What others take is not counted."""

    def __init__(self, doing: str, seconds: float) -> None:
        self._doing = doing
        self._seconds = self._left = seconds
        self._since = 0.0
        self._watch: threading.Timer | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """A block that is counted: once it is too much, the process ends with EXIT_CODE."""
        report(self._doing, self._left)
        self._start()
        try:
            yield
        finally:
            self._stop()

    @contextmanager
    def paused(self, doing: str) -> Iterator[None]:
        """A block within one that is running, in which others take their time: it has limits of its own."""
        self._stop()
        report(doing, self._seconds)
        try:
            yield
        finally:
            report(self._doing, self._left)
            self._start()

    def _start(self) -> None:
        self._since = time.monotonic()
        self._watch = threading.Timer(self._left, self._end)
        self._watch.daemon = True
        faulthandler.dump_traceback_later(max(self._left, 0) + GRACE_SECONDS, exit=True, file=_nowhere())
        self._watch.start()

    def _stop(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self._watch is not None:
            self._watch.cancel()
        self._left -= time.monotonic() - self._since

    def _end(self) -> None:
        log.error("this scene took longer than %g s (extraction.deadline_seconds): this worker ends", self._seconds)
        sys.stdout.flush()
        os._exit(EXIT_CODE)


@cache
def _nowhere() -> int:
    """Where a thread outside Python may dump a traceback: open for good, and closed by nobody but the system."""
    return os.open(os.devnull, os.O_WRONLY)
