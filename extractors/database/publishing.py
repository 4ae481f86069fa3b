"""Writing what came of a scene: rows, status and log in one transaction. See *Exactly once* in `DESIGN.md`."""

import logging
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from psycopg2.errors import ForeignKeyViolation, LockNotAvailable, QueryCanceled

from extractors import failpoints
from extractors.database.attempts import Attempts
from extractors.database.connection import Database, scalar
from extractors.database.duplicates import Duplicates, Sibling, in_words
from extractors.database.outputs import RESULTS
from extractors.database.results import ResultsTable, Rows, array_literal, check_accounts
from extractors.database.schema import is_indexed
from extractors.database.sql import statement
from extractors.database.tables import Tables
from extractors.errors import (
    ClaimLostError,
    ConfigurationError,
    DatabaseUnavailableError,
    EntryLostError,
    LockedError,
    ParcelsChangedError,
    TooSlowError,
    one_line,
)
from extractors.model import REDONE, SUPERSEDED, Outcome, ParcelCounts, Scene

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

# Locks named in an error.
SHOWN_LOCKS = 3


class _Written(NamedTuple):
    """What was published: what came of the scene, how many of its rows are of other parcels and stay, and the siblings
    whose place it has taken."""

    outcome: Outcome
    kept: int = 0
    superseded: Sequence[Sibling] = ()


class Publishing:
    """How scenes that a session has claimed are published. duplicates: None, unless only the newest of them are wanted.

    No function leaves a transaction open.
    """

    def __init__(
        self, database: Database, tables: Tables, attempts: Attempts, duplicates: Duplicates | None = None
    ) -> None:
        self._database = database
        self._tables = tables
        self._attempts = attempts
        self._duplicates = duplicates

    def publish(self, scene: Scene, outcome: Outcome, counts: ParcelCounts, rows: Rows) -> Outcome:
        """Write all rows of the scene, its status and the end of its attempt in one transaction: all of it, or nothing.
        Returns the outcome: this one, or that the scene is superseded, if only the newest of duplicates is wanted.

        They replace the rows of the parcels that were selected. Raises AccountingError if a parcel has neither a row in
        a band nor a reason, ClaimLostError if somebody else has changed the status or ended the attempt,
        ParcelsChangedError if a foreign key misses parcels that were deleted meanwhile, TooSlowError if a statement
        takes longer than it may, ConfigurationError if a table does not take all rows.
        """
        try:
            written = self._write(scene, outcome, counts, rows)
        except ConfigurationError as error:
            if isinstance(error.__cause__, ForeignKeyViolation) and (gone := self._gone(scene, rows.pids)):
                raise ParcelsChangedError(
                    f"{gone} of its parcels have been deleted from {self._tables.parcels} meanwhile "
                    f"({one_line(error.__cause__)}); nothing was written, and the scene is computed again"
                ) from error
            raise
        except DatabaseUnavailableError as error:
            if isinstance(error.__cause__, QueryCanceled):
                raise TooSlowError(self._what_is_slow(error.__cause__)) from error
            if isinstance(error.__cause__, LockNotAvailable):
                self._refuse_strangers_to_siblings(scene, error)
            raise
        failpoints.reach("committed")
        # Of a few parcels that are done again, all others stay.
        if written.kept and not (scene.redo and scene.redo.pids is not None):
            log.warning("%d rows of parcels that are not selected now stay in %s", written.kept, self._tables.results)
        for older in written.superseded:
            log.info("%s is superseded", older)
        return written.outcome

    def _write(self, scene: Scene, outcome: Outcome, counts: ParcelCounts, rows: Rows) -> _Written:
        """Publish it."""
        superseded: list[Sibling] = []
        with self._database.transaction("writing the signatures") as cursor:
            failpoints.reach("publish_begin")
            if not self._attempts.hold(cursor, scene):
                raise ClaimLostError("the scene is not extracted any more; nothing was written, its status stays")
            if self._duplicates:
                self._duplicates.lock(cursor, scene)
                newer = self._duplicates.newer(cursor, scene.id)
                if newer and newer.extracted:
                    outcome = Outcome(SUPERSEDED, SUPERSEDED, in_words(newer.sibling))
                    self._duplicates.clear(cursor, scene.id, newer.sibling)
                    self._finish(cursor, scene, outcome, counts.without_rows())
                    return _Written(outcome)
            with counts.step("publish"):
                before = self._attempts.extracted_before(cursor, scene.id)
                kept, written = {}, {}
                for name, table in self._tables.of_results.items():
                    into = ResultsTable(table)
                    kept[name] = into.clear(cursor, scene.id, before, rows.pids)
                    written[name] = into.copy(cursor, rows.of[name])
                check_accounts(counts, rows.selected, written)
                if self._duplicates and outcome.kind == "extracted":
                    superseded = self._duplicates.replace(cursor, scene, rows.pids)
            counts.settings |= {"parcel_table": str(self._tables.parcels), "rows_kept": kept[RESULTS]}
            counts.settings |= self._tables.other_results
            self._finish(cursor, scene, outcome, counts)
        return _Written(outcome, kept[RESULTS], superseded)

    def _refuse_strangers_to_siblings(self, scene: Scene, error: DatabaseUnavailableError) -> None:
        """Raise LockedError if it is a session that works on no scene which keeps this one from being published."""
        if self._duplicates is None:
            return
        with self._database.transaction("looking at locks") as cursor:
            holders = self._duplicates.strangers(cursor, scene)
        if holders:
            shown = "; ".join(f"{user} from {address}, process {pid}" for user, address, pid in holders[:SHOWN_LOCKS])
            raise LockedError(
                f"the siblings of {scene.reference} are locked by {len(holders)} sessions that are no workers "
                f"({shown}); end these sessions, and keep their users out of this database"
            ) from error

    def _finish(self, cursor: "PgCursor", scene: Scene, outcome: Outcome, counts: ParcelCounts) -> None:
        """Set the scene's status and end its attempt; raises ClaimLostError if the claim is no longer ours."""
        if not self._attempts.finish(cursor, scene, outcome, counts):
            if scene.redo is not None:
                raise EntryLostError("its entry in the list is another one by now, or gone; nothing was written")
            raise ClaimLostError(
                "somebody else has changed the scene's status meanwhile; nothing was written, their status stays"
            )
        failpoints.reach("before_commit")

    def _what_is_slow(self, reason: Exception) -> str:
        """Why it may have taken too long to write, and what helps."""
        tables = self._tables.of_results.values()
        with self._database.transaction("looking at indexes") as cursor:
            lacking = [table for table in tables if not is_indexed(cursor, table, [table.columns["obsid"].name])]
        helps = [f"CREATE INDEX ON {table} USING brin (obsid), without which all of it is read" for table in lacking]
        helps.append("raise statement_timeout in extraction.server_settings")
        return (
            f"its rows cannot be written in the time that a statement may take ({one_line(reason)}); "
            f"{', or '.join(helps)}"
        )

    def _gone(self, scene: Scene, pids: "array[int]") -> int:
        """How many parcels have been deleted since they were selected. Those that were gone before are no news."""
        known = frozenset(scene.redo.gone if scene.redo else ())
        with self._database.transaction("looking for deleted parcels") as cursor:
            gone = statement("parcels.gone", **self._tables.parcel_columns)
            cursor.execute(gone, {"pids": array_literal(pid for pid in pids if pid not in known)})
            return int(scalar(cursor))

    def published(self, scene: Scene) -> Outcome | None:
        """How the scene's attempt has ended, if well: the answer to its COMMIT may have been lost on the way."""
        kind, reason = self._attempts.outcome(scene)
        return Outcome(kind, kind, reason) if kind in {"extracted", "no_parcels", SUPERSEDED, REDONE} else None
