"""Which ground a worker is for: the area of interest (AOI), and what meets it. One rule for all statements."""

from psycopg2 import sql

from extractors.database.sql import statement
from extractors.database.tables import Tables

PART = sql.SQL("(part).geom")


def in_srid(geometry: sql.Composable, srid: str) -> sql.Composed:
    """A geometry transformed to the SRID that the statement's parameter of this name holds."""
    return statement("aoi.in_srid", geometry=geometry, srid=sql.Placeholder(srid))


def in_srid_by_parts(geometry: sql.Composable, srid: str) -> sql.Composed:
    """The same for what may lie on both sides of the meridian of 180 degrees."""
    parts = {"whole": in_srid(geometry, srid), "part": in_srid(PART, srid)}
    return statement("aoi.in_srid_by_parts", geometry=geometry, **parts)


def valid(geometry: sql.Composable) -> sql.Composed:
    """A geometry made valid."""
    return statement("aoi.valid", geometry=geometry)


def footprint(tables: Tables) -> sql.Composed:
    """The footprint of scene `d`, as GEOS can work with it."""
    raw = tables.catalogue.columns["footprint"].of("d")
    return _wrapped(raw, crossing=True) if tables.in_degrees else valid(raw)


def areas(tables: Tables) -> sql.Composed:
    """The AOI's geometries; takes the parameters `aoi` and `footprint_srid`."""
    transformed = sql.Identifier("transformed")
    # Of an area that others have drawn in degrees, a great width is meant.
    crossing = tables.aoi_srid != tables.footprint_srid
    return statement(
        "aoi.areas",
        valid=_wrapped(transformed, crossing) if tables.in_degrees else valid(transformed),
        transformed=in_srid(tables.aois.columns["wkb_geometry"].of(), "footprint_srid"),
        aois=tables.aois.identifier,
        aoi_field=sql.Identifier(tables.aoi_field),
    )


def met(tables: Tables) -> sql.Composed:
    """Whether the footprint of scene `d` meets the AOI, in a statement with `areas` as its CTE `aoi`."""
    raw = tables.catalogue.columns["footprint"].of("d")
    return statement("aoi.met", raw=raw, footprint=footprint(tables))


def _wrapped(geometry: sql.Composable, crossing: bool) -> sql.Composed:
    """A geometry in degrees, valid and cut at 180 degrees. crossing: what is wider than half the Earth is taken for
    something narrow across that meridian."""
    return statement(
        "aoi.wrapped",
        geometry=geometry,
        valid=valid(geometry),
        shifted=valid(statement("aoi.shifted", geometry=geometry)),
        crossing=sql.SQL("true") if crossing else sql.SQL("false"),
    )
