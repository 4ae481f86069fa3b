"""What is asked of the database before the first claim: whether all that will be done can be done.

Only what costs next to nothing, since a worker that finds nothing to do asks as well; see `plausibility` for the rest.
"""

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from extractors.config import DatabaseFile
from extractors.database import aoi, rights
from extractors.database.columns import AOI_COLUMNS, CATALOGUE_COLUMNS
from extractors.database.connection import Database, scalar
from extractors.database.outputs import KEY_COLUMNS, labels_of
from extractors.database.results import ResultsTable
from extractors.database.schema import GEOGRAPHY, Column, Table, indexes
from extractors.database.sql import statement
from extractors.database.tables import TableReader
from extractors.errors import ConfigurationError, DatabaseUnavailableError, one_line
from extractors.model import STATUSES, SUPERSEDED, Check

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

# Numbers of scenes named in a warning.
SHOWN_IDS = 5
# PostgreSQL's bit for what a trigger waits for.
ON_UPDATE = 16


class DatabaseChecks:
    """The checks of one configuration's database, over an open session and the tables in it.

    card: whose scenes are to be extracted. may_be_empty: whether the worker would wait for parcels.
    """

    def __init__(
        self, database: Database, reader: TableReader, config: DatabaseFile, card: str, may_be_empty: bool
    ) -> None:
        self._database = database
        self._reader = reader
        self._args = config.args
        self._card = card
        self._newest_only = config.extraction.newest_only(card)
        self._extraction = config.extraction
        self._may_be_empty = may_be_empty
        # Whether there were no parcels when they were looked at.
        self.was_empty = False

    def before_any_work(self) -> list[Check]:
        """What a worker begins with, in this order."""
        parcels, catalogue, area = "parcel table", "catalogue", "area of interest"
        return [
            Check("writing", self.writing, ("database",)),
            Check("PostGIS", self.postgis, ("database",)),
            Check(catalogue, self.catalogue, ("PostGIS",)),
            Check(area, self.area, ("PostGIS",)),
            Check(parcels, self.parcels, ("PostGIS",)),
            Check("extraction log", self.log, (catalogue,)),
            Check("results table", self.results, (catalogue, parcels)),
            Check("statuses", self.statuses, (catalogue,)),
        ]

    def writing(self) -> str:
        """That the database takes writes at all."""
        with self._database.transaction("looking whether the database takes writes") as cursor:
            cursor.execute(statement("checks.writable"))
            is_standby, writable = cursor.fetchone() or ()
        if is_standby:
            raise DatabaseUnavailableError(
                "the database is a standby, which takes no writes; wait until it is the primary, or name that in "
                "database.connection"
            )
        if not writable:
            raise ConfigurationError(
                "the database takes no writes in our sessions (default_transaction_read_only is on); ALTER ROLE or "
                "DATABASE ... RESET default_transaction_read_only"
            )
        return "transactions may write"

    def postgis(self) -> str:
        """That PostGIS is there."""
        with self._database.transaction("looking for PostGIS") as cursor:
            cursor.execute(statement("connection.describe"))
            server, version, schema, usable, name, encoding, temporary, user = cursor.fetchone() or ()
        if version is not None and not usable:
            raise ConfigurationError(
                f"PostGIS is in the schema {schema} of database {name}, which the database user may not use; GRANT "
                f"USAGE ON SCHEMA {schema} to it"
            )
        if not usable:
            raise ConfigurationError(f"database {name} has no PostGIS; run CREATE EXTENSION postgis in it")
        if not temporary:
            raise ConfigurationError(
                f"the database user {user} may not make temporary functions, which broken geometries need; GRANT "
                f"TEMPORARY ON DATABASE {name} TO {user}"
            )
        return f"PostgreSQL {server}, PostGIS {version} in schema {schema}, encoding {encoding}"

    def warn_of_superuser(self) -> None:
        """Say so if this user may do anything: then whoever can attach something to a table may as well."""
        with self._database.transaction("looking who we are") as cursor:
            cursor.execute(statement("connection.user"))
            user, is_superuser = cursor.fetchone() or ("", False)
        if is_superuser:
            log.warning(
                "the database user %s is a superuser: triggers and views of others run with all its rights; give "
                "workers a role of their own (docs/configuration.md)",
                user,
            )

    def parcels(self) -> str:
        """The parcel table, with parcels in it."""
        table = self._reader.parcels
        columns = [column.name for column in table.columns.values()]
        with self._database.transaction("checking the parcel table") as cursor:
            rows = rights.check_readable(cursor, table, columns)
        srid = self._reader.parcel_srid
        if table.columns["geometry"].type == GEOGRAPHY:
            log.warning(
                "table %s has geographies, which are searched without an index; make them geometries: ALTER TABLE %s "
                "ALTER %s TYPE geometry USING %s::geometry, and CREATE INDEX ON %s USING gist (%s)",
                *(table, table, columns[1], columns[1], table, columns[1]),
            )
        if srid is None and not self._may_be_empty:
            raise ConfigurationError(
                f"{table.key}: {table} holds no parcel with a geometry; import them, or write the name of another table"
            )
        self.was_empty = srid is None
        known = f"about {rows} rows" if rows > 0 else "number of rows unknown"
        return f"{table} ({', '.join(columns)}), {known}, " + ("no geometry yet" if srid is None else f"SRID {srid}")

    def catalogue(self) -> str:
        """The catalogue of scenes, with numbers that the log can hold."""
        table = self._reader.catalogue
        with self._database.transaction("checking the catalogue") as cursor:
            rights.check_catalogue(cursor, table, CATALOGUE_COLUMNS)
        if table.columns["id"].type == "int8":
            with self._database.transaction("checking the catalogue") as cursor:
                cursor.execute(statement("checks.large_ids", catalogue=table.identifier))
                large = [str(number) for (number,) in cursor.fetchall()]
            if large:
                log.warning(
                    "scenes are left out whose numbers locks and results cannot hold: they must be below 2^31, and "
                    "column id of %s has %s; give them other numbers",
                    *(table, ", ".join(large[:SHOWN_IDS]) + (", ..." if len(large) > SHOWN_IDS else "")),
                )
        srid = self._reader.footprints[0]
        footprint = table.columns["footprint"]
        if not footprint.srid:
            with self._database.transaction("counting SRIDs") as cursor:
                cursor.execute(statement("checks.srids", table=table.identifier, geometry=footprint.of("p")))
                found = cursor.fetchall()
            odd = sum(rows for other, rows in found if other != srid)
            if 2 * odd >= sum(rows for _, rows in found):
                one_srid(table, footprint, found)
            elif odd:
                log.warning(
                    "%d footprints of %s have another SRID than the others (%s): their scenes fail; bring them to it",
                    *(odd, table, srid),
                )
        return f"{table}, SRID {srid}"

    def area(self) -> str:
        """The area of interest."""
        table = self._reader.aois
        with self._database.transaction("checking the AOI table") as cursor:
            rights.check_readable(cursor, table, AOI_COLUMNS)
        field = self._reader.aoi_field
        with self._database.transaction("checking the AOI table") as cursor:
            rights.check_readable(cursor, table, [field, *AOI_COLUMNS])
            most = aoi.fix_of_areas(self._reader.fixes_by_structure)[1]
            outline = table.columns["wkb_geometry"]
            names = {"aois": table.identifier, "aoi_field": sql.Identifier(field), "outline": outline.of()}
            cursor.execute(statement("checks.area_to_fix", **names), {"aoi": self._args.name, "most": most})
            vertices = scalar(cursor)
        if vertices is not None:
            raise ConfigurationError(
                f"{table.key}: the area {self._args.name!r} in {table} crosses itself and has {vertices} vertices, "
                f"more than the {most} for which that is put right; store it as ST_MakeValid({outline.name}, "
                "'method=structure') makes it, or draw it anew"
            )
        return f"{self._args.name!r} in {table}.{field}, SRID {self._reader.aoi_srid}"

    def log(self) -> str:
        """The log, or the place where it will be made."""
        with self._database.transaction("checking the log") as cursor:
            rights.check_log(cursor, self._reader.log)
        return _seen(self._reader.log)

    def results(self) -> str:
        """The tables of results, or the places where they will be made; and that they take a scene's rows."""
        tables = self._reader.of_results
        for name, table in tables.items():
            with self._database.transaction(f"checking the table {table} ({table.key})") as cursor:
                rights.check_results(cursor, table)
                _check_unique_indexes(cursor, table)
            self._try_rows(table, labels_of(name, self._reader.labels, self._extraction))
        return ", ".join(map(_seen, tables.values()))

    def statuses(self) -> str:
        """That the catalogue takes every status that will be written."""
        table = self._reader.catalogue
        room = table.columns["status"].longest_text
        with self._database.transaction("checking the column status") as cursor:
            cursor.execute(statement("checks.labels_of_type"), _named(cursor, table) | {"column": "status"})
            labels = {label for (label,) in cursor.fetchall()}
        refused = [word for word in self._statuses if (labels and word not in labels) or (room and len(word) > room)]
        reason = "its type does not know them" if labels else f"it holds {room} characters"
        if not refused and self._is_watched(table, ["status"], ON_UPDATE):
            refused, reason = self._try_statuses()
        if refused:
            raise ConfigurationError(
                f"{table.key}: column status of {table} does not take {', '.join(map(repr, refused))} ({reason}); let "
                f"it take {', '.join(self._statuses)}"
            )
        return f"{table} takes {', '.join(self._statuses)}"

    @property
    def _statuses(self) -> list[str]:
        """Those that this worker may write."""
        return [word for word in STATUSES if word != SUPERSEDED or self._newest_only]

    def _is_watched(self, table: Table, columns: list[str], events: int = 0) -> bool:
        with self._database.transaction(f"checking the table {table}") as cursor:
            values = _named(cursor, table) | {"columns": columns, "events": events}
            cursor.execute(statement("checks.is_watched"), values)
            return bool(scalar(cursor))

    def _try_statuses(self) -> tuple[list[str], str]:
        """The statuses that the catalogue refuses, and why; found out on a row, and rolled back."""
        catalogue = self._reader.catalogue.identifier
        for status in self._statuses:
            try:
                with self._database.transaction("trying statuses") as cursor:
                    cursor.execute(statement("checks.any_scene", catalogue=catalogue))
                    values = {"obsid": scalar(cursor), "status": status}
                    cursor.execute(statement("checks.try_status", catalogue=catalogue), values)
                    cursor.connection.rollback()
            except ConfigurationError as error:
                return [status], one_line(error.__cause__ or error)
        return [], ""

    def _try_rows(self, table: Table, labels: Collection[str]) -> None:
        """Raise ConfigurationError if a table of results will not take rows of the next scene: no partition is made for
        it, or a constraint knows neither scene nor label. Nothing of it stays."""
        columns = [column.name for name, column in table.columns.items() if name in KEY_COLUMNS]
        if table.absent or not (table.kind == "p" or self._is_watched(table, columns)):
            return
        values = {"card": self._card, "start": self._args.startdate, "end": self._args.enddate}
        with self._database.transaction(f"trying the table {table}") as cursor:
            cursor.execute(statement("checks.next_scene", catalogue=self._reader.catalogue.identifier), values)
            obsid = scalar(cursor)
            parcels = self._reader.parcels
            pid = parcels.columns["id"].of("p")
            cursor.execute(statement("parcels.any_id", pid=pid, parcels=parcels.identifier))
            number = scalar(cursor)
            if obsid is not None and number is not None:
                ResultsTable(table).refuse_if_closed(cursor, number, obsid, labels)


def one_srid(table: Table, column: Column, found: Sequence[tuple[int, int]]) -> str:
    """What was found in a column, in words; raises ConfigurationError if that is more than one SRID.

    found: SRIDs and how many geometries have them.
    """
    listing = ", ".join(f"{rows} with {srid}" for srid, rows in found)
    if len(found) > 1:
        how = "ST_SetSRID for those that have none, or " if found[-1][0] == 0 else ""
        raise ConfigurationError(
            f"{table.key}: the geometries of {table} have several SRIDs ({listing}), and only those of one would be "
            f"found; bring them to one with {how}ST_Transform({column.name}, {found[0][0]})"
        )
    return listing


def _check_unique_indexes(cursor: "PgCursor", table: Table) -> None:
    """Raise ConfigurationError if a table of results takes but one row where a scene has several: one parcel, several
    bands, say."""
    keys = {column.name for name, column in table.columns.items() if name in KEY_COLUMNS}
    for index in [] if table.absent else indexes(cursor, table):
        if index.unique and not index.partial and set(index.columns) < keys:
            few, all_of = ", ".join(map(str, index.columns)), ", ".join(sorted(keys))
            raise ConfigurationError(
                f"{table.key}: a unique index of {table} allows but one row for each {few}; drop it, or let it be one "
                f"on {all_of}"
            )


def _named(cursor: "PgCursor", table: Table) -> dict[str, Any]:
    return {"table": table.identifier.as_string(cursor)}


def _seen(table: Table) -> str:
    return f"{table} will be created" if table.absent else f"{table} ({rights.KINDS[table.kind]})"
