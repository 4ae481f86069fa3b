"""The area of interest, made from a file or from the parcels."""

from pathlib import Path
from typing import Any

from psycopg2 import sql

from extractors.database.connection import scalar
from extractors.database.schema import Table
from extractors.database.sql import statement as shared
from extractors.database.tables import LONGITUDE_LATITUDE
from extractors.errors import ConfigurationError
from operations.doors import module
from operations.lines import Report
from operations.session import EarlyReader, Session
from operations.sql import statement

# Cells of the grid that the outline of the parcels is made of, along its widest side; and the width of one where all
# parcels are one point.
CELLS, LEAST_CELL = 64, 1e-4
# Beyond this, every look for scenes takes notably longer.
MANY_VERTICES = 20_000
# Of what is read from a file: longer edges than these (degrees) are cut, before it goes to another CRS.
EDGE_DEGREES = 0.05
FROM_PARCELS = "parcels"


def make_area(opened: Session, reader: EarlyReader, wanted: str | None, report: Report) -> None:
    """Give the AOI table a row with the configured name, unless it has one. wanted: the file with its outline, or
    `parcels`; None: nothing is made."""
    name, aois = opened.config.args.name, reader.aois
    if _rows(opened, reader):
        report.there("area", _described(opened, reader))
    elif wanted is None:
        report.lacks(
            "area", f"{aois} has no row {name!r}; make it with `operations setup --aoi FILE` or `--aoi parcels`"
        )
    elif wanted == FROM_PARCELS:
        outline, edge = _of_parcels(opened, reader)
        report.make("area", f"{name!r} in {aois}, around the parcels", lambda: _insert(opened, reader, outline, edge))
    else:
        outlines: Any = module("outlines")
        outline = outlines.as_ewkb(outlines.read_outline(Path(wanted)))
        report.make(
            "area", f"{name!r} in {aois}, from {wanted}", lambda: _insert(opened, reader, outline, EDGE_DEGREES)
        )


def _rows(opened: Session, reader: EarlyReader) -> int:
    names = {"aois": reader.aois.identifier, "field": sql.Identifier(reader.aoi_field)}
    with opened.database.transaction("looking for the area of interest") as cursor:
        cursor.execute(statement("area.any", **names), {"name": opened.config.args.name})
        return int(scalar(cursor))


def _described(opened: Session, reader: EarlyReader) -> str:
    names = {"aois": reader.aois.identifier, "field": sql.Identifier(reader.aoi_field)}
    name = opened.config.args.name
    with opened.database.transaction("looking at the area of interest") as cursor:
        cursor.execute(statement("area.describe", **names), {"name": name})
        vertices, parts, west, south, east, north = cursor.fetchone() or (None,) * 6
    if west is None:
        raise ConfigurationError(
            f"{opened.name}: database.args.name: the area {name!r} in {reader.aois} has no geometry; give it one, or "
            "delete that row, and it is made with --aoi"
        )
    where = f"{west:.2f} to {east:.2f} degrees east, {south:.2f} to {north:.2f} north"
    many = "; claims are slow with so many: simplify it" if vertices > MANY_VERTICES else ""
    return f"{name!r} in {reader.aois}, {where}; {parts} parts, {vertices} vertices{many}"


def _of_parcels(opened: Session, reader: EarlyReader) -> tuple[str, float]:
    """A rough outline of the parcels, and the length of its edges in the units of their CRS."""
    parcels = reader.parcels
    if parcels.absent:
        raise ConfigurationError(
            f"{parcels.key}: there is no table {parcels} yet whose outline could be the area; import the parcels first"
        )
    names = {"parcels": parcels.identifier, "geometry": parcels.columns["geometry"].of("p")}
    with opened.database.transaction("making an outline of the parcels") as cursor:
        cursor.execute(statement("area.extent", **names))
        width, srid = cursor.fetchone() or (None, None)
        if width is None:
            raise ConfigurationError(f"{parcels.key}: {parcels} holds no parcel with a geometry; import them first")
        if not srid:
            raise ConfigurationError(
                f"{parcels.key}: the geometries of {parcels} have no SRID, so nobody knows where they are; set it"
            )
        cell = max(width / CELLS, LEAST_CELL)
        cursor.execute(statement("area.hull", **names), {"cell": cell, "srid": srid})
        return str(scalar(cursor)), cell


def _insert(opened: Session, reader: EarlyReader, outline: str, edge: float) -> None:
    aois: Table = reader.aois
    names = {"aois": aois.identifier, "field": sql.Identifier(reader.aoi_field)}
    name = opened.config.args.name
    with opened.database.transaction("making the area of interest") as cursor:
        cursor.execute(shared("tables.lock_creation"))
        cursor.execute(statement("area.any", **names), {"name": name})
        if scalar(cursor):
            # Somebody else was quicker.
            return
        cursor.execute(statement("area.form", **names), {"table": aois.identifier.as_string(cursor)})
        srid, by_parts = cursor.fetchone() or (None, False)
        values = {"name": name, "outline": outline, "edge": edge, "by_parts": by_parts}
        cursor.execute(statement("area.insert", **names), values | {"srid": srid or LONGITUDE_LATITUDE})
