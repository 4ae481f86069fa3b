"""How long a worker waits: for scenes that may come free, for a world that has failed."""

import logging
import random
import time

from extractors.database.catalogue import Prospects
from extractors.errors import NoDatabaseError, WorldError
from extractors.health import report
from extractors.resources import Session
from extractors.runtime.options import Options
from extractors.runtime.signals import Stopping

log = logging.getLogger(__name__)

LONGEST_OUTAGE_PAUSE_SECONDS = 300.0
# While scenes wait for their next attempt, how often a worker looks whether others have turned up.
LONGEST_WAIT_SECONDS = 30.0
# While other workers are at the last scenes, how soon and how often a worker looks whether one has come free.
FIRST_LOOK_SECONDS = 0.5
LONGEST_LOOK_SECONDS = 5.0


def pause_for(prospects: Prospects, looks: int, options: Options) -> float | None:
    """After how many seconds to look again, at the end of a burst, for scenes that may come free; None: do not.
    looks: how often that has been done already.

    If the last workers ended while others are still at scenes, and the machine of one of these were lost, its scene
    would wait until somebody starts a worker again.
    """
    if options.watch_seconds is not None:
        return None
    if prospects.waiting:
        log.info(
            "%d scenes wait for their next attempt, the first one for %.0f s", prospects.waiting, prospects.seconds
        )
        if options.everything:
            # Several workers need not come back at the same moment, and others may be given back meanwhile.
            jitter = random.uniform(0.05, 0.5)  # noqa: S311 (no secret)
            return min(max(prospects.seconds, 0.0) + jitter, LONGEST_WAIT_SECONDS)
    if not options.burst or not prospects.under_way:
        return None
    if not looks:
        log.info(
            "%d scenes are still being worked on by other workers; waiting in case one is given back",
            prospects.under_way,
        )
    longest = min(FIRST_LOOK_SECONDS * (1 << min(looks, 10)), LONGEST_LOOK_SECONDS)
    return random.uniform(0.5, 1) * longest  # noqa: S311 (no secret, only jitter)


def wait_out(error: WorldError, outages: int, session: Session, stopping: Stopping) -> None:
    """Pause after the world has failed `outages` times in a row; raises the error if that was once too often."""
    extraction = session.config.extraction
    patient = session.options.everything and outages < extraction.outages_in_a_row
    if not patient or isinstance(error, NoDatabaseError):
        raise error
    longest = min(extraction.outage_pause_seconds * 2 ** (outages - 1), LONGEST_OUTAGE_PAUSE_SECONDS)
    pause = random.uniform(0.5, 1) * longest  # noqa: S311 (no secret, only jitter)
    (error.lines or log).warning("%s; going on in %.1f s (%d in a row)", error, pause, outages)
    sleep(pause, stopping)


def sleep(seconds: float, stopping: Stopping) -> None:
    """Wait, unless a signal comes."""
    report("pausing", seconds)
    with stopping.interruptible():
        time.sleep(seconds)
