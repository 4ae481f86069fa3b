"""Places where a test can make a worker die, stop or hang. Inert, unless the environment names one.

    EXTRACTION_FAILPOINT=copied:2=kill,released=term

The n-th time (default: the first) that a point is reached, its action is done.
"""

import ctypes
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from extractors.errors import ConfigurationError

VARIABLE = "EXTRACTION_FAILPOINT"
# The file that the action `touch` makes, and whose removal it waits for.
FILE_VARIABLE = "EXTRACTION_FAILPOINT_FILE"

POINTS = (
    "start",
    "connected",
    "claim_updated",
    "claim_superseded",
    "claim_locked",
    "claim_committed",
    "s3_listed",
    "file_started",
    "file_temp_written",
    "file_renamed",
    "files_verified",
    "parcels_selected",
    "chunk_computed",
    "chunk_spooled",
    "publish_begin",
    "siblings_locked",
    "copied",
    "siblings_replaced",
    "status_updated",
    "journal_updated",
    "before_commit",
    "committed",
    "unlocked",
    "files_removed",
    "released",
)


def _raise() -> None:
    raise RuntimeError("a fail point")


def _touch() -> None:
    file = Path(os.environ[FILE_VARIABLE])
    file.touch()
    while file.exists():
        time.sleep(0.02)


ACTIONS: Mapping[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda: os._exit(1),
    "raise": _raise,
    "touch": _touch,
    # A native call that does not come back: without, and with Python's lock.
    "hang": lambda: ctypes.CDLL(None).sleep(1_000_000),
    "hang_gil": lambda: ctypes.PyDLL(None).sleep(1_000_000),
}

_armed: dict[tuple[str, int], Callable[[], object]] = {}
_reached: Counter[str] = Counter()


def arm(environment: Mapping[str, str] = os.environ) -> None:
    """Read the environment; raises ConfigurationError for a point or an action that does not exist."""
    _armed.clear()
    _reached.clear()
    for text in filter(None, environment.get(VARIABLE, "").split(",")):
        place, _, action = text.partition("=")
        point, _, number = place.partition(":")
        if point not in POINTS or action not in ACTIONS or not (number or "1").isdecimal():
            raise ConfigurationError(
                f"environment variable {VARIABLE}: {text!r} is not POINT=ACTION or POINT:N=ACTION; points: "
                f"{', '.join(POINTS)}; actions: {', '.join(ACTIONS)}"
            )
        _armed[point, int(number or 1)] = ACTIONS[action]


def reach(point: str) -> None:
    """Say that a point has been reached."""
    if _armed:
        _reached[point] += 1
        action = _armed.get((point, _reached[point]))
        if action is not None:
            action()
