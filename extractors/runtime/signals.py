"""Signals: a worker can be asked to stop, but is interrupted only where that does no harm: waiting, downloading,
computing.

While the catalogue is written, a signal is noted and obeyed afterwards, so that no claim and no file is left behind.
Python looks for signals only between its own instructions. So that a long database query does not delay that, a thread
of its own, woken by the system, cancels the query.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# SIGHUP: the terminal or ssh session in which the worker runs has gone.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# How long a block's end waits for a query to be cancelled: afterwards, the cancelling would hit another one.
LONGEST_CANCEL_SECONDS = 5.0


class Stopped(BaseException):
    """The worker was asked to stop by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Signals:
    """The signals that ask a worker to stop. Without `install` none is handled: for attempts that others schedule."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._interruptible = False
        self._cancellable = False
        self._cancelling = threading.Lock()
        self._cancel: Callable[[], None] | None = None

    def install(self) -> None:
        """Handle the process's signals from now on; to be called in its main thread."""
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def check(self) -> None:
        """Raise Stopped if a signal has come."""
        if self._number is not None:
            raise Stopped(self._number)

    def behind(self, error: BaseException) -> BaseException:
        """The cause of an unexpected error: the signal, if one has come. Raised inside Python's own locks, it may turn
        into another error."""
        return error if self._number is None else Stopped(self._number)

    def cancel_with(self, cancel: Callable[[], None]) -> None:
        """Have `cancel` called, in another thread, when a signal comes in an interruptible or cancellable block."""
        self._cancel = cancel
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=self._wait_for_signals, args=(reader,), name="signals", daemon=True).start()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block in which a signal raises Stopped at once, one that came before included."""
        with self.cancellable():
            self._interruptible = True
            try:
                self.check()
                yield
            finally:
                self._interruptible = False

    @contextmanager
    def cancellable(self) -> Iterator[None]:
        """A block in which a signal cancels the running query, and does no more."""
        self._cancellable = True
        try:
            yield
        finally:
            self._cancellable = False
            if self._cancelling.acquire(timeout=LONGEST_CANCEL_SECONDS):
                self._cancelling.release()

    def _handle(self, number: int, _: object) -> None:
        # The first one counts. Clean-up follows, which a second one must not interrupt.
        if self._number is None:
            self._number = number
            if self._interruptible:
                self._interruptible = False
                raise Stopped(number)

    def _wait_for_signals(self, reader: int) -> None:
        while numbers := os.read(reader, 100):
            if not {*map(int, SIGNALS)} & {*numbers}:
                continue
            with self._cancelling:
                if self._cancellable and self._cancel is not None:
                    with suppress(Exception):
                        self._cancel()
