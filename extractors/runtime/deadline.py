"""The longest time that a scene may take. A worker that hangs keeps its connection and so its claim; ended, it frees
both, and another worker takes the scene."""

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

EXIT_CODE = 70
# A native call that holds Python's lock stops our own watch as well; then a thread outside Python ends the process
# (exit code 1, without a word).
GRACE_SECONDS = 5.0


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """End the process with EXIT_CODE if the block takes longer, whatever it is doing."""

    def end() -> None:
        log.error("this scene took longer than %g s (extraction.deadline_seconds): this worker ends", seconds)
        sys.stdout.flush()
        os._exit(EXIT_CODE)

    watch = threading.Timer(seconds, end)
    watch.daemon = True
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=nowhere)
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            faulthandler.cancel_dump_traceback_later()
