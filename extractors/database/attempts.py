"""The log of attempts: how one begins and ends, and what it says of the scene's status."""

import json
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from extractors import __version__, failpoints
from extractors.backoff import spread
from extractors.database.connection import Database, scalar
from extractors.database.sql import statement
from extractors.database.tables import Tables
from extractors.model import Outcome, ParcelCounts, Scene

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812


def this_worker() -> str:
    """What the log calls this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Attempts:
    """The log, and the statuses that go with it. Functions that take a cursor are part of the caller's transaction.

    meaning: what the numbers of this worker depend on; others see it as soon as an attempt begins.
    """

    def __init__(self, database: Database, tables: Tables, meaning: Mapping[str, Any] | None = None) -> None:
        self._database = database
        self._results = tables.results
        self._said = {**(meaning or {}), **tables.other_results}
        self._meaning = json.dumps(self._said, ensure_ascii=False) if self._said else None
        self._names: dict[str, sql.Composable] = {
            "catalogue": tables.catalogue.identifier,
            "log": tables.log.identifier,
        }

    def begin(self, cursor: "PgCursor", obsid: int, reference: str, card: str, aoi: str) -> tuple[int, int, float]:
        """Open the log row of an attempt; returns its number there, which attempt it is of those that count, and the
        seconds since the first one."""
        values = self._opening(obsid, reference, card, aoi)
        return self._begun(cursor, values | {"settings": self._meaning, "redo": None})

    def _opening(self, obsid: int, reference: str, card: str, aoi: str) -> dict[str, Any]:
        """What is known of an attempt as it begins."""
        values = {"obsid": obsid, "reference": reference, "card": card, "aoi": aoi, "results": str(self._results)}
        return values | {"worker": this_worker(), "versions": json.dumps({"package": __version__})}

    def _begun(self, cursor: "PgCursor", values: Mapping[str, Any]) -> tuple[int, int, float]:
        cursor.execute(statement("attempts.begin", **self._names), values)
        run_id, attempt, waited = cursor.fetchone() or (0, 0, 0.0)
        return run_id, attempt, waited

    def hold(self, cursor: "PgCursor", scene: Scene) -> bool:
        """Before rows are written: whether the scene can still be ours. Of one that is `inprogress`, the end is soon
        enough to ask."""
        return True

    def finish(self, cursor: "PgCursor", scene: Scene, outcome: Outcome, counts: ParcelCounts) -> bool:
        """Set a claimed scene's status and end its attempt.

        False if the claim is no longer ours: the status has been changed by others or the attempt has ended.
        """
        ours = self._set_status(cursor, scene, outcome)
        failpoints.reach("status_updated")
        ended = self._end(cursor, scene, outcome, counts, outcome.status if ours else None)
        failpoints.reach("journal_updated")
        return ours and ended

    def release(self, scene: Scene, outcome: Outcome, counts: ParcelCounts) -> bool:
        """End a claim that wrote nothing, in a transaction of its own: give the scene back (status `ingested`) or
        say how it failed. False if the attempt has ended before, or others have set the status, which then stays."""
        with self._database.transaction("setting the status of a scene") as cursor:
            ours = self._set_status(cursor, scene, outcome)
            if self._end(cursor, scene, outcome, counts.without_rows(), outcome.status if ours else None):
                return ours
            cursor.connection.rollback()
            if outcome.counts:
                return False
            # Others have set the scene free because our session had ended. But this process is alive, so the attempt
            # does not count.
            cursor.execute(statement("attempts.not_failed", **self._names), of_attempt(scene))
            values = of_attempt(scene) | {"outcome": outcome.kind, "detail": self._database.storable(outcome.reason)}
            cursor.execute(statement("attempts.not_lost", **self._names), values)
            return False

    def outcome(self, scene: Scene) -> tuple[str | None, str]:
        """What the log says of how a scene's attempt ended, and why; None while it has not."""
        with self._database.transaction("reading the log") as cursor:
            cursor.execute(statement("attempts.outcome", **self._names), of_attempt(scene))
            kind, reason = cursor.fetchone() or (None, None)
        return kind, reason or ""

    def lose(self, cursor: "PgCursor", obsid: int, ours: bool, most_attempts: int) -> set[str | None]:
        """End the attempts at a scene whose workers have died; the statuses that the scene should have then. ours: it
        is `inprogress` still, so that its status is ours to set."""
        values = {"obsid": obsid, "ours": ours, "most": most_attempts}
        cursor.execute(statement("attempts.lose", **self._names), values)
        return {status for (status,) in cursor.fetchall()}

    def extracted_before(self, cursor: "PgCursor", obsid: int) -> bool:
        """Whether earlier attempts have written rows of this scene, into whatever table."""
        cursor.execute(statement("attempts.extracted_before", **self._names), {"obsid": obsid})
        return bool(scalar(cursor))

    def _set_status(self, cursor: "PgCursor", scene: Scene, outcome: Outcome) -> bool:
        values = of_attempt(scene) | {"status": outcome.status}
        cursor.execute(statement("attempts.set_status", **self._names), values)
        return cursor.rowcount == 1

    def _end(
        self, cursor: "PgCursor", scene: Scene, outcome: Outcome, counts: ParcelCounts, status: str | None
    ) -> bool:
        # Spread, so that many workers do not come back to scenes that failed together at the same moment.
        pause = None if outcome.retry_after is None else spread(outcome.retry_after)
        reason = self._database.storable(outcome.reason)
        values = of_attempt(scene) | {"outcome": outcome.kind, "detail": reason, "pause": pause, "status": status}
        cursor.execute(statement("attempts.end", **self._names), values | counts.as_parameters())
        return cursor.rowcount == 1


def of_attempt(scene: Scene) -> dict[str, Any]:
    """What identifies our attempt at a scene in the log."""
    return {"run_id": scene.run_id, "obsid": scene.id, "worker": this_worker()}
