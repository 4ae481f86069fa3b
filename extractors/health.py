"""Whether a worker is alive and on time, for the HEALTHCHECK of a container: a dead man's switch.

With the environment variable HEALTH_FILE set, a worker writes there what it is doing, and by when at the latest it will
write again. `python -m extractors.health` holds that against the clock: exit code 0 if the worker lives and is on
time, else 1 with a line that says what is wrong. Every worker needs a file of its own.

Only light modules are imported here: the check runs every few seconds.
"""

import errno
import json
import os
import sys
import time
from functools import cache

from extractors.text import say

VARIABLE = "HEALTH_FILE"
# What a worker may take beyond what is limited: giving a scene back, checking tables, claiming.
SLACK_SECONDS = 300.0
# Characters of the file that are read; a worker writes some 200.
LONGEST_BEAT = 10_000


def report(doing: str, seconds: float = 0.0) -> None:
    """Say what this process does now, and that it reports again within `seconds` and some slack.

    If the file cannot be written, log it once and continue.
    """
    file = os.environ.get(VARIABLE)
    if not file:
        return
    pid = os.getpid()
    beat = {"pid": pid, "born": _birth(pid), "doing": doing, "by": round(_now() + seconds + SLACK_SECONDS, 1)}
    beside = f"{file}.{pid}"
    try:
        if os.path.exists(file) and not os.path.isfile(file):  # noqa: PTH110, PTH113
            # A device or a pipe, which would be replaced.
            raise FileExistsError(errno.EEXIST, "it is no regular file")
        with open(beside, "w", encoding="utf-8") as new:  # noqa: PTH123 (pathlib takes longer to load than all the rest)
            json.dump(beat, new)
        os.replace(beside, file)  # noqa: PTH105
    except OSError as error:
        _say_once(file, error.strerror or "")


def verdict(file: str) -> str | None:
    """What is wrong with the worker that writes this file, in words; None if nothing is."""
    try:
        with open(file, encoding="utf-8", opener=_at_once) as there:
            beat = json.loads(there.read(LONGEST_BEAT))
        pid, born, doing, by = int(beat["pid"]), beat["born"], str(beat["doing"]), float(beat["by"])
    except OSError as error:
        return f"{file}: no worker has written it ({error.strerror})"
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return f"{file}: it was not written by a worker"
    if born is None or _birth(pid) != born:
        return f"process {pid} is gone, last seen {doing}"
    late = _now() - by
    # Not `late > 0`, which a `by` that is no number would pass.
    return None if late <= 0 else f"process {pid}, {doing}, is overdue by {late:.0f} s"


def main() -> int:
    """The check's command."""
    file = os.environ.get(VARIABLE)
    wrong = verdict(file) if file else f"environment variable {VARIABLE} is not set"
    if wrong is None:
        return 0
    say(wrong)
    return 1


def _at_once(file: str, flags: int) -> int:
    """Open without waiting: somebody may have put a pipe there."""
    return os.open(file, flags | os.O_NONBLOCK)


def _now() -> float:
    """Seconds since the machine was started: one clock for all its processes and containers, which nobody sets."""
    return time.monotonic()


def _birth(pid: int) -> str | None:
    """What tells a process from others with the same number, before and after it: the machine's start, and when
    after that it was started. None if there is no such process, or if it has ended but for its entry."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123
            # The second field is the program's name in brackets, which may hold anything.
            state, *fields = stat.read().rpartition(")")[2].split()
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:  # noqa: PTH123
            return None if state in "ZXx" else f"{boot.read().strip()} {fields[18]}"
    except (OSError, ValueError, IndexError):
        return None


@cache
def _say_once(file: str, reason: str) -> None:
    import logging  # noqa: PLC0415 (the check runs every few seconds and needs no log)

    logging.getLogger(__name__).warning(
        "%s: cannot be written (%s): nobody can see that this worker lives", file, reason
    )


if __name__ == "__main__":
    sys.exit(main())
