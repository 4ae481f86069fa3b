"""The queue of scenes: taking one safely, and giving it back. See *Exactly once* in `DESIGN.md`."""

import datetime as dt
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg2 import sql
from psycopg2.errors import QueryCanceled

from extractors import failpoints
from extractors.config import DatabaseFile
from extractors.database import aoi
from extractors.database.attempts import Attempts
from extractors.database.connection import Database, scalar
from extractors.database.duplicates import Duplicates, Sibling, in_words
from extractors.database.outputs import labels_of
from extractors.database.publishing import SHOWN_LOCKS, Publishing
from extractors.database.results import ResultsTable
from extractors.database.sql import statement
from extractors.database.tables import Tables
from extractors.errors import DatabaseUnavailableError, LockedError
from extractors.model import STATUSES, SUPERSEDED, Outcome, ParcelCounts, Pending, Scene

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

A_MOMENT_SECONDS = 1.0


class Queue:
    """The scenes of one card, in the dates and the area of interest of a configuration. labels: of their bands.
    `publishing`: how what came of them is written.

    A scene that is taken has the status `inprogress` and an open attempt in the log, and is locked for as long as the
    session lives. No function leaves a transaction open.
    """

    def __init__(
        self, database: Database, tables: Tables, config: DatabaseFile, card: str, labels: Collection[str] = ()
    ) -> None:
        self._database = database
        self._tables = tables
        self._args = config.args
        self._most_attempts = config.extraction.max_attempts
        self._card = card
        self._labels, self._extraction = labels, config.extraction
        self._attempts = Attempts(database, tables, config.extraction.meaning(card))
        self._names: dict[str, sql.Composable] = {
            "catalogue": tables.catalogue.identifier,
            "log": tables.log.identifier,
            "areas": aoi.areas(tables),
            "met": aoi.met(tables),
            "problem": aoi.problem(tables),
            "storable": statement("queue.storable"),
            "reference": statement("queue.reference"),
            **tables.parcel_columns,
        }
        self._names["wanted"] = statement("queue.wanted", **self._names)
        self._duplicates: Duplicates | None = None
        if config.extraction.newest_only(card):
            self._duplicates = Duplicates(tables, self._names, self._conditions(), self._attempts)
        self.publishing = Publishing(database, tables, self._attempts, self._duplicates)
        self._names["oldest"] = statement("queue.oldest", **self._names)
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
        return self._in_a_session(lambda: self._rescue_and_claim(reference))

    def look(self, reference: str | None = None) -> bool:
        """Whether there is a scene that `claim` would take now, those of dead workers included, which are set free."""
        return self._in_a_session(lambda: self._rescue_and_look(reference))

    def _in_a_session(self, ask: Callable[[], Answer]) -> Answer:
        """Ask, in a new session if ours has broken since the last scene."""
        try:
            return ask()
        except DatabaseUnavailableError:
            if not self._database.closed:
                raise
        self._database.reopen()
        return ask()

    def _rescue_and_claim(self, reference: str | None) -> Scene | None:
        self._rescue()
        self._unlock()
        # Scenes that other sessions have locked, and those as well that wait for a newer one.
        locked: list[int] = []
        skip: list[int] = []
        while True:
            with self._database.transaction("claiming a scene") as cursor:
                cursor.execute(statement("queue.claim", **self._names), self._conditions(reference) | {"skip": skip})
                row = cursor.fetchone()
                if row is None:
                    break
                obsid, taken, obstime, problem = row
                failpoints.reach("claim_updated")
                newer = self._duplicates and self._duplicates.newer(cursor, obsid)
                if self._duplicates and newer and not newer.extracted:
                    skip += [obsid, *self._duplicates.passed_over(cursor, naive_utc(obstime))]
                    cursor.connection.rollback()
                    continue
                if newer:
                    cursor.execute(statement("queue.lock_for_now"), {"obsid": obsid})
                else:
                    cursor.execute(statement("queue.lock"), {"obsid": obsid})
                if not scalar(cursor):
                    # Somebody has set it back to `ingested` while a worker is at it.
                    cursor.connection.rollback()
                    locked.append(obsid)
                    skip.append(obsid)
                    continue
                if self._duplicates and newer:
                    older = Sibling(obsid, taken)
                    self._duplicates.give_way(cursor, older, newer.sibling)
                    log.info("%s is superseded: %s", older, in_words(newer.sibling), extra={"scene": obsid})
                    continue
                self._refuse_closed_partitions(cursor, obsid)
                begun = self._attempts.begin(cursor, obsid, taken, self._card, self._args.name)
                failpoints.reach("claim_locked")
            failpoints.reach("claim_committed")
            return Scene(obsid, taken, naive_utc(obstime), *begun, problem=problem)
        self._refuse_strangers(locked)
        return None

    def _refuse_strangers(self, locked: list[int]) -> None:
        """Raise LockedError if nothing is left but scenes which sessions have locked that work on none. (A worker that
        has just given its scene back holds the lock for a moment.)"""
        if not locked or not (holders := self._strangers(locked)):
            return
        time.sleep(A_MOMENT_SECONDS)
        holders &= self._strangers(locked)
        if holders:
            shown = "; ".join(
                f"scene {scene} by {user} from {address}, process {pid}"
                for user, address, pid, scene in sorted(holders)[:SHOWN_LOCKS]
            )
            raise LockedError(
                f"{len(holders)} scenes are locked by sessions that are no workers ({shown}); end these sessions, and "
                "keep their users out of this database"
            )

    def _strangers(self, locked: list[int]) -> set[tuple[str, str, int, int]]:
        with self._database.transaction("looking at locks") as cursor:
            cursor.execute(statement("queue.strangers", **self._names), {"skip": locked})
            return set(cursor.fetchall())

    def _rescue_and_look(self, reference: str | None) -> bool:
        self._rescue()
        with self._database.transaction("looking for a scene") as cursor:
            cursor.execute(statement("queue.claimable", **self._names), self._conditions(reference) | {"skip": []})
            return bool(scalar(cursor))

    def _refuse_closed_partitions(self, cursor: "PgCursor", obsid: int) -> None:
        """Raise ConfigurationError if a table of results lacks the partition for this scene."""
        tables = {name: table for name, table in self._tables.of_results.items() if table.kind == "p"}
        if not tables:
            return
        cursor.execute(statement("parcels.any_id", **self._tables.parcel_columns))
        pid = scalar(cursor)
        for name, table in tables.items():
            labels = labels_of(name, self._labels, self._extraction)
            ResultsTable(table).refuse_if_closed(cursor, pid, obsid, labels)

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
            cursor.execute(statement("parcels.srid", **self._names))
            without_parcels = scalar(cursor) is None
        return Pending(waiting, seconds or 0.0, under_way, without_parcels)

    def explain(self, reference: str) -> str:
        """Why the scene with this reference cannot be claimed, in words."""
        with self._database.transaction("looking for a scene") as cursor:
            cursor.execute(statement("queue.explain", **self._names), self._conditions(reference))
            row = cursor.fetchone()
            why = None if row is None else self._why_a_duplicate(cursor, reference, str(row[0]).strip())
        if row is None:
            return f"{reference} is not in {self._tables.catalogue}"
        status, right_card, in_dates, in_aoi = row
        if not right_card:
            return f"{reference} is not of card {self._card}"
        if not in_dates:
            return f"{reference} is not between startdate {self._args.startdate} and enddate {self._args.enddate}"
        if not in_aoi:
            return f"{reference} does not meet the AOI {self._args.name}"
        return why or f"{reference} has the status '{status}'"

    def _why_a_duplicate(self, cursor: "PgCursor", reference: str, status: str) -> str | None:
        """Why the scene with this reference is superseded, or has to wait for a newer sibling; None if neither."""
        conditions = self._conditions(reference)
        if status == SUPERSEDED:
            cursor.execute(statement("duplicates.why", **self._names), conditions)
            why = scalar(cursor)
            return why and f"{reference} is superseded: {why}"
        if self._duplicates and status == "ingested":
            newer = self._duplicates.newer_than_named(cursor, conditions["references"])
            return (
                newer and f"{reference} waits for {newer.sibling}, which is newer and has the status '{newer.status}'"
            )
        return None

    def why_none(self) -> str | None:
        """Why no scene can ever be this worker's, whatever becomes of their statuses; None if there are some."""
        conditions = self._conditions() | {"statuses": list(STATUSES)}
        with self._database.transaction("looking for scenes") as cursor:
            cursor.execute(statement("queue.any_wanted", **self._names), conditions)
            if scalar(cursor):
                return None
            cursor.execute(statement("queue.excluded", **self._names), conditions)
            scenes, card, dates, area, status = cursor.fetchone() or (0,) * 5
        return (
            f"none of the {scenes} scenes in {self._tables.catalogue} is for this worker: {card} are not of card "
            f"{self._card}, {dates} not between startdate {self._args.startdate} and enddate {self._args.enddate}, "
            f"{area} do not meet the AOI {self._args.name}, {status} have a status that means nothing here; see the "
            "card's code (small letters), dates and AOI"
        )

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


def naive_utc(moment: dt.date) -> dt.datetime:
    """An observation time as the catalogue has it: a date means its first moment."""
    if not isinstance(moment, dt.datetime):
        return dt.datetime.combine(moment, dt.time())
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
