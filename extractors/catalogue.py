"""The table of scenes: taking one, and saying in the table and in the log how its extraction ended."""

import datetime as dt
import json
import logging
import os
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from extractors import __version__
from extractors.config import Args, DatabaseFile, TableName
from extractors.database import columns, database_errors, find_table, require_table, srid_of
from extractors.errors import ConfigurationError
from extractors.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import connection as PgConnection  # noqa: N812
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

    from extractors.chunks import ChunkResult

logger = logging.getLogger(__name__)

LOG_TABLE = "extraction_log"
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
    """A row of the catalogue that this worker has claimed; `obstime` is naive UTC, `run_id` its attempt in the log."""

    id: int
    reference: str
    obstime: dt.datetime
    run_id: int


@dataclass
class Account:
    """What came of a scene's parcels: for every band, parcels selected = rows written + parcels without a row."""

    bands: tuple[str, ...] = ()
    parcels_selected: int = 0
    rows_written: Counter[str] = field(default_factory=Counter)
    parcels_without_row: dict[str, Counter[str]] = field(default_factory=dict)
    chunks_recomputed: int = 0
    null_geometries: int = 0
    empty_geometries: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def add(self, result: "ChunkResult") -> None:
        """Count what a chunk of parcels gave."""
        self.parcels_selected += result.parcels
        self.chunks_recomputed += result.recomputed
        for part in result.signatures:
            self.rows_written[part.label] += len(part.pid)
        for label, without in result.without_row.items():
            self.parcels_without_row.setdefault(label, Counter()).update(without)

    def in_words(self) -> str:
        """For each band: rows, parcels, and the reasons of those without a row."""
        texts = []
        for band in self.bands:
            without = sorted(self.parcels_without_row.get(band, Counter()).items())
            reasons = ", ".join(f"{number} {reason}" for reason, number in without)
            text = f"{band}: {self.rows_written[band]} of {self.parcels_selected} parcels"
            texts.append(f"{text} ({reasons})" if reasons else text)
        return "; ".join(texts)

    def without_rows(self) -> "Account":
        """The account of an attempt that wrote nothing."""
        return Account(
            self.bands,
            null_geometries=self.null_geometries,
            empty_geometries=self.empty_geometries,
            seconds=self.seconds,
            versions=self.versions,
        )

    def as_parameters(self) -> dict[str, Any]:
        """The columns of the log row."""
        return {
            "parcels_selected": self.parcels_selected,
            "rows_written": json.dumps({band: self.rows_written[band] for band in self.bands}),
            "parcels_without_row": json.dumps({band: self.parcels_without_row.get(band, {}) for band in self.bands}),
            "chunks_recomputed": self.chunks_recomputed,
            "parcels_without_geometry": json.dumps({"null": self.null_geometries, "empty": self.empty_geometries}),
            "seconds": json.dumps({step: round(seconds, 3) for step, seconds in self.seconds.items()}),
            "versions": json.dumps(self.versions),
        }


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
        none. Its status is then `inprogress` and its attempt is in the log."""
        with database_errors(connection, "claiming a scene"), connection, connection.cursor() as cursor:
            cursor.execute(
                statement(
                    "catalogue.claim",
                    catalogue=self.table.identifier,
                    aois=self.aois.identifier,
                    aoi_field=sql.Identifier(self.aoi_field),
                ),
                self._conditions(reference),
            )
            row = cursor.fetchone()
            if row is None:
                return None
            obsid, taken, obstime = row
            cursor.execute(
                statement("catalogue.open_run", log=self.log.identifier),
                {
                    "obsid": obsid,
                    "reference": taken,
                    "card": self.card,
                    "aoi": self.args.name,
                    "results": str(self.results),
                    "worker": f"{socket.gethostname()}:{os.getpid()}",
                    "versions": json.dumps({"package": __version__}),
                },
            )
            run = cursor.fetchone()
        if run is None:  # pragma: no cover: INSERT ... RETURNING always returns
            raise ConfigurationError(f"{self.log} returned no run_id")
        if obstime.tzinfo is not None:
            obstime = obstime.astimezone(dt.UTC).replace(tzinfo=None)
        return Scene(obsid, taken, obstime, run[0])

    def explain(self, connection: "PgConnection", reference: str) -> str:
        """Why the scene with this reference cannot be claimed, in words."""
        with database_errors(connection, "looking for a scene"), connection, connection.cursor() as cursor:
            cursor.execute(
                statement(
                    "catalogue.explain",
                    catalogue=self.table.identifier,
                    aois=self.aois.identifier,
                    aoi_field=sql.Identifier(self.aoi_field),
                ),
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

    def finish(
        self, cursor: "PgCursor", scene: Scene, status: str, outcome: str, reason: str, account: Account
    ) -> bool:
        """Set a claimed scene's final status and end its attempt, inside the caller's transaction.

        False if the claim is no longer ours: the status has been changed by others or the attempt has ended.
        """
        cursor.execute(
            statement("catalogue.close_run", log=self.log.identifier),
            {"run_id": scene.run_id, "outcome": outcome, "detail": reason, **account.as_parameters()},
        )
        if cursor.rowcount != 1:
            return False
        cursor.execute(
            statement("catalogue.set_status", catalogue=self.table.identifier, log=self.log.identifier),
            {"obsid": scene.id, "run_id": scene.run_id, "status": status},
        )
        return cursor.rowcount == 1

    def release(
        self, connection: "PgConnection", scene: Scene, status: str, outcome: str, reason: str, account: Account
    ) -> bool:
        """End a claim that wrote nothing, in a transaction of its own: give the scene back (status `ingested`) or
        say how it failed. False if the attempt has ended before, or others have set the status, which then stays."""
        with (
            database_errors(connection, "setting the status of a scene"),
            connection,
            connection.cursor() as cursor,
        ):
            return self.finish(cursor, scene, status, outcome, reason, account.without_rows())

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
    missing = {"run_id", "parcels_without_geometry", "chunks_recomputed", "versions"} - columns(connection, log).keys()
    if missing:
        raise ConfigurationError(
            f"table {log} is not the log of this program (it lacks {', '.join(sorted(missing))}); rename that table"
        )
    return log
