"""Which ground a worker is for: the area of interest (AOI), and what meets it. One rule for all statements."""

from psycopg2 import sql

from extractors.database.sql import statement
from extractors.database.tables import Tables

FOOTPRINT = sql.Identifier("d", "footprint")


def in_srid(geometry: sql.Composable, srid: str) -> sql.Composed:
    """A geometry transformed to the SRID that the statement's parameter of this name holds."""
    return statement("aoi.in_srid", geometry=geometry, srid=sql.Placeholder(srid))


def valid(geometry: sql.Composable) -> sql.Composed:
    """A geometry made valid."""
    return statement("aoi.valid", geometry=geometry)


def areas(tables: Tables) -> sql.Composed:
    """The AOI's geometries; takes the parameters `aoi` and `footprint_srid`."""
    return statement(
        "aoi.areas",
        valid=valid(sql.Identifier("transformed")),
        transformed=in_srid(sql.Identifier("wkb_geometry"), "footprint_srid"),
        aois=tables.aois.identifier,
        aoi_field=sql.Identifier(tables.aoi_field),
    )


def met() -> sql.Composed:
    """Whether the footprint of scene `d` meets the AOI, in a statement with `areas` as its CTE `aoi`."""
    return statement("aoi.met", valid=valid(FOOTPRINT))
