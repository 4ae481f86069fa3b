"""Being asked to stop. A signal interrupts only where that is harmless: while a worker waits, downloads or computes.

While the catalogue is written, a signal is noted and heeded afterwards, so that no claim and no file is left behind.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# SIGHUP: the terminal or ssh session in which the worker runs has gone.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """The worker was asked to stop by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Stopping:
    """Installs the handlers of a process's main thread."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._interruptible = False
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def check(self) -> None:
        """Raise Stopped if a signal has come."""
        if self._number is not None:
            raise Stopped(self._number)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block in which a signal raises Stopped at once, one that came before included."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def _handle(self, number: int, _: object) -> None:
        # The first one counts. What follows it is clean-up, which a second one must not interrupt.
        if self._number is None:
            self._number = number
            if self._interruptible:
                self._interruptible = False
                raise Stopped(number)
