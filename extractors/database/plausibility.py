"""Whether parcels, area and reference systems go together: asked once there is a scene to claim, and before it is.

What is dear on a large table comes from an index or from statistics; where there are none, it is tried for a few
seconds, and then said to be unchecked.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from psycopg2 import errors as pg
from psycopg2 import sql

from extractors.config import DatabaseFile
from extractors.database.checks import DatabaseChecks, one_srid
from extractors.database.connection import Database
from extractors.database.sql import statement
from extractors.database.tables import TableReader
from extractors.errors import ConfigurationError, ExtractionError, one_line
from extractors.model import Check

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

LONGEST_LOOK_SECONDS = 5

# West, south, east, north, in degrees.
Box = tuple[float, float, float, float]


class Plausibility:
    """The questions about one configuration's parcels and area. first: the checks that have been made before."""

    def __init__(self, database: Database, reader: TableReader, config: DatabaseFile, first: DatabaseChecks) -> None:
        self._database = database
        self._reader = reader
        self._args = config.args
        self._first = first

    def checks(self) -> list[Check]:
        """All of them; also what could not be seen of parcels that were not there at the start."""
        parcels, systems = "parcel table", "reference systems"
        checks = [
            Check(systems, self.reference_systems, ("catalogue", parcels, "area of interest")),
            Check("reference systems of all parcels", self.srids_of_rows, (systems,)),
            Check("parcels in the area", self.extents, (systems,)),
        ]
        if self._first.was_empty:
            self._reader.forget_parcels()
            return [Check(parcels, self._first.parcels), *checks]
        return checks

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
                f"{reader.aoi_srid}, {reader.footprints[0]} and {reader.parcel_srid} ({area}); see their "
                "definitions in spatial_ref_sys"
            )
        return f"area {reader.aoi_srid}, footprints {reader.footprints[0]}, parcels {reader.parcel_srid}"

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
                columns = {"table": table.identifier, "geometry": self._names["geometry"]}
                cursor.execute(statement("checks.srids", **columns))
                found = cursor.fetchall()
        except ExtractionError as error:
            return f"unchecked ({_why_not(error)}); a column of type geometry(Geometry, SRID) would say so"
        listing = one_srid(table, table.columns["geometry"], found)
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
        return values | {"footprint_srid": reader.footprints[0]}

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
