"""The body of an answer: as it comes, no longer than announced, and not too slowly."""

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import IncompleteReadError

from extractors.products.disk import disk_errors, write_all
from extractors.products.parts import DifferenceError, Part
from extractors.products.source import TooSlowError

if TYPE_CHECKING:
    import tqdm
    from urllib3 import HTTPResponse

BYTES_PER_READ = 1024**2
# How long a connection may be slower than `least_bytes_per_second`.
SLOW_SECONDS = 30.0


def receive(body: "HTTPResponse", part: Part, least: float, stopping: threading.Event, bar: "tqdm.tqdm[Any]") -> None:
    """Write a part's bytes to their place in its file. least: bytes per second. stopping: nobody wants them any more.

    Raises DifferenceError at the first byte too many, TooSlowError, DiskError, and what the network raises.
    """
    path, doing = part.file.partial, f" while downloading {part.file.item.key}"
    shown = 0
    try:
        with disk_errors(path, doing):
            file = path.open("r+b", buffering=0)
        with file:
            file.seek(part.start)
            for chunk in _chunks(body, part.length, Pace(least), stopping):
                with disk_errors(path, doing):
                    write_all(file, chunk)
                bar.update(len(chunk))
                shown += len(chunk)
    except BaseException:
        bar.update(-shown)
        raise


def _chunks(body: "HTTPResponse", length: int, pace: "Pace", stopping: threading.Event) -> Iterator[bytes]:
    got = 0
    # Whatever is there, as soon as it is: waiting for more, a few bytes a minute would pass for a connection.
    while chunk := body.read1(min(BYTES_PER_READ, length - got + 1)):
        if stopping.is_set():
            raise InterruptedError("the download ends")
        got += len(chunk)
        if got > length:
            raise DifferenceError(f"more than {length:,} bytes arrived")
        yield chunk
        if got < length:
            pace.check(got)
    if got < length:
        raise IncompleteReadError(actual_bytes=got, expected_bytes=length)


class Pace:
    """How fast bytes come."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._since, self._got = time.monotonic(), 0

    def check(self, got: int) -> None:
        """So many bytes are here; raises TooSlowError if too few have come for too long."""
        now = time.monotonic()
        seconds, came = now - self._since, got - self._got
        if seconds >= SLOW_SECONDS:
            if came < self._least * seconds:
                raise TooSlowError(f"{came:,} bytes in {seconds:.0f} s")
            self._since, self._got = now, got
