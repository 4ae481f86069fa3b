"""Which ground a worker is for: the area of interest (AOI), and what meets it. One rule for all statements."""

from collections.abc import Callable
from typing import Protocol

from psycopg2 import sql

from extractors.database.schema import Table
from extractors.database.sql import statement

PART = sql.SQL("(part).geom")
# Vertices up to which an invalid geometry is fixed: where all edges cross one another, that takes 0.05 s by structure,
# 0.1 s by lines.
MOST_TO_FIX, MOST_BY_LINES = 200, 50
ANY_NUMBER = 2**31 - 1
# What makes a geometry valid, and up to how many vertices.
Fix = tuple[Callable[[sql.Composable], sql.Composed], int]
# Vertices of a footprint. Judging these takes milliseconds, whatever they are.
MOST_OF_A_FOOTPRINT = 10_000


class Ground(Protocol):
    """The tables that say where scenes and the area are, as `Tables` has them, and `TableReader`."""

    @property
    def catalogue(self) -> Table: ...  # noqa: D102
    @property
    def footprint_srid(self) -> int: ...  # noqa: D102
    @property
    def in_degrees(self) -> bool: ...  # noqa: D102
    @property
    def aois(self) -> Table: ...  # noqa: D102
    @property
    def aoi_srid(self) -> int | None: ...  # noqa: D102
    @property
    def aoi_field(self) -> str: ...  # noqa: D102
    @property
    def fixes_by_structure(self) -> bool: ...  # noqa: D102


def in_srid(geometry: sql.Composable, srid: str) -> sql.Composed:
    """A geometry transformed to the SRID that the statement's parameter of this name holds."""
    return statement("aoi.in_srid", geometry=geometry, srid=sql.Placeholder(srid))


def in_srid_by_parts(geometry: sql.Composable, srid: str) -> sql.Composed:
    """The same for what may lie on both sides of the meridian of 180 degrees."""
    parts = {"whole": in_srid(geometry, srid), "part": in_srid(PART, srid)}
    return statement("aoi.in_srid_by_parts", geometry=geometry, **parts)


def footprint(tables: Ground) -> sql.Composed:
    """The footprint of scene `d`, as GEOS can work with it; NULL if it has a `problem`."""
    raw, fix = _raw(tables), _fix_of_footprints(tables)
    valid = _valid(raw, fix)
    return _wrapped(raw, valid, fix, crossing=True) if tables.in_degrees else valid


def problem(tables: Ground) -> sql.Composed:
    """Why the footprint of scene `d` cannot be used; takes the parameter `footprint_srid`."""
    raw, (fix, most) = _raw(tables), _fix_of_footprints(tables)
    limits = {"most": sql.Literal(most), "most_of_all": sql.Literal(MOST_OF_A_FOOTPRINT)}
    return statement("aoi.problem", raw=raw, fixed=fix(raw), **limits)


def areas(tables: Ground) -> sql.Composed:
    """The AOI's geometries; takes the parameters `aoi` and `footprint_srid`."""
    outline, transformed = sql.Identifier("outline"), sql.Identifier("transformed")
    fix, most = fix_of_areas(tables.fixes_by_structure)
    # What was valid before has few faults, however many vertices have come in between.
    again = fix, ANY_NUMBER
    as_it_is: sql.Composable = outline
    valid = _valid(transformed, again)
    if tables.in_degrees:
        # Of an area that others have drawn in degrees, a great width is meant.
        as_it_is = _wrapped(outline, outline, again, crossing=False)
        valid = _wrapped(transformed, valid, again, crossing=True)
    return statement(
        "aoi.areas",
        as_it_is=as_it_is,
        valid=valid,
        transformed=in_srid(outline, "footprint_srid"),
        sound=_valid(tables.aois.columns["wkb_geometry"].of(), (fix, most)),
        aois=tables.aois.identifier,
        aoi_field=sql.Identifier(tables.aoi_field),
    )


def fix_of_areas(by_structure: bool) -> Fix:
    """How an invalid area is fixed."""
    return (_by_structure, MOST_TO_FIX) if by_structure else (_by_lines, MOST_BY_LINES)


def met(tables: Ground) -> sql.Composed:
    """Whether the footprint of scene `d` meets the AOI, in a statement with `areas` as its CTE `aoi`; takes the
    parameter `footprint_srid`."""
    return statement(
        "aoi.met",
        raw=_raw(tables),
        footprint=footprint(tables),
        problem=problem(tables),
        most_of_all=sql.Literal(MOST_OF_A_FOOTPRINT),
    )


def _raw(tables: Ground) -> sql.Composable:
    return tables.catalogue.columns["footprint"].of("d")


def _fix_of_footprints(tables: Ground) -> Fix:
    return _by_structure if tables.fixes_by_structure else _hull, MOST_TO_FIX


def _by_structure(geometry: sql.Composable) -> sql.Composed:
    return statement("aoi.by_structure", geometry=geometry)


def _by_lines(geometry: sql.Composable) -> sql.Composed:
    return statement("aoi.by_lines", geometry=geometry)


def _hull(geometry: sql.Composable) -> sql.Composed:
    return statement("aoi.hull", geometry=geometry)


def _valid(geometry: sql.Composable, fix: Fix) -> sql.Composed:
    """A geometry made valid; NULL if that might take long."""
    make, most = fix
    return statement("aoi.valid", geometry=geometry, fixed=make(geometry), most=sql.Literal(most))


def _wrapped(geometry: sql.Composable, valid: sql.Composable, fix: Fix, crossing: bool) -> sql.Composed:
    """A geometry in degrees, valid and cut at 180 degrees. valid: the same made valid. crossing: what is wider than
    half the Earth is taken for something narrow across that meridian."""
    return statement(
        "aoi.wrapped",
        geometry=geometry,
        valid=valid,
        shifted=_valid(statement("aoi.shifted", geometry=geometry), fix),
        crossing=sql.SQL("true") if crossing else sql.SQL("false"),
    )
