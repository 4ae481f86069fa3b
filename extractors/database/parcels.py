"""The parcels of a scene, streamed from PostGIS in chunks of neighbours.

PostGIS selects (really meeting the footprint and the AOI), transforms to the scene's CRS and orders along its
space-filling curve. The selection is fetched at once by a binary COPY and kept in a file beside the scene's images, so
that nothing stays open or locked in the database while statistics are computed, and memory stays bounded.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from psycopg2 import errors as pg
from psycopg2 import sql

from extractors.config import DatabaseFile, TableName
from extractors.database.catalogue import Catalogue, Scene
from extractors.database.connection import database_errors, require_table, srid_of
from extractors.database.sql import statement
from extractors.errors import ConfigurationError, UnusableSceneError, one_line

if TYPE_CHECKING:
    import geopandas
    import pyproj
    from psycopg2.extensions import connection as PgConnection  # noqa: N812

    from extractors.statistics.zonal import Polygons

log = logging.getLogger(__name__)

Result = TypeVar("Result")

NOT_POLYGON = "not_polygon"
BROKEN_GEOMETRY = "broken_geometry"
NO_ID = "no_id"
# Why PostGIS has no shape or no number for a parcel: the numbers that `parcels.stream` gives.
PROBLEMS = {1: NOT_POLYGON, 2: NO_ID}
# PostgreSQL's binary COPY format, as in `extractors.signatures`. A row of ours: its three fields each behind its size,
# number of the parcel (8 bytes), problem (2 bytes), and well-known binary to the row's end.
COPY_HEADER_BYTES = 19
PID_AT, PROBLEM_AT, WKB_AT = 2 + 4, 2 + 4 + 8 + 4, 2 + 4 + 8 + 4 + 2 + 4
# Nothing on Earth has such coordinates, in degrees or metres.
FARTHEST = 1e9
PLAIN: dict[str, sql.Composable] = {
    "transform": sql.SQL("ST_Transform"),
    "intersects": sql.SQL("ST_Intersects"),
    "sound": sql.SQL("true"),
    "inside": sql.SQL("(SELECT yes FROM inside)"),
}
CAREFUL: dict[str, sql.Composable] = {
    "transform": sql.Identifier("pg_temp", "careful_transform"),
    "intersects": sql.Identifier("pg_temp", "careful_intersects"),
    "sound": sql.SQL("ST_IsValid(shape)"),
    "inside": sql.SQL("false"),
}


@dataclass(frozen=True)
class ParcelTable:
    """The parcel table: its name, its SRID (None while it is empty) and the type of its ids."""

    table: TableName
    srid: int | None
    pid_type: str


@dataclass(frozen=True)
class ParcelChunk:
    """Neighbouring parcels, in the scene's CRS.

    parcels: column `pid` (ogc_fid) and the geometry: 2-D polygons and multipolygons, possibly invalid, never empty.
    unusable: the selected parcels of this chunk that have no such geometry, counted by reason.
    """

    parcels: "geopandas.GeoDataFrame"
    unusable: dict[str, int]

    def __len__(self) -> int:
        return len(self.parcels) + sum(self.unusable.values())

    @cached_property
    def polygons(self) -> "Polygons":
        """The geometries, with what is worked out of them."""
        from extractors.statistics.zonal import Polygons

        return Polygons(self.parcels.geometry.to_numpy())


@dataclass(frozen=True)
class Selection:
    """The parcels of one scene: how many, and the chunks to go through once."""

    total: int
    chunks: Iterator[ParcelChunk]


def open_parcels(connection: "PgConnection", config: DatabaseFile, config_name: str) -> ParcelTable:
    """Check the parcel table; raises ConfigurationError."""
    with database_errors(connection, "checking the parcel table"), connection:
        table, present = require_table(
            connection,
            config.tables.parcel_table,
            "parcel_table",
            config_name,
            {"ogc_fid": "unique number of the parcel", "wkb_geometry": "its boundary"},
        )
        kind = present["ogc_fid"].type
        if kind not in {"int2", "int4", "int8"}:
            raise ConfigurationError(
                f"{config_name}: database.tables.parcel_table: column ogc_fid of {table} has the type {kind}; it must "
                "be an integer"
            )
        srid = srid_of(connection, table, present["wkb_geometry"], "parcel_table", config_name)
    return ParcelTable(table, srid, kind)


def count_without_geometry(connection: "PgConnection", parcels: ParcelTable) -> tuple[int, int]:
    """How many parcels have no geometry (NULL), and how many an empty one. No scene ever meets these."""
    with database_errors(connection, "counting parcels"), connection, connection.cursor() as cursor:
        cursor.execute(statement("parcels.without_geometry", parcels=parcels.table.identifier))
        null, empty = cursor.fetchone() or (0, 0)
    return int(null), int(empty)


def meets_any(connection: "PgConnection", catalogue: Catalogue, parcels: ParcelTable, scene: Scene) -> bool:
    """Whether any parcel meets the scene's footprint and the AOI; costs little, and may spare a download."""
    if parcels.srid is None:
        return False
    values = {"obsid": scene.id, "aoi": catalogue.args.name, "parcel_srid": parcels.srid}

    def ask(functions: dict[str, sql.Composable]) -> bool:
        with connection, connection.cursor() as cursor:
            cursor.execute(_selection("any", catalogue, parcels, functions), values)
            row = cursor.fetchone()
        return bool(row and row[0])

    return _plain_or_careful(connection, ask)


def boxes_with_parcels(
    connection: "PgConnection",
    catalogue: Catalogue,
    parcels: ParcelTable,
    scene: Scene,
    epsg: int,
    boxes: Sequence[tuple[float, float, float, float]],
) -> list[int]:
    """Which of the boxes (west, south, east, north in EPSG:`epsg`) may hold parcels of the scene: a quick guess, for
    preparing them. Empty if it cannot be made."""
    if parcels.srid is None or not boxes:
        return []
    values = {"obsid": scene.id, "aoi": catalogue.args.name, "parcel_srid": parcels.srid, "scene_srid": epsg}
    values |= dict(zip(("west", "south", "east", "north"), map(list, zip(*boxes, strict=True)), strict=True))
    with database_errors(connection, "looking where parcels are"):
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(_selection("boxes", catalogue, parcels, PLAIN), values)
                return [int(row[0]) for row in cursor.fetchall()]
        except pg.InternalError:  # a broken geometry: the selection itself will say so
            return []


@contextmanager
def select_parcels(
    connection: "PgConnection",
    catalogue: Catalogue,
    parcels: ParcelTable,
    scene: Scene,
    epsg: int,
    chunk_size: int,
    folder: Path,
) -> Iterator[Selection]:
    """Select the parcels that meet the scene's footprint and the AOI, in chunks of `chunk_size`, in EPSG:`epsg`.

    They are kept in a nameless file in `folder`. One broken geometry must not cost the scene: if the plain query fails
    on one, it is run again with functions that mend or mark such parcels (`broken_geometry`). Raises
    UnusableSceneError if footprint or AOI themselves cannot be used, OSError if the file cannot be written.
    """
    if parcels.srid is None:
        yield Selection(0, iter(()))
        return
    values = {"obsid": scene.id, "aoi": catalogue.args.name, "parcel_srid": parcels.srid, "scene_srid": epsg}

    def fetch(functions: dict[str, sql.Composable]) -> _Rows:
        rows = _Rows(tempfile.TemporaryFile(dir=folder), chunk_size)  # noqa: SIM115 (closed with the selection)
        try:
            with connection, connection.cursor() as cursor:
                # COPY takes no parameters: the values go in beforehand, quoted by the driver.
                query = cursor.mogrify(_selection("stream", catalogue, parcels, functions), values).decode()
                cursor.copy_expert(statement("parcels.fetch", selection=sql.SQL(query)), rows)
            rows.finish()
        except BaseException:
            rows.close()
            raise
        return rows

    rows = _plain_or_careful(connection, fetch)
    try:
        yield Selection(rows.total, (_chunk(part, epsg) for part in rows.chunks()))
    finally:
        rows.close()


class _Rows:
    """What COPY sends, row by row, kept in a file: `chunks` gives the rows back, `chunk_size` at a time."""

    def __init__(self, file: IO[bytes], chunk_size: int) -> None:
        self.total = 0
        self._file = file
        self._chunk_size = chunk_size
        self._waiting: list[bytes] = []
        self._sizes: list[list[int]] = []
        self._begun = False
        self._error: OSError | None = None

    def write(self, row: bytes) -> None:
        """Take a row. An error is kept for `finish`: raised here, it would leave the connection amid the COPY."""
        if not self._begun:
            self._begun = True
            row = row[COPY_HEADER_BYTES:]
        if len(row) >= WKB_AT:  # not so: the end mark
            self._waiting.append(row)
            if len(self._waiting) == self._chunk_size:
                self._spool()

    def finish(self) -> None:
        """Say that all rows are there."""
        self._spool()
        if self._error is not None:
            raise self._error

    def chunks(self) -> Iterator[list[bytes]]:
        """All rows, `chunk_size` at a time."""
        self._file.seek(0)
        for sizes in self._sizes:
            block, end, rows = self._file.read(sum(sizes)), 0, []
            for size in sizes:
                rows.append(block[end : end + size])
                end += size
            yield rows

    def close(self) -> None:
        """Give the file back to the file system."""
        self._file.close()

    def _spool(self) -> None:
        if self._waiting and self._error is None:
            try:
                self._file.write(b"".join(self._waiting))
                self._file.flush()
            except OSError as error:
                self._error = error
            self._sizes.append([len(row) for row in self._waiting])
            self.total += len(self._waiting)
        self._waiting = []


def _selection(
    what: str, catalogue: Catalogue, parcels: ParcelTable, functions: dict[str, sql.Composable]
) -> sql.Composed:
    return statement(
        "parcels.selection",
        catalogue=catalogue.table.identifier,
        aois=catalogue.aois.identifier,
        aoi_field=sql.Identifier(catalogue.aoi_field),
        parcels=parcels.table.identifier,
        footprint_srid=sql.Literal(catalogue.footprint_srid),
        what=statement(f"parcels.{what}", parcels=parcels.table.identifier, **functions),
        **functions,
    )


def _plain_or_careful(connection: "PgConnection", query: Callable[[dict[str, sql.Composable]], Result]) -> Result:
    """Run a query with PostGIS' own functions, or, if a geometry breaks them, with ones that step over it."""
    with database_errors(connection, "selecting parcels"):
        try:
            return query(PLAIN)
        except pg.InternalError as error:  # what PostGIS and GEOS report of a geometry that they cannot work with
            log.warning("a geometry is broken (%s): selecting again, parcel by parcel", one_line(error))
        with connection, connection.cursor() as cursor:
            cursor.execute(statement("parcels.careful_transform"))
            cursor.execute(statement("parcels.careful_intersects"))
        try:
            return query(CAREFUL)
        except pg.InternalError as error:
            raise UnusableSceneError(
                f"the scene's footprint or the AOI cannot be used for selecting parcels ({one_line(error)}); mend it"
            ) from error


def _chunk(rows: list[bytes], epsg: int) -> ParcelChunk:
    # GeoPandas takes half a second to load: only when there is a scene.
    import geopandas
    import numpy as np
    import shapely

    fixed = np.frombuffer(b"".join([row[:WKB_AT] for row in rows]), dtype="u1").reshape(len(rows), WKB_AT)
    pid = np.ascontiguousarray(fixed[:, PID_AT : PID_AT + 8]).view(">i8")[:, 0].astype(np.int64)
    problem = np.ascontiguousarray(fixed[:, PROBLEM_AT : PROBLEM_AT + 2]).view(">i2")[:, 0]
    # A ring of two points, say, cannot become a polygon: None then, and counted below.
    with np.errstate(invalid="ignore"):  # corners that are no numbers: counted below
        geometry = shapely.from_wkb(np.array([row[WKB_AT:] or None for row in rows], dtype=object), on_invalid="ignore")
    usable = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))
    coordinates, owner = shapely.get_coordinates(geometry, return_index=True)
    usable[owner[~(np.abs(coordinates) < FARTHEST).all(axis=1)]] = False
    usable &= problem == 0
    reasons = [PROBLEMS.get(number, BROKEN_GEOMETRY) for number in problem[~usable].tolist()]
    return ParcelChunk(
        geopandas.GeoDataFrame({"pid": pid[usable]}, geometry=geometry[usable], crs=_crs(epsg)),
        {reason: reasons.count(reason) for reason in sorted(set(reasons))},
    )


@cache
def _crs(epsg: int) -> "pyproj.CRS":
    import pyproj

    return pyproj.CRS.from_epsg(epsg)
