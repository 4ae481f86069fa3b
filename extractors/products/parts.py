"""Files that are downloaded together, in parts: one queue, first come, first served, and threads that take from it.

So one file's parts are asked for before those of the next, which can be decoded while others arrive; a part that is
tried again keeps its thread, and a file that is fetched again goes before all that wait.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from extractors.model import StoredObject

# Some stores count requests; but the first file should be here early.
BYTES_PER_PART = 16 * 1024**2
# How long a failed download waits for its threads; they end by themselves, but not while they hang in the network.
LONGEST_GOODBYE_SECONDS = 60.0


@dataclass(frozen=True)
class Difference:
    """How a content is not what the store has listed, in words; by its checksum only, or by its size already."""

    text: str
    by_checksum: bool = False


class DifferenceError(Exception):
    """What arrives is not what the store has listed; the message says how it differs."""


@dataclass(eq=False)
class File:
    """An object on its way to `path`, fetched for the first time, or again because it differed `before`.

    difference: how it differs now. etag: with which its parts come, so that all are of one object. encrypted: whether
    the store encrypts it with a key of its own or of the customer's.
    """

    item: StoredObject
    path: Path
    before: Difference | None = None
    difference: Difference | None = None
    etag: str | None = None
    encrypted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def partial(self) -> Path:
        """Where it is until it is whole."""
        return self.path.with_name(self.path.name + ".part")

    def parts(self) -> "list[Part]":
        """What it is fetched in; an empty object has one part, too."""
        size = self.item.size
        starts = range(0, max(size, 1), BYTES_PER_PART)
        return [Part(self, start, min(BYTES_PER_PART, size - start)) for start in starts]


@dataclass(frozen=True)
class Part:
    """`length` bytes of a file from `start` on."""

    file: File
    start: int
    length: int

    @property
    def range(self) -> str | None:
        """As HTTP asks for it; None: the whole object."""
        if self.length == self.file.item.size:
            return None
        return f"bytes={self.start}-{self.start + self.length - 1}"


class Queue:
    """Parts to be fetched, and files of which all parts have been.

    fetch: fetches a part, in one of `threads` threads; gets `stopping`, which is set when it is to end early.
    """

    def __init__(self, fetch: Callable[[Part, threading.Event], object], threads: int) -> None:
        self.stopping = threading.Event()
        self._fetch = fetch
        self._parts: deque[Part] = deque()
        self._waiting = threading.Semaphore(0)
        self._fetched: SimpleQueue[tuple[File, BaseException | None]] = SimpleQueue()
        self._left: dict[File, int] = {}
        # Daemons: at the end of the process, nobody waits for one that hangs in the network.
        self._threads = [threading.Thread(target=self._work, name="download", daemon=True) for _ in range(threads)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """A block in which the threads work; the queue ends with it."""
        for thread in self._threads:
            thread.start()
        wait = True
        try:
            yield
        except BaseException as error:
            # Asked to stop: a thread that hangs in the network must not hold that up.
            wait = isinstance(error, Exception)
            raise
        finally:
            self.stopping.set()
            for _ in self._threads:
                self._waiting.release()
            give_up = time.monotonic() + (LONGEST_GOODBYE_SECONDS if wait else 0)
            for thread in self._threads:
                thread.join(max(0.0, give_up - time.monotonic()))

    def add(self, files: Sequence[File], *, first: bool = False) -> None:
        """Have files fetched, in this order: after all that is waiting, or before."""
        parts = [part for file in files for part in file.parts()]
        for file in files:
            self._left[file] = len(file.parts())
        if first:
            self._parts.extendleft(reversed(parts))
        else:
            self._parts.extend(parts)
        for _ in parts:
            self._waiting.release()

    def next(self, seconds: float | None) -> File | None:
        """Wait for a file of which all parts are here; None if that takes longer. Raises what a part failed with."""
        give_up = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                left = None if give_up is None else max(0.0, give_up - time.monotonic())
                file, error = self._fetched.get(timeout=left)
            except Empty:
                return None
            if error is not None:
                raise error
            self._left[file] -= 1
            if not self._left[file]:
                return file

    def _work(self) -> None:
        while True:
            self._waiting.acquire()
            if self.stopping.is_set():
                return
            part = self._parts.popleft()
            try:
                self._fetch(part, self.stopping)
            except BaseException as error:  # raised again where somebody waits for the file
                self._fetched.put((part.file, error))
            else:
                self._fetched.put((part.file, None))
