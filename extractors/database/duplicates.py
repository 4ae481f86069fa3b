"""Products of the same observation, of which only the newest is to stay: `extraction.duplicates` = `newest`.

Who publishes holds the lock of all siblings, so that each sees what the one before has done: the rows of the newest
replace those of older ones, in its own transaction; and nothing is published any more of which a newer sibling is.
See *Duplicates* in `DESIGN.md`.
"""

import datetime as dt
import logging
from array import array
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg2 import sql

from extractors import failpoints
from extractors.database import aoi
from extractors.database.attempts import Attempts
from extractors.database.results import ResultsTable
from extractors.database.sql import statement
from extractors.database.tables import Tables
from extractors.model import STATUSES, SUPERSEDED, Scene

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

# What a scene's status may be for it to become `superseded`: not those of other programs, nor while a worker is at it.
REPLACEABLE = frozenset(STATUSES) - {"inprogress"}


class Sibling(NamedTuple):
    """A scene of the catalogue, in so far as it takes another one's place or gives way to it."""

    id: int
    reference: str

    def __str__(self) -> str:
        return f"scene {self.id} {self.reference}"


class Newer(NamedTuple):
    """A newer sibling, and its status."""

    sibling: Sibling
    status: str

    @property
    def extracted(self) -> bool:
        """Whether it has taken the older one's place already."""
        return self.status == "extracted"


class Duplicates:
    """The siblings of scenes. All functions are part of the caller's transaction.

    names: what `Queue` puts into its statements. conditions: the values that go with them. attempts: the log.
    """

    def __init__(
        self, tables: Tables, names: Mapping[str, sql.Composable], conditions: Mapping[str, Any], attempts: Attempts
    ) -> None:
        self._tables = tables
        self._conditions = dict(conditions)
        self._attempts = attempts
        name = names["reference"]
        self._names = dict(names) | {
            "is_product": statement("duplicates.is_product", reference=name),
            "datatake": statement("duplicates.datatake", product=name),
            "age": statement("duplicates.age", product=name),
            "alike": statement("duplicates.alike"),
            "is_newer": statement("duplicates.is_newer"),
            "awaited": statement("duplicates.awaited", **names),
            "usable": statement("duplicates.usable", problem=aoi.problem(tables), footprint=aoi.footprint(tables)),
        }

    def newer(self, cursor: "PgCursor", obsid: int) -> Newer | None:
        """The sibling that decides about a scene; None: the scene may be extracted."""
        return self._newer(cursor, sql.Literal(obsid), {})

    def newer_than_named(self, cursor: "PgCursor", references: Collection[str]) -> Newer | None:
        """The same for the scene with one of these references."""
        own = statement("duplicates.named", **self._names)
        return self._newer(cursor, own, {"references": list(references)})

    def _newer(self, cursor: "PgCursor", own: sql.Composable, values: Mapping[str, Any]) -> Newer | None:
        newer = statement("duplicates.newer", siblings=self._siblings(own), **self._names)
        cursor.execute(newer, {**self._conditions, **values})
        row = cursor.fetchone()
        return None if row is None else Newer(Sibling(*row[:2]), row[2])

    def passed_over(self, cursor: "PgCursor", obstime: dt.datetime) -> list[int]:
        """Scenes observed from then on that have to wait for newer ones."""
        values = {**self._conditions, "obstime": obstime}
        cursor.execute(statement("duplicates.passed_over", **self._names), values)
        return [int(row[0]) for row in cursor.fetchall()]

    def lock(self, cursor: "PgCursor", scene: Scene) -> None:
        """Wait until none of its siblings is being published, and keep them from it until the transaction ends."""
        datatake = statement("duplicates.datatake", product=sql.Placeholder("reference"))
        cursor.execute(statement("duplicates.lock", datatake=datatake), {"reference": scene.reference})
        failpoints.reach("siblings_locked")

    def strangers(self, cursor: "PgCursor", scene: Scene) -> list[tuple[str, str, int]]:
        """Who holds that lock without working on any scene: user, address, process."""
        datatake = statement("duplicates.datatake", product=sql.Placeholder("reference"))
        cursor.execute(statement("duplicates.strangers", datatake=datatake), {"reference": scene.reference})
        return cursor.fetchall()

    def replace(self, cursor: "PgCursor", scene: Scene, pids: "array[int]") -> list[Sibling]:
        """Put a scene whose rows are written into the place of its older siblings, whose rows go as those of an earlier
        extraction of its own would. Returns those that are superseded now."""
        older_ones = statement("duplicates.older", siblings=self._siblings(sql.Literal(scene.id)), **self._names)
        cursor.execute(older_ones, self._conditions)
        superseded = []
        for obsid, reference, status in cursor.fetchall():
            older = Sibling(obsid, reference)
            before = self._attempts.extracted_before(cursor, obsid)
            kept = [
                ResultsTable(table).clear(cursor, obsid, before, pids) for table in self._tables.of_results.values()
            ]
            if any(kept):
                log.warning("%d rows of %s stay: their parcels are not selected now", sum(kept), older)
            if status in REPLACEABLE - {SUPERSEDED}:
                self._supersede(cursor, older, Sibling(scene.id, scene.reference))
                superseded.append(older)
        failpoints.reach("siblings_replaced")
        return superseded

    def give_way(self, cursor: "PgCursor", older: Sibling, newer: Sibling) -> None:
        """Set a scene `superseded` whose turn it was."""
        self.clear(cursor, older.id, newer)
        self._supersede(cursor, older, newer)
        failpoints.reach("claim_superseded")

    def clear(self, cursor: "PgCursor", obsid: int, newer: Sibling) -> None:
        """Remove the rows of an earlier extraction of a scene, as far as its newer sibling has rows of the parcel."""
        before = self._attempts.extracted_before(cursor, obsid)
        values = {"obsid": obsid, "newer": newer.id}
        for table in self._tables.of_results.values():
            if before or not table.made_here:
                cursor.execute(statement("results.use_indexes"))
                names = {"table": table.identifier, "results": self._tables.results.identifier}
                cursor.execute(statement("duplicates.delete_replaced", **names), values)

    def _supersede(self, cursor: "PgCursor", older: Sibling, newer: Sibling) -> None:
        """Say so in catalogue and log."""
        card, area = self._conditions["card"], self._conditions["aoi"]
        run_id, _, _ = self._attempts.begin(cursor, older.id, older.reference, card, area)
        cursor.execute(statement("duplicates.set_status", **self._names), {"obsid": older.id})
        cursor.execute(statement("duplicates.end", **self._names), {"run_id": run_id, "detail": in_words(newer)})

    def _siblings(self, own: sql.Composable) -> sql.Composed:
        return statement("duplicates.siblings", own=own, **self._names)


def in_words(newer: Sibling) -> str:
    """Why a scene is superseded."""
    return f"{newer} is a newer product of the same datatake and tile"
