"""Scenes that are extracted, of which something is to be computed again: a list beside the log, and its queue.

The scene keeps its status, so readers and other workers see no difference until its rows are replaced, all at once.
What protects it is what protects every scene: the session's lock on its id, an open attempt in the log, and one
transaction at the end. See *Redo* in `DESIGN.md`.
"""

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extractors import failpoints
from extractors.config import DatabaseFile, TableName, parse_table_name
from extractors.database import rights
from extractors.database.attempts import Attempts, of_attempt
from extractors.database.connection import Database, scalar
from extractors.database.publishing import Publishing
from extractors.database.queue import Queue, naive_utc
from extractors.database.schema import Table, find, is_indexed
from extractors.database.sql import statement
from extractors.database.tables import TableReader, Tables
from extractors.errors import ConfigurationError, EntryLostError
from extractors.model import SUPERSEDED, Outcome, ParcelCounts, Pending, Redo, Scene

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

LIST_TABLE = "redo_list"
# Statuses of scenes that somebody is done with, and nobody is at.
DONE = ("extracted", "no_parcels")
# Scenes named in a warning.
SHOWN_SCENES = 5
# Outcomes after which an entry is not tried again.
FINAL = ("failed", "notfound")


def find_list(cursor: "PgCursor", catalogue: Table) -> Table:
    """The list, which lies beside the catalogue and the log; absent, if nothing has ever been listed."""
    return find(cursor, TableName(LIST_TABLE, catalogue.name.schema), LIST_TABLE)


def check_access(database: Database, reader: TableReader) -> None:
    """Raise ConfigurationError if the list may not be used, or if rows of a scene can only be found by reading all of a
    table of results, which each scene would do."""
    with database.transaction("looking for the list of scenes to do again") as cursor:
        listed = find_list(cursor, reader.catalogue)
        if not listed.absent:
            rights.check_list(cursor, listed)
        check_indexes(cursor, reader.of_results.values())


def check_indexes(cursor: "PgCursor", tables: Iterable[Table]) -> None:
    """Raise ConfigurationError if rows of a scene can only be found by reading all of a table."""
    for table in tables:
        if not table.absent and not is_indexed(cursor, table, [table.columns["obsid"].name]):
            raise ConfigurationError(
                f"{table.key}: {table} has no index by which the rows of a scene are found; run `python -m "
                "operations index`"
            )


def absent_tables(cursor: "PgCursor", listed: Table, aoi: str) -> dict[str, int]:
    """The tables of results that scenes of an area are listed for and that are not there, as after one was renamed;
    and how many scenes these are."""
    cursor.execute(statement("redo.tables", list=listed.identifier), {"aoi": aoi})
    return {name: number for name, number in cursor.fetchall() if find(cursor, parse_table_name(name), "").absent}


@dataclass(frozen=True)
class _Entry:
    """A scene of the list that may be claimed."""

    number: int
    obsid: int
    reference: str


class RedoAttempts(Attempts):
    """The log of attempts at entries of the list: these set no status (but see `redo.set_extracted`), and the one that
    succeeds removes the entry."""

    def __init__(self, database: Database, tables: Tables, listed: Table, meaning: Mapping[str, Any]) -> None:
        super().__init__(database, tables, meaning)
        self._names |= {"list": listed.identifier}

    def begin_again(self, cursor: "PgCursor", entry: _Entry, card: str, aoi: str) -> tuple[int, int, float]:
        """As `begin`, for an entry of the list."""
        values = self._opening(entry.obsid, entry.reference, card, aoi)
        number = json.dumps(entry.number)
        return self._begun(cursor, values | {"settings": self._with(entry.number), "redo": number})

    def _with(self, number: int) -> str:
        return json.dumps({**self._said, "redo": number})

    def hold(self, cursor: "PgCursor", scene: Scene) -> bool:
        """Whether the scene has kept its status, which stays so until the transaction ends. First of all: who replaces
        a scene by a newer product holds its row as well, and then deletes rows."""
        cursor.execute(statement("redo.hold", **self._names), {"obsid": scene.id})
        status = scalar(cursor)
        if status is None:
            raise EntryLostError("the scene has been deleted from the catalogue meanwhile; nothing was written")
        if status == SUPERSEDED:
            raise EntryLostError("a newer product has taken the scene's place meanwhile; nothing was written")
        return status in DONE

    def extracted_before(self, cursor: "PgCursor", obsid: int) -> bool:
        """An extracted scene may have rows, whatever the log has kept."""
        return True

    def finish(self, cursor: "PgCursor", scene: Scene, outcome: Outcome, counts: ParcelCounts) -> bool:
        """Remove the entry, and end the attempt. False if the entry is no longer ours."""
        is_ours = self._set_status(cursor, scene, outcome)
        if counts.rows_written.total():
            cursor.execute(statement("redo.set_extracted", **self._names), {"obsid": scene.id})
        cursor.execute(statement("redo.remove", **self._names), _values(scene))
        is_ours = is_ours and cursor.rowcount == 1
        failpoints.reach("status_updated")
        ended = self._end(cursor, scene, outcome, counts, None)
        failpoints.reach("journal_updated")
        return is_ours and ended

    def _set_status(self, cursor: "PgCursor", scene: Scene, outcome: Outcome) -> bool:
        """Set none; whether we could still decide about the scene."""
        cursor.execute(statement("redo.is_open", **self._names), of_attempt(scene) | _values(scene))
        return bool(scalar(cursor))

    def _end(
        self, cursor: "PgCursor", scene: Scene, outcome: Outcome, counts: ParcelCounts, status: str | None
    ) -> bool:
        counts.settings |= {"redo": _values(scene)["entry"]}
        return super()._end(cursor, scene, outcome, counts, None)


class RedoQueue(Queue):
    """The list, as a queue of scenes: those of one card, in the dates, the area and for the results table of a
    configuration. What is not said here is as in `Queue`: rescue, locks, giving back."""

    def __init__(
        self, database: Database, tables: Tables, config: DatabaseFile, card: str, labels: Collection[str] = ()
    ) -> None:
        super().__init__(database, tables, config, card, labels)
        with database.transaction("looking for the list of scenes to do again") as cursor:
            self._list = find_list(cursor, tables.catalogue)
        self._redo = RedoAttempts(database, tables, self._list, config.extraction.meaning(card))
        # In `Queue` these are about scenes `inprogress`, and about siblings, which stay as they are.
        self._attempts = self._redo
        self._duplicates = None
        self.publishing = Publishing(database, tables, self._redo)
        self._names |= {"list": self._list.identifier}
        self._names["ours"] = statement("redo.ours")
        self._names["hopeless"] = statement("redo.hopeless", **self._names)
        self._names["paused"] = statement("redo.paused", **self._names)

    def _rescue_and_claim(self, reference: str | None) -> Scene | None:
        if self._list.absent:
            return None
        self._rescue()
        self._unlock()
        self._remove_deleted()
        skip: list[int] = []
        while True:
            with self._database.transaction("claiming a scene of the list") as cursor:
                cursor.execute(statement("redo.remove_done", **self._names), self._listed())
                cursor.execute(statement("redo.next", **self._names), self._listed() | {"skip": skip})
                row = cursor.fetchone()
                if row is None:
                    break
                number, obsid, taken, obstime, problem, pids, gone = row
                entry = _Entry(number, obsid, taken)
                if not self._is_locked(cursor, entry):
                    skip.append(obsid)
                    continue
                failpoints.reach("claim_updated")
                self._refuse_closed_partitions(cursor, obsid)
                begun = self._redo.begin_again(cursor, entry, self._card, self._args.name)
                failpoints.reach("claim_locked")
            failpoints.reach("claim_committed")
            redo = Redo(number, None if pids is None else tuple(pids), tuple(gone))
            return Scene(obsid, taken, naive_utc(obstime), *begun, problem=problem, redo=redo)
        self._refuse_strangers(skip)
        return None

    def _remove_deleted(self) -> None:
        """Remove entries with which nobody can do anything any more."""
        with self._database.transaction("looking at the list") as cursor:
            cursor.execute(statement("redo.remove_deleted", **self._names), self._listed())
            removed = [str(obsid) for (obsid,) in cursor.fetchall()]
        if removed:
            shown = ", ".join(removed[:SHOWN_SCENES]) + (", ..." if len(removed) > SHOWN_SCENES else "")
            log.warning(
                "%d scenes of %s (%s) are not in the catalogue any more: they are removed from the list",
                *(len(removed), self._list, shown),
            )

    def _is_locked(self, cursor: "PgCursor", entry: _Entry) -> bool:
        """Take the lock of a scene whose entry can still be taken; False, and no lock, if not."""
        cursor.execute(statement("queue.lock"), {"obsid": entry.obsid})
        if not scalar(cursor):
            return False
        # Whoever held the lock until now may have done it.
        cursor.execute(statement("redo.is_left", **self._names), self._listed() | {"entry": entry.number})
        if scalar(cursor):
            return True
        cursor.execute(statement("queue.unlock_all"))
        return False

    def _rescue_and_look(self, reference: str | None) -> bool:
        if self._list.absent:
            return False
        self._rescue()
        with self._database.transaction("looking for a scene of the list") as cursor:
            cursor.execute(statement("redo.remove_done", **self._names), self._listed())
            cursor.execute(statement("redo.next", **self._names), self._listed() | {"skip": []})
            return cursor.fetchone() is not None

    def pending(self, longest_seconds: float) -> Pending:
        """What may still come of the list."""
        if self._list.absent:
            return Pending()
        with self._database.transaction("looking for waiting scenes") as cursor:
            values = self._listed() | {"longest": longest_seconds}
            cursor.execute(statement("redo.pending", **self._names), values)
            waiting, seconds, under_way = cursor.fetchone() or (0, None, 0)
            cursor.execute(statement("parcels.srid", **self._names))
            without_parcels = scalar(cursor) is None
        return Pending(waiting, seconds or 0.0, under_way, without_parcels)

    def why_none(self) -> str | None:
        """Which entries stay in the list although nobody will take them; None if there are none."""
        if self._list.absent:
            return None
        with self._database.transaction("looking at the list") as cursor:
            cursor.execute(statement("redo.left", **self._names), self._listed())
            left, hopeless = cursor.fetchone() or (0, 0)
            elsewhere = absent_tables(cursor, self._list, self._args.name)
        reasons = []
        if left:
            reasons.append(
                f"{left} scenes stay in {self._list}: {hopeless} have failed (the log says why; `operations retry "
                "--redo` has them tried again), the others wait for another attempt, are being worked on, are not "
                "extracted now, or are not of these dates"
            )
        reasons += [
            f"{number} scenes are listed for the table {name}, which is not there (any more): list them again with "
            "`operations redo`"
            for name, number in elsewhere.items()
        ]
        return "; ".join(reasons) or None

    def foreign(self) -> list[tuple[int, str]]:
        """None: what is `inprogress` is no matter of the list."""
        return []

    def _listed(self) -> dict[str, Any]:
        conditions = self._conditions() | {"results": str(self._tables.results), "done": list(DONE)}
        return conditions | {"final": list(FINAL), "most": json.dumps({self._card: self._most_attempts})}


def _values(scene: Scene) -> dict[str, Any]:
    """The scene's entry."""
    return {"entry": scene.redo and scene.redo.entry}
