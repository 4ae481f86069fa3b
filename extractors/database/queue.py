"""The queue of scenes: taking one safely, and writing what came of it. See *Exactly once* in `DESIGN.md`."""

import datetime as dt
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from psycopg2 import sql
from psycopg2.errors import QueryCanceled

from extractors import failpoints
from extractors.config import DatabaseFile
from extractors.database import aoi
from extractors.database.attempts import Attempts
from extractors.database.connection import Database, scalar
from extractors.database.results import ResultsTable, Rows
from extractors.database.sql import statement
from extractors.database.tables import Tables
from extractors.errors import ClaimLostError, DatabaseUnavailableError
from extractors.model import Outcome, ParcelCounts, Pending, Scene

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)


class Queue:
    """The scenes of one card, in the dates and the area of interest of a configuration.

    A scene that is taken has the status `inprogress` and an open attempt in the log, and is locked for as long as the
    session lives. No function leaves a transaction open.
    """

    def __init__(self, database: Database, tables: Tables, config: DatabaseFile, card: str) -> None:
        self._database = database
        self._tables = tables
        self._args = config.args
        self._most_attempts = config.extraction.max_attempts
        self._card = card
        self._attempts = Attempts(database, tables)
        self._names: dict[str, sql.Composable] = {
            "catalogue": tables.catalogue.identifier,
            "log": tables.log.identifier,
            "areas": aoi.areas(tables),
            "met": aoi.met(),
            "wanted": statement("queue.wanted", met=aoi.met()),
        }
        self._unsettled: tuple[Scene, Outcome, ParcelCounts] | None = None

    # Taking scenes

    def claim(self, reference: str | None = None) -> Scene | None:
        """Take the oldest `ingested` scene (by obstime, then id), or the one with this reference; None without one.

        Before that, what `settle_later` has kept is written and scenes of dead workers are set free. A session that
        broke since the last scene is opened anew.
        """
        if self._unsettled is not None:
            self.give_back(*self._unsettled)
            self._unsettled = None
        try:
            return self._rescue_and_claim(reference)
        except DatabaseUnavailableError:
            if not self._database.closed:
                raise
        self._database.reopen()
        return self._rescue_and_claim(reference)

    def _rescue_and_claim(self, reference: str | None) -> Scene | None:
        self._rescue()
        self._unlock()
        # Scenes that other sessions have locked.
        skip: list[int] = []
        while True:
            with self._database.transaction("claiming a scene") as cursor:
                cursor.execute(statement("queue.claim", **self._names), self._conditions(reference) | {"skip": skip})
                row = cursor.fetchone()
                if row is None:
                    return None
                obsid, taken, obstime = row
                failpoints.reach("claim_updated")
                cursor.execute(statement("queue.lock"), {"obsid": obsid})
                if not scalar(cursor):
                    # Somebody has set it back to `ingested` while a worker is at it.
                    cursor.connection.rollback()
                    skip.append(obsid)
                    continue
                run_id, attempt = self._attempts.begin(cursor, obsid, taken, self._card, self._args.name)
                failpoints.reach("claim_locked")
            failpoints.reach("claim_committed")
            if obstime.tzinfo is not None:
                obstime = obstime.astimezone(dt.UTC).replace(tzinfo=None)
            return Scene(obsid, taken, obstime, run_id, attempt)

    def _rescue(self) -> None:
        """Set scenes free whose workers have died: what they held is locked by nobody. The attempt counts."""
        with self._database.transaction("looking for abandoned scenes") as cursor:
            cursor.execute(statement("queue.abandoned", **self._names))
            abandoned = [int(row[0]) for row in cursor.fetchall()]
        for obsid in abandoned:
            with self._database.transaction("looking for abandoned scenes") as cursor:
                freed = self._free(cursor, obsid)
            if freed is not None:
                log.warning(
                    "scene %d: its worker died or lost its database session; its status is '%s' now",
                    obsid,
                    freed,
                    extra={"scene": obsid},
                )

    def _free(self, cursor: "PgCursor", obsid: int) -> str | None:
        """End a dead worker's claim; its scene's new status, None if there is nothing to set."""
        # The row first, then the lock: a worker that is just finishing holds the lock, or its status has gone.
        cursor.execute(statement("queue.lock_row", **self._names), {"obsid": obsid})
        row = cursor.fetchone()
        if row is None:
            cursor.execute(statement("queue.exists", **self._names), {"obsid": obsid})
            if scalar(cursor):
                return None
        cursor.execute(statement("queue.lock_for_now"), {"obsid": obsid})
        if not scalar(cursor):
            return None
        ours = row is not None and str(row[0]).strip() == "inprogress"
        statuses = self._attempts.lose(cursor, obsid, ours, self._most_attempts)
        if not ours or not statuses:
            return None
        status = "failed" if "failed" in statuses else "ingested"
        cursor.execute(statement("queue.free_scene", **self._names), {"obsid": obsid, "status": status})
        return status

    def unlock(self) -> None:
        """Let other sessions have the scene that this one has claimed, unless how its attempt ended is still to be
        written. If the session has ended, that is done already."""
        if not self._database.closed and self._unsettled is None:
            with suppress(DatabaseUnavailableError):
                self._unlock()
        failpoints.reach("unlocked")

    def _unlock(self) -> None:
        with self._database.transaction("unlocking a scene") as cursor:
            cursor.execute(statement("queue.unlock_all"))

    # Looking at scenes

    def pending(self, longest_seconds: float) -> Pending:
        """What may still come, for a worker that has no scene and finds none. longest_seconds: other workers' attempts
        that have taken longer are not counted on."""
        conditions = self._conditions() | {"longest": longest_seconds}
        with self._database.transaction("looking for waiting scenes") as cursor:
            cursor.execute(statement("queue.waiting", **self._names), conditions)
            waiting, seconds = cursor.fetchone() or (0, None)
            cursor.execute(statement("queue.under_way", **self._names), conditions)
            under_way = scalar(cursor)
        return Pending(waiting, seconds or 0.0, under_way)

    def explain(self, reference: str) -> str:
        """Why the scene with this reference cannot be claimed, in words."""
        with self._database.transaction("looking for a scene") as cursor:
            cursor.execute(statement("queue.explain", **self._names), self._conditions(reference))
            row = cursor.fetchone()
        if row is None:
            return f"{reference} is not in {self._tables.catalogue}"
        status, right_card, in_dates, in_aoi = row
        if not right_card:
            return f"{reference} is not of card {self._card}"
        if not in_dates:
            return f"{reference} is not between startdate {self._args.startdate} and enddate {self._args.enddate}"
        if not in_aoi:
            return f"{reference} does not meet the AOI {self._args.name}"
        return f"{reference} has the status '{status}'"

    def foreign(self) -> list[tuple[int, str]]:
        """Scenes (id, reference) that are `inprogress` without an attempt of ours: another program's."""
        with self._database.transaction("looking for scenes in progress") as cursor:
            cursor.execute(statement("queue.foreign", **self._names), self._conditions())
            return [(int(obsid), reference) for obsid, reference in cursor.fetchall()]

    def adopt(self, obsid: int) -> bool:
        """Take such a scene from the other program; False if that has become impossible."""
        with self._database.transaction("adopting a scene") as cursor:
            cursor.execute(statement("queue.lock_row", **self._names), {"obsid": obsid})
            if cursor.fetchone() is None:
                return False
            cursor.execute(statement("queue.lock_for_now"), {"obsid": obsid})
            if not scalar(cursor):
                return False
            cursor.execute(statement("queue.adopt", **self._names), {"obsid": obsid})
            return cursor.rowcount == 1

    # What came of a scene

    def publish(self, scene: Scene, outcome: Outcome, counts: ParcelCounts, rows: Rows) -> None:
        """Write all rows of the scene, its status and the end of its attempt in one transaction: all of it, or nothing.

        Raises ClaimLostError if somebody else has changed the status or ended the attempt.
        """
        with self._database.transaction("writing the signatures") as cursor:
            with counts.step("publish"):
                failpoints.reach("publish_begin")
                before = self._attempts.extracted_before(cursor, scene)
                into_results = {area for area, table in before if table == str(self._tables.results)}
                results = ResultsTable(self._tables.results)
                results.clear(cursor, scene.id, self._args.name, into_results, rows.pids)
                results.copy(cursor, rows.signatures)
                if self._tables.hists is not None:
                    hists = ResultsTable(self._tables.hists)
                    # May be shared by several results tables.
                    hists.clear(cursor, scene.id, self._args.name, {area for area, _ in before}, rows.pids)
                    hists.copy(cursor, rows.hists)
            if not self._attempts.finish(cursor, scene, outcome, counts):
                raise ClaimLostError(
                    "somebody else has changed the scene's status meanwhile; nothing was written, their status stays"
                )
            failpoints.reach("before_commit")
        failpoints.reach("committed")

    def published(self, scene: Scene) -> bool:
        """Whether the scene's attempt has ended well: the answer to its COMMIT may have been lost on the way."""
        return self._attempts.outcome(scene) in {"extracted", "no_parcels"}

    def give_back(self, scene: Scene, outcome: Outcome, counts: ParcelCounts) -> bool:
        """Say in catalogue and log how a claim ended that wrote nothing; in a new session if ours broke.

        False if it had ended before, or others have set the scene's status meanwhile.
        """
        try:
            if not self._database.closed:
                self._database.roll_back()
                return self._attempts.release(scene, outcome, counts)
        except DatabaseUnavailableError as error:
            # A query cancelled by a signal that came a moment too late is no reason to give up.
            if not self._database.closed and not isinstance(error.__cause__, QueryCanceled):
                raise
        if self._database.closed:
            self._database.reopen()
        return self._attempts.release(scene, outcome, counts)

    def settle_later(self, scene: Scene, outcome: Outcome, counts: ParcelCounts) -> None:
        """Keep for the next claim how a scene's attempt ended, which cannot be written now. If this worker ends before
        that, others find the scene abandoned."""
        self._unsettled = (scene, outcome, counts)

    def _conditions(self, reference: str | None = None) -> dict[str, Any]:
        # Catalogues write Sentinel-2 products with and without `.SAFE`; people give them either way.
        bare = reference.removesuffix(".SAFE") if reference else ""
        return {
            "card": self._card,
            "aoi": self._args.name,
            "start": self._args.startdate,
            "end": self._args.enddate,
            "footprint_srid": self._tables.footprint_srid,
            "references": [bare, f"{bare}.SAFE"] if reference else None,
        }
