"""Files that are downloaded together take turns, so that the first one is there early, to be worked on while others
come, and all connections are used."""

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import tqdm

# Some stores count requests; but the first part of every file comes alone, so parts should not be large.
BYTES_PER_REQUEST = 16 * 1024**2


class Download:
    """What the threads of one download share. stopping: set when it has failed or is to end."""

    def __init__(self, bar: "tqdm.tqdm[None] | None" = None, stopping: threading.Event | None = None) -> None:
        self.bar = bar
        self.turn = threading.Lock()
        self.stopping = stopping or threading.Event()


class Turn:
    """A block in which it is one file's turn to be fetched: it begins when no other file has it, and ends when all
    parts of the file are asked for. Those of the next file come after these."""

    def __init__(self, download: Download) -> None:
        self.stopping = download.stopping
        self._download = download
        self._bytes = 0
        self._is_ours = False
        self._lock = threading.Lock()  # bytes are counted by several threads

    def __enter__(self) -> Self:
        self._download.turn.acquire()
        self._is_ours = True
        self._bytes = 0
        try:
            self.count(0)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def count(self, transferred: int) -> None:
        """So many more bytes are here; raises InterruptedError if the download is to end."""
        if self.stopping.is_set():
            raise InterruptedError("another transfer failed")
        if self._download.bar is not None:
            self._download.bar.update(transferred)
        with self._lock:
            self._bytes += transferred
            # boto3 asks for all other parts when the first one is here.
            parts_asked_for = self._bytes > BYTES_PER_REQUEST
        if parts_asked_for:
            self._end()

    def _end(self) -> None:
        with self._lock:
            was_ours, self._is_ours = self._is_ours, False
        if was_ours:
            self._download.turn.release()
