"""Download slots: how many workers of one database download at the same time."""

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from extractors.backoff import spread
from extractors.database.connection import Database, scalar
from extractors.database.sql import statement
from extractors.errors import DatabaseUnavailableError, LockedError
from extractors.health import report

log = logging.getLogger(__name__)

# How often a worker looks whether it may download.
PAUSE_SECONDS = 1.0


@contextmanager
def download_slot(database: Database, slots: int | None) -> Iterator[None]:
    """A block in which this worker has one of the download slots that all workers of the database share; waits until
    one is free. Raises LockedError if somebody else holds one. slots: how many there are; None: no limit."""
    if slots is None:
        yield
        return
    order = random.sample(range(slots), slots)
    waiting = False
    held: set[tuple[str, str, int]] = set()
    while (taken := next((slot for slot in order if _take(database, slot)), None)) is None:
        if not waiting:
            log.info("waiting for one of %d download slots", slots)
            waiting = True
        held = _refuse_strangers(database, held)
        report("waiting for a download slot", PAUSE_SECONDS)
        time.sleep(spread(PAUSE_SECONDS, 0.5, 1.0))
    try:
        yield
    finally:
        # A session that has broken has given it back already.
        with suppress(DatabaseUnavailableError), database.transaction("sharing downloads") as cursor:
            cursor.execute(statement("slots.give"), {"slot": taken})


def _refuse_strangers(database: Database, before: set[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
    """Raise LockedError if a session that is no worker holds a slot, as it did before; returns who does so now."""
    with database.transaction("sharing downloads") as cursor:
        cursor.execute(statement("slots.strangers"))
        now = set(cursor.fetchall())
    if now & before:
        shown = "; ".join(f"{user} from {address}, process {pid}" for user, address, pid in sorted(now & before))
        raise LockedError(f"download slots are held by sessions that are no workers ({shown}); end these sessions")
    return now


def _take(database: Database, slot: int) -> bool:
    with database.transaction("sharing downloads") as cursor:
        cursor.execute(statement("slots.take"), {"slot": slot})
        return bool(scalar(cursor))
