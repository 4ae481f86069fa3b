"""The table of scenes: taking one, and saying in the table and in the log how its extraction ended."""

import datetime as dt
import json
import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from extractors import __version__, failpoints
from extractors.config import Args, DatabaseFile, TableName
from extractors.database.connection import columns, database_errors, find_table, require_table, srid_of
from extractors.database.sql import statement
from extractors.errors import ConfigurationError
from extractors.model import Account

if TYPE_CHECKING:
    from psycopg2.extensions import connection as PgConnection  # noqa: N812
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

logger = logging.getLogger(__name__)

LOG_TABLE = "extraction_log"
# The log's word for an attempt that ended through no fault of the scene.
GIVEN_BACK = "given_back"
LONGITUDE_LATITUDE = 4326
CATALOGUE_COLUMNS = {
    "id": "number of the scene",
    "obstime": "observation time, UTC",
    "reference": "product name",
    "card": "s2, bs or c6",
    "status": "state of processing",
    "footprint": "outline of the scene",
}


@dataclass(frozen=True)
class Scene:
    """A row of the catalogue that this worker has claimed; `obstime` is naive UTC, `run_id` its attempt in the log,
    and the `attempt`-th that counts."""

    id: int
    reference: str
    obstime: dt.datetime
    run_id: int
    attempt: int = 1


@dataclass(frozen=True)
class Ending:
    """How an attempt ends: the scene's status, what the log calls it, why in words, and the seconds before another
    attempt may begin (None: at once, or never)."""

    status: str
    outcome: str
    reason: str
    pause: float | None = None

    @property
    def counts(self) -> bool:
        """Whether it lies in the scene, and not in the world, a signal or the configuration."""
        return self.outcome != GIVEN_BACK


@dataclass(frozen=True)
class Prospects:
    """What may still come when there is nothing to claim: scenes that wait for their next attempt, the seconds until
    the first one's, and scenes that other workers are at."""

    waiting: int = 0
    seconds: float = 0.0
    under_way: int = 0


@dataclass(frozen=True)
class Catalogue:
    """The catalogue, the AOI table and the log of one database, with what a worker looks for in them.

    All functions leave no transaction open, except `finish`, which is part of the caller's.
    """

    table: TableName
    log: TableName
    aois: TableName
    aoi_field: str
    footprint_srid: int
    card: str
    args: Args
    results: TableName

    def claim(self, connection: "PgConnection", reference: str | None = None) -> Scene | None:
        """Take the oldest `ingested` scene (by obstime, then id), or the one with this reference; None if there is
        none. Its status is then `inprogress`, its attempt is in the log, and it is locked for this session."""
        skip: list[int] = []
        self.unlock(connection)
        while True:
            with database_errors(connection, "claiming a scene"), connection, connection.cursor() as cursor:
                cursor.execute(
                    statement("catalogue.claim", **self._tables(), log=self.log.identifier),
                    self._conditions(reference) | {"skip": skip},
                )
                row = cursor.fetchone()
                if row is None:
                    return None
                obsid, taken, obstime = row
                failpoints.reach("claim_updated")
                cursor.execute(statement("catalogue.lock"), {"obsid": obsid})
                if not _answer(cursor):
                    # Somebody has set it back to `ingested` while a worker is at it.
                    connection.rollback()
                    skip.append(obsid)
                    continue
                cursor.execute(
                    statement("catalogue.open_run", log=self.log.identifier),
                    {
                        "obsid": obsid,
                        "reference": taken,
                        "card": self.card,
                        "aoi": self.args.name,
                        "results": str(self.results),
                        "worker": this_worker(),
                        "versions": json.dumps({"package": __version__}),
                    },
                )
                run_id, attempt = cursor.fetchone() or (0, 0)
                failpoints.reach("claim_locked")
            failpoints.reach("claim_committed")
            if obstime.tzinfo is not None:
                obstime = obstime.astimezone(dt.UTC).replace(tzinfo=None)
            return Scene(obsid, taken, obstime, run_id, attempt)

    def unlock(self, connection: "PgConnection") -> None:
        """Let other sessions have the scene that this one has claimed; done in any case when the session ends."""
        with database_errors(connection, "unlocking a scene"), connection, connection.cursor() as cursor:
            cursor.execute(statement("catalogue.unlock_all"))

    def prospects(self, connection: "PgConnection", longest_seconds: float) -> Prospects:
        """What may still come, for a worker that has no scene and finds none. longest_seconds: other workers' attempts
        that have taken longer are not counted on."""
        with database_errors(connection, "looking for waiting scenes"), connection, connection.cursor() as cursor:
            conditions = self._conditions(None)
            cursor.execute(statement("catalogue.waiting", **self._tables(), log=self.log.identifier), conditions)
            waiting, seconds = cursor.fetchone() or (0, None)
            cursor.execute(
                statement("catalogue.under_way", catalogue=self.table.identifier, log=self.log.identifier),
                conditions | {"longest": longest_seconds},
            )
            (under_way,) = cursor.fetchone() or (0,)
        return Prospects(waiting, seconds or 0.0, under_way)

    def rescue(self, connection: "PgConnection", most_attempts: int) -> None:
        """Set scenes free whose workers have died: what they held is locked by nobody. The attempt counts."""
        with database_errors(connection, "looking for abandoned scenes"):
            with connection, connection.cursor() as cursor:
                cursor.execute(statement("catalogue.abandoned", log=self.log.identifier))
                abandoned = [int(row[0]) for row in cursor.fetchall()]
            for obsid in abandoned:
                with connection, connection.cursor() as cursor:
                    freed = self._free(cursor, obsid, most_attempts)
                if freed is not None:
                    logger.warning(
                        "scene %d: its worker died or lost its database session; its status is '%s' now",
                        obsid,
                        freed,
                        extra={"scene": obsid},
                    )

    def _free(self, cursor: "PgCursor", obsid: int, most_attempts: int) -> str | None:
        """End a dead worker's claim; its scene's new status, None if there is nothing to set."""
        # The row first, then the lock: a worker that is just finishing holds the lock, or its status has gone.
        cursor.execute(statement("catalogue.lock_row", catalogue=self.table.identifier), {"obsid": obsid})
        row = cursor.fetchone()
        if row is None:
            cursor.execute(statement("catalogue.exists", catalogue=self.table.identifier), {"obsid": obsid})
            if _answer(cursor):
                return None
        cursor.execute(statement("catalogue.lock_for_now"), {"obsid": obsid})
        if not _answer(cursor):
            return None
        ours = row is not None and str(row[0]).strip() == "inprogress"
        cursor.execute(
            statement("catalogue.lose_runs", log=self.log.identifier),
            {"obsid": obsid, "ours": ours, "most": most_attempts},
        )
        statuses = {status for (status,) in cursor.fetchall()}
        if not ours or not statuses:
            return None
        status = "failed" if "failed" in statuses else "ingested"
        cursor.execute(
            statement("catalogue.free_scene", catalogue=self.table.identifier), {"obsid": obsid, "status": status}
        )
        return status

    def foreign(self, connection: "PgConnection") -> list[tuple[int, str]]:
        """Scenes (id, reference) that are `inprogress` without an attempt of ours: another program's."""
        with database_errors(connection, "looking for scenes in progress"), connection, connection.cursor() as cursor:
            cursor.execute(
                statement("catalogue.foreign", catalogue=self.table.identifier, log=self.log.identifier),
                self._conditions(None),
            )
            return [(int(obsid), reference) for obsid, reference in cursor.fetchall()]

    def adopt(self, connection: "PgConnection", obsid: int) -> bool:
        """Take such a scene from the other program; False if that has become impossible."""
        with database_errors(connection, "adopting a scene"), connection, connection.cursor() as cursor:
            cursor.execute(statement("catalogue.lock_row", catalogue=self.table.identifier), {"obsid": obsid})
            if cursor.fetchone() is None:
                return False
            cursor.execute(statement("catalogue.lock_for_now"), {"obsid": obsid})
            if not _answer(cursor):
                return False
            cursor.execute(
                statement("catalogue.adopt", catalogue=self.table.identifier, log=self.log.identifier),
                {"obsid": obsid},
            )
            return cursor.rowcount == 1

    def outcome(self, connection: "PgConnection", scene: Scene) -> str | None:
        """What the log says of how a scene's attempt ended; None while it has not."""
        with database_errors(connection, "reading the log"), connection, connection.cursor() as cursor:
            cursor.execute(statement("catalogue.outcome", log=self.log.identifier), _run(scene))
            row = cursor.fetchone()
        return row[0] if row else None

    def _tables(self) -> dict[str, sql.Identifier]:
        return {
            "catalogue": self.table.identifier,
            "aois": self.aois.identifier,
            "aoi_field": sql.Identifier(self.aoi_field),
        }

    def explain(self, connection: "PgConnection", reference: str) -> str:
        """Why the scene with this reference cannot be claimed, in words."""
        with database_errors(connection, "looking for a scene"), connection, connection.cursor() as cursor:
            cursor.execute(
                statement("catalogue.explain", **self._tables()),
                self._conditions(reference),
            )
            row = cursor.fetchone()
        if row is None:
            return f"{reference} is not in {self.table}"
        status, right_card, in_dates, in_aoi = row
        if not right_card:
            return f"{reference} is not of card {self.card}"
        if not in_dates:
            return f"{reference} is not between startdate {self.args.startdate} and enddate {self.args.enddate}"
        if not in_aoi:
            return f"{reference} does not meet the AOI {self.args.name}"
        return f"{reference} has the status '{status}'"

    def finish(self, cursor: "PgCursor", scene: Scene, ending: Ending, account: Account) -> bool:
        """Set a claimed scene's status and end its attempt, inside the caller's transaction.

        False if the claim is no longer ours: the status has been changed by others or the attempt has ended.
        """
        ours = self._set_status(cursor, scene, ending)
        failpoints.reach("status_updated")
        ended = self._close_run(cursor, scene, ending, account, ending.status if ours else None)
        failpoints.reach("journal_updated")
        return ours and ended

    def release(self, connection: "PgConnection", scene: Scene, ending: Ending, account: Account) -> bool:
        """End a claim that wrote nothing, in a transaction of its own: give the scene back (status `ingested`) or
        say how it failed. False if the attempt has ended before, or others have set the status, which then stays."""
        with (
            database_errors(connection, "setting the status of a scene"),
            connection,
            connection.cursor() as cursor,
        ):
            ours = self._set_status(cursor, scene, ending)
            account = account.without_rows()
            if self._close_run(cursor, scene, ending, account, ending.status if ours else None):
                return ours
            connection.rollback()
            if ending.counts:
                return False
            # Others have set the scene free because our session had ended; but we live, and the scene is not to blame.
            cursor.execute(
                statement("catalogue.not_failed", catalogue=self.table.identifier, log=self.log.identifier),
                _run(scene),
            )
            cursor.execute(
                statement("catalogue.not_lost", log=self.log.identifier),
                _run(scene) | {"outcome": ending.outcome, "detail": ending.reason},
            )
            return False

    def _set_status(self, cursor: "PgCursor", scene: Scene, ending: Ending) -> bool:
        cursor.execute(
            statement("catalogue.set_status", catalogue=self.table.identifier, log=self.log.identifier),
            _run(scene) | {"status": ending.status},
        )
        return cursor.rowcount == 1

    def _close_run(
        self, cursor: "PgCursor", scene: Scene, ending: Ending, account: Account, status: str | None
    ) -> bool:
        values = _run(scene) | {"outcome": ending.outcome, "detail": ending.reason, "pause": ending.pause}
        cursor.execute(
            statement("catalogue.close_run", log=self.log.identifier),
            values | {"status": status} | account.as_parameters(),
        )
        return cursor.rowcount == 1

    def extracted_before(self, cursor: "PgCursor", scene: Scene) -> set[tuple[str, str]]:
        """For which areas of interest, into which results tables, earlier attempts have written rows of this scene."""
        cursor.execute(statement("catalogue.extracted_before", log=self.log.identifier), {"obsid": scene.id})
        return set(cursor.fetchall())

    def _conditions(self, reference: str | None) -> dict[str, Any]:
        # Catalogues write Sentinel-2 products with and without `.SAFE`; people give them either way.
        bare = reference.removesuffix(".SAFE") if reference else ""
        return {
            "card": self.card,
            "aoi": self.args.name,
            "start": self.args.startdate,
            "end": self.args.enddate,
            "footprint_srid": self.footprint_srid,
            "references": [bare, f"{bare}.SAFE"] if reference else None,
        }


def this_worker() -> str:
    """What the log calls this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _run(scene: Scene) -> dict[str, Any]:
    """What identifies our attempt at a scene in the log."""
    return {"run_id": scene.run_id, "obsid": scene.id, "worker": this_worker()}


def _answer(cursor: "PgCursor") -> bool:
    """What a query for one truth value said."""
    row = cursor.fetchone()
    return bool(row and row[0])


def open_catalogue(
    connection: "PgConnection", config: DatabaseFile, config_name: str, card: str, results: TableName
) -> Catalogue:
    """Check the catalogue and the AOI table, create the log table if it is absent. Raises ConfigurationError."""
    tables, args = config.tables, config.args
    with database_errors(connection, "checking the catalogue"), connection, connection.cursor() as cursor:
        table, present = require_table(
            connection, tables.catalogue_table, "catalogue_table", config_name, CATALOGUE_COLUMNS
        )
        srid = srid_of(connection, table, present["footprint"], "catalogue_table", config_name)
        aois, aoi_columns = require_table(
            connection, tables.aoi_table, "aoi_table", config_name, {"wkb_geometry": "outline of the area"}
        )
        srid_of(connection, aois, aoi_columns["wkb_geometry"], "aoi_table", config_name)
        aoi_field = args.aoi_field
        if aoi_field not in aoi_columns:
            if "name" not in aoi_columns:
                raise ConfigurationError(
                    f"{config_name}: database.args.aoi_field: table {aois} has no column {aoi_field}; write the name "
                    f"of one of its columns: {', '.join(aoi_columns)}"
                )
            aoi_field = "name"
            logger.warning("table %s has no column %s (aoi_field): using its column name", aois, args.aoi_field)
        cursor.execute(
            statement("tables.count_aois", aois=aois.identifier, field=sql.Identifier(aoi_field)), {"name": args.name}
        )
        found, with_geometry = cursor.fetchone() or (0, 0)
        if not with_geometry:
            raise ConfigurationError(
                f"{config_name}: database.args.name: "
                + (
                    f"the area {args.name!r} in {aois} has no geometry; give it one"
                    if found
                    else f"no row of {aois} has {aoi_field} = {args.name!r}; write the name of an area in that table"
                )
            )
        log = _find_or_create_log(connection, TableName(LOG_TABLE, table.schema))
    return Catalogue(table, log, aois, aoi_field, srid or LONGITUDE_LATITUDE, card, args, results)


def _find_or_create_log(connection: "PgConnection", log: TableName) -> TableName:
    """The log table, beside the catalogue because it holds its ids; created if absent."""
    if find_table(connection, log) is None:
        with connection.cursor() as cursor:
            cursor.execute(statement("tables.lock_creation"))
            cursor.execute(statement("tables.create_log", log=log.identifier))
            cursor.execute(statement("tables.index_log", log=log.identifier))
            cursor.execute(statement("tables.index_open_runs", log=log.identifier))
    missing = {"run_id", "attempt", "status", "retry_after", "parcels_without_geometry", "versions"} - columns(
        connection, log
    ).keys()
    if missing:
        raise ConfigurationError(
            f"table {log} is not the log of this program (it lacks {', '.join(sorted(missing))}); rename that table"
        )
    return log
