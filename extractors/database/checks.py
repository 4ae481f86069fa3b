"""What is asked of the database before the first claim: whether all that will be done can be done.

What is dear on a large table comes from an index or from statistics; where there are none, it is tried for a few
seconds, and then said to be unchecked.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from psycopg2 import errors as pg
from psycopg2 import sql

from extractors.config import DatabaseFile
from extractors.database import rights
from extractors.database.connection import Database, scalar
from extractors.database.results import KEY_COLUMNS, ResultsTable
from extractors.database.schema import GEOGRAPHY, Table
from extractors.database.sql import statement
from extractors.database.tables import AOI_COLUMNS, CATALOGUE_COLUMNS, TableReader
from extractors.errors import ConfigurationError, ExtractionError, one_line
from extractors.model import STATUSES, Check

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

LONGEST_LOOK_SECONDS = 5
HIGHEST_ID = 2**31 - 1
# PostgreSQL's bit for what a trigger waits for.
ON_UPDATE = 16

# West, south, east, north, in degrees.
Box = tuple[float, float, float, float]


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
        self._may_be_empty = may_be_empty
        self._was_empty = False

    def before_any_work(self) -> list[Check]:
        """What a worker begins with, in this order."""
        parcels, catalogue, area = "parcel table", "catalogue", "area of interest"
        return [
            Check("PostGIS", self.postgis, ("database",)),
            Check(catalogue, self.catalogue, ("PostGIS",)),
            Check(area, self.area, ("PostGIS",)),
            Check(parcels, self.parcels, ("PostGIS",)),
            Check("extraction log", self.log, (catalogue,)),
            Check("results table", self.results, (catalogue, parcels)),
            Check("statuses", self.statuses, (catalogue,)),
            Check("reference systems", self.reference_systems, (catalogue, parcels, area)),
            Check("parcels in the area", self.extents, ("reference systems",)),
        ]

    def before_the_first_scene(self) -> list[Check]:
        """What takes longer, and is looked at once there is something to do; also what could not be seen of parcels
        that were not there at the start."""
        checks = [Check("reference systems of all parcels", self.srids_of_rows, ("reference systems",))]
        if self._was_empty:
            self._reader.forget_parcels()
            late = {"parcel table", "reference systems", "parcels in the area"}
            return [check for check in self.before_any_work() if check.name in late] + checks
        return checks

    def postgis(self) -> str:
        """That PostGIS is there."""
        with self._database.transaction("looking for PostGIS") as cursor:
            cursor.execute(statement("connection.describe"))
            server, version, schema, usable, name, encoding = cursor.fetchone() or ()
        if version is not None and not usable:
            raise ConfigurationError(
                f"PostGIS is in the schema {schema} of database {name}, which the database user may not use; GRANT "
                f"USAGE ON SCHEMA {schema} to it"
            )
        if not usable:
            raise ConfigurationError(f"database {name} has no PostGIS; run CREATE EXTENSION postgis in it")
        return f"PostgreSQL {server}, PostGIS {version} in schema {schema}, encoding {encoding}"

    def parcels(self) -> str:
        """The parcel table, with parcels in it."""
        table, srid = self._reader.parcels, self._reader.parcel_srid
        columns = [column.name for column in table.columns.values()]
        with self._database.transaction("checking the parcel table") as cursor:
            rights.check_readable(cursor, table, columns)
            cursor.execute(statement("checks.rows"), _named(cursor, table))
            rows = scalar(cursor)
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
        self._was_empty = srid is None
        known = f"about {rows} rows" if rows and rows > 0 else "number of rows unknown"
        return f"{table} ({', '.join(columns)}), {known}, " + ("no geometry yet" if srid is None else f"SRID {srid}")

    def catalogue(self) -> str:
        """The catalogue of scenes, with numbers that the log can hold."""
        table = self._reader.catalogue
        with self._database.transaction("checking the catalogue") as cursor:
            rights.check_catalogue(cursor, table, CATALOGUE_COLUMNS)
        if table.columns["id"].type == "int8":
            with self._quick("checking the catalogue") as cursor:
                cursor.execute(statement("checks.highest_id", catalogue=table.identifier))
                highest = scalar(cursor) or 0
            if highest > HIGHEST_ID:
                raise ConfigurationError(
                    f"{table.key}: column id of {table} reaches {highest}; numbers of scenes must stay below 2^31, "
                    "which is what locks and results can hold"
                )
        return f"{table}, SRID {self._reader.footprint_srid}"

    def area(self) -> str:
        """The area of interest."""
        table, field = self._reader.aois, self._reader.aoi_field
        with self._database.transaction("checking the AOI table") as cursor:
            rights.check_readable(cursor, table, [field, *AOI_COLUMNS])
        return f"{self._args.name!r} in {table}.{field}, SRID {self._reader.aoi_srid}"

    def log(self) -> str:
        """The log, or the place where it will be made."""
        with self._database.transaction("checking the log") as cursor:
            rights.check_log(cursor, self._reader.log)
        return _seen(self._reader.log)

    def results(self) -> str:
        """The tables of results, or the places where they will be made; and that they take a scene's rows."""
        tables = [table for table in (self._reader.results, self._reader.hists) if table is not None]
        for table in tables:
            with self._database.transaction(f"checking the table {table} ({table.key})") as cursor:
                rights.check_results(cursor, table)
            self._try_rows(table)
        return ", ".join(map(_seen, tables))

    def statuses(self) -> str:
        """That the catalogue takes every status that will be written."""
        table = self._reader.catalogue
        room = table.columns["status"].longest_text
        with self._database.transaction("checking the column status") as cursor:
            cursor.execute(statement("checks.labels_of_type"), _named(cursor, table) | {"column": "status"})
            labels = {label for (label,) in cursor.fetchall()}
        refused = [word for word in STATUSES if (labels and word not in labels) or (room and len(word) > room)]
        reason = "its type does not know them" if labels else f"it holds {room} characters"
        if not refused and self._is_watched(table, ["status"], ON_UPDATE):
            refused, reason = self._try_statuses()
        if refused:
            raise ConfigurationError(
                f"{table.key}: column status of {table} does not take {', '.join(map(repr, refused))} ({reason}); let "
                f"it take {', '.join(STATUSES)}"
            )
        return f"{table} takes {', '.join(STATUSES)}"

    def reference_systems(self) -> str:
        """That positions can be brought from one table's CRS to the other's."""
        reader = self._reader
        if reader.parcel_srid is None:
            return "not known while there are no parcels"
        names, values = self._names, self._values
        area = self._refusal(lambda at: at.execute(statement("checks.try_area", **names), values))
        if area and self._refusal(lambda at: at.execute(statement("checks.try_parcel", **names), values)):
            raise ConfigurationError(
                f"{reader.parcels.key}: neither the area nor a parcel can be transformed between the SRIDs "
                f"{reader.aoi_srid}, {reader.footprint_srid} and {reader.parcel_srid} ({area}); see their "
                "definitions in spatial_ref_sys"
            )
        return f"area {reader.aoi_srid}, footprints {reader.footprint_srid}, parcels {reader.parcel_srid}"

    def extents(self) -> str:
        """That there is any parcel near the area."""
        reader = self._reader
        if reader.parcel_srid is None:
            return "not known while there are no parcels"
        try:
            with self._quick("looking for parcels in the area") as cursor:
                cursor.execute(statement("checks.area_box", **self._names), self._values)
                *area, near = cursor.fetchone() or ()
        except ExtractionError as error:
            return f"unchecked ({_why_not(error)})"
        if near:
            return f"{self._args.name!r} reaches {_in_words(area)}, and there are parcels"
        where = self._box_of_parcels()
        raise ConfigurationError(
            f"{reader.parcels.key}: no parcel of {reader.parcels} lies near the area {self._args.name!r}: the area "
            f"reaches {_in_words(area)}, the parcels {_in_words(where) if where else 'elsewhere'} (degrees); see "
            f"whether their SRID {reader.parcel_srid} is right, and their axes are in the order x, y"
        )

    def srids_of_rows(self) -> str:
        """That all parcels have the same SRID, if their column's type does not say so."""
        table = self._reader.parcels
        if table.columns["geometry"].srid:
            return f"SRID {table.columns['geometry'].srid}, as the type of the column says"
        try:
            with self._quick("counting SRIDs") as cursor:
                cursor.execute(statement("checks.srids", **self._names))
                found = cursor.fetchall()
        except ExtractionError as error:
            return f"unchecked ({_why_not(error)}); a column of type geometry(Geometry, SRID) would say so"
        listing = ", ".join(f"{rows} with {srid}" for srid, rows in found)
        if len(found) > 1:
            raise ConfigurationError(
                f"{table.key}: the parcels of {table} have several SRIDs ({listing}), and only those of one would be "
                f"found; bring them to one with ST_Transform({table.columns['geometry'].name}, {found[0][0]})"
            )
        return f"parcels: {listing}" if found else "no parcels yet"

    def position(self) -> tuple[int, tuple[float, float], tuple[float, float]] | None:
        """A position among the parcels: their SRID, its coordinates, and what PostGIS makes of these in longitude and
        latitude. None if there is none."""
        if self._reader.parcel_srid is None:
            return None
        try:
            with self._quick("transforming a position") as cursor:
                cursor.execute(statement("checks.position", **self._names))
                row = cursor.fetchone()
        except ExtractionError as error:
            _why_not(error)
            return None
        return None if row is None else (self._reader.parcel_srid, (row[0], row[1]), (row[2], row[3]))

    # Means

    @contextmanager
    def _quick(self, doing: str) -> "Iterator[PgCursor]":
        """A transaction whose statements give up after a few seconds (DatabaseUnavailableError)."""
        with self._database.transaction(doing) as cursor:
            cursor.execute(statement("connection.limit_time"), {"milliseconds": str(LONGEST_LOOK_SECONDS * 1000)})
            yield cursor

    def _refusal(self, ask: "Callable[[PgCursor], object]") -> str | None:
        """Why PostGIS cannot answer a question about geometries; None if it can."""
        try:
            with self._quick("transforming a position") as cursor:
                ask(cursor)
        except ConfigurationError as error:
            if isinstance(error.__cause__, pg.InternalError):
                return one_line(error.__cause__)
            raise
        return None

    @property
    def _names(self) -> dict[str, sql.Composable]:
        """What stands in statements about area and parcels `p`."""
        reader = self._reader
        return {
            "parcels": reader.parcels.identifier,
            "pid": reader.parcels.columns["id"].of("p"),
            "geometry": reader.parcels.columns["geometry"].of("p"),
            "aois": reader.aois.identifier,
            "aoi_field": sql.Identifier(reader.aoi_field),
            "outline": reader.aois.columns["wkb_geometry"].of(),
        }

    @property
    def _values(self) -> dict[str, Any]:
        """Their parameters."""
        reader = self._reader
        values = {"aoi": self._args.name, "aoi_srid": reader.aoi_srid, "parcel_srid": reader.parcel_srid}
        return values | {"footprint_srid": reader.footprint_srid}

    def _is_watched(self, table: Table, columns: list[str], events: int = 0) -> bool:
        with self._database.transaction(f"checking the table {table}") as cursor:
            values = _named(cursor, table) | {"columns": columns, "events": events}
            cursor.execute(statement("checks.is_watched"), values)
            return bool(scalar(cursor))

    def _try_statuses(self) -> tuple[list[str], str]:
        """The statuses that the catalogue refuses, and why; found out on a row, and rolled back."""
        catalogue = self._reader.catalogue.identifier
        for status in STATUSES:
            try:
                with self._database.transaction("trying statuses") as cursor:
                    cursor.execute(statement("checks.any_scene", catalogue=catalogue))
                    values = {"obsid": scalar(cursor), "status": status}
                    cursor.execute(statement("checks.try_status", catalogue=catalogue), values)
                    cursor.connection.rollback()
            except ConfigurationError as error:
                return [status], one_line(error.__cause__ or error)
        return [], ""

    def _try_rows(self, table: Table) -> None:
        """Raise ConfigurationError if a table of results will not take rows of the next scene: no partition is made for
        it, or a constraint knows neither scene nor label. Nothing of it stays."""
        columns = [column.name for name, column in table.columns.items() if name in KEY_COLUMNS]
        if table.absent or not (table.kind == "p" or self._is_watched(table, columns)):
            return
        values = {"card": self._card, "start": self._args.startdate, "end": self._args.enddate}
        with self._database.transaction(f"trying the table {table}") as cursor:
            cursor.execute(statement("checks.next_scene", catalogue=self._reader.catalogue.identifier), values)
            obsid = scalar(cursor)
            cursor.execute(statement("parcels.any_id", **self._names))
            pid = scalar(cursor)
            if obsid is not None and pid is not None:
                ResultsTable(table).refuse_if_closed(cursor, pid, obsid, self._reader.labels)

    def _box_of_parcels(self) -> Box | None:
        """Where the parcels are, in degrees, as far as that can be found out."""
        table = self._reader.parcels
        named = {"schema": table.name.schema, "name": table.name.name, "column": table.columns["geometry"].name}
        row: Box | tuple[None] | None = None
        with suppress(ExtractionError), self._quick("looking where the parcels are") as cursor:
            cursor.execute(statement("checks.estimated_box"), self._values | named)
            row = cursor.fetchone()
        if row is None or row[0] is None:
            with suppress(ExtractionError), self._quick("looking where the parcels are") as cursor:
                cursor.execute(statement("checks.true_box", **self._names), self._values)
                row = cursor.fetchone()
        return None if row is None or row[0] is None else row


def _named(cursor: "PgCursor", table: Table) -> dict[str, Any]:
    return {"table": table.identifier.as_string(cursor)}


def _seen(table: Table) -> str:
    return f"{table} will be created" if table.absent else f"{table} ({rights.KINDS[table.kind]})"


def _in_words(box: Sequence[float]) -> str:
    west, south, east, north = (f"{value:.6g}" for value in box)
    return f"from {west} to {east} east and {south} to {north} north"


def _why_not(error: ExtractionError) -> str:
    """Why a question has no answer, if that is its own difficulty; raises all other errors again."""
    if isinstance(error.__cause__, pg.QueryCanceled):
        return f"it takes longer than {LONGEST_LOOK_SECONDS} s"
    if isinstance(error.__cause__, pg.InternalError):
        return one_line(error.__cause__)
    raise error
