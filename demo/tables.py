"""The tables that other programs make: catalogue, areas of interest, parcels. Every function commits.

A table name may be schema-qualified (`schema.table`); the schema is made when absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import shapely
from psycopg2 import sql
from psycopg2.extras import execute_values
from shapely.geometry.base import BaseGeometry

if TYPE_CHECKING:
    from psycopg2.extensions import connection

CATALOGUE = "dias_catalogue"

CATALOGUE_SQL = """
CREATE TABLE {table} (
    id serial PRIMARY KEY,
    obstime timestamp without time zone NOT NULL,
    reference varchar(120) NOT NULL UNIQUE,
    sensor char(2) NOT NULL,
    card char(2) NOT NULL,
    status {status_type} NOT NULL DEFAULT 'ingested',
    footprint geometry(Polygon, 4326));
CREATE INDEX ON {table} USING gist (footprint)"""

AOIS_SQL = "CREATE TABLE {table} (name text, wkb_geometry geometry(Geometry, {srid}))"

PARCELS_SQL = """
CREATE TABLE {table} (ogc_fid serial PRIMARY KEY, wkb_geometry geometry({kind}, {srid}));
CREATE INDEX ON {table} USING gist (wkb_geometry)"""

SCENE_SQL = """
INSERT INTO {table} (obstime, reference, sensor, card, status, footprint)
VALUES (%s, %s, %s, %s, %s, ST_GeomFromText(%s, 4326)) RETURNING id"""

AOI_SQL = "INSERT INTO {table} (name, wkb_geometry) VALUES (%s, ST_GeomFromText(%s, %s))"


def _create(connection: connection, statement: str, table: str, **parts: sql.Composable) -> None:
    names = table.split(".")
    with connection, connection.cursor() as cursor:
        if len(names) > 1:
            cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(names[0])))
        cursor.execute(sql.SQL(statement).format(table=sql.Identifier(*names), **parts))


def _into(statement: str, table: str) -> sql.Composed:
    return sql.SQL(statement).format(table=sql.Identifier(*table.split(".")))


def create_catalogue(connection: connection, table: str = CATALOGUE, status_type: str = "varchar(12)") -> None:
    """The scene catalogue as the original publishes it; obstime in UTC, footprint in EPSG:4326."""
    _create(connection, CATALOGUE_SQL, table, status_type=sql.SQL(status_type))


def create_aois(connection: connection, table: str = "aois", srid: int = 4326) -> None:
    """The areas of interest: name and wkb_geometry (of any type)."""
    _create(connection, AOIS_SQL, table, srid=sql.Literal(srid))


def create_parcels(connection: connection, table: str, srid: int, dimensions: str = "") -> None:
    """A parcel table as ogr2ogr leaves it: ogc_fid, wkb_geometry, GiST index. `dimensions`: "", Z, M or ZM."""
    _create(connection, PARCELS_SQL, table, kind=sql.SQL("Geometry" + dimensions), srid=sql.Literal(srid))


def add_scene(
    connection: connection,
    reference: str,
    obstime: datetime,
    card: str,
    footprint_wkt: str,
    *,
    status: str = "ingested",
    table: str = CATALOGUE,
) -> int:
    """Insert a scene and return its id; obstime in UTC, footprint in EPSG:4326 with x = longitude.

    The sensor (`1A`, `2B`, ...) is read from the reference.
    """
    values = (obstime, reference, reference[1:3], card, status, footprint_wkt)
    with connection, connection.cursor() as cursor:
        cursor.execute(_into(SCENE_SQL, table), values)
        return int(cursor.fetchall()[0][0])


def add_aoi(connection: connection, name: str, wkt: str, *, table: str = "aois", srid: int = 4326) -> None:
    """Insert an area of interest; the WKT is in the table's SRID, x before y."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_into(AOI_SQL, table), (name, wkt, srid))


def add_parcels(connection: connection, table: str, geometries: Sequence[BaseGeometry | None], srid: int) -> list[int]:
    """Insert geometries of any type (None: NULL), coordinates in `srid`; returns their ogc_fid in that order."""
    statement = _into("INSERT INTO {table} (wkb_geometry) VALUES %s RETURNING ogc_fid", table)
    rows = [(None if geometry is None else _ewkb(geometry, srid),) for geometry in geometries]
    with connection, connection.cursor() as cursor:
        inserted = execute_values(cursor, statement, rows, template="(%s::geometry)", page_size=1000, fetch=True)
    return [int(row[0]) for row in inserted]


def _ewkb(geometry: BaseGeometry, srid: int) -> str:
    return str(shapely.to_wkb(shapely.set_srid(geometry, srid), hex=True, include_srid=True))
