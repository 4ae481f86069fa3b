"""Zonal statistics: parcels and pixels in, numbers out. Pure numerics, no I/O.

A parcel's pixels are those whose centre lies inside it; pixels equal to nodata and NaN are left out. The numbers are
by definition those of `rasterstats.zonal_stats`. An engine takes the parcels of a chunk and a grid and makes zones of
them, once for all bands on that grid; zones take the pixels of a band and return the table.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from extractors.signatures import STATISTICS

__all__ = ["STATISTICS"]

log = logging.getLogger(__name__)

COUNT, MEAN, STD = 0, 1, 2

# Why a parcel has no statistics.
OUTSIDE = "outside"
NO_PIXEL = "no_pixel"
NODATA = "nodata"
TOO_LARGE = "too_large"

# How far mean and std of an engine may be from rasterstats', relative to the parcel's largest value. rasterstats sums
# float32 pixels in float32, so there its own rounding is what limits the comparison.
TOLERANCE = 1e-9
TOLERANCE_FLOAT32 = 1e-5

Geometries = NDArray[np.object_]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Array = NDArray[Any]


@dataclass(frozen=True)
class Grid:
    """Rows and columns of pixels, north up. transform: (column, row) to CRS coordinates; shape: (rows, columns)."""

    transform: Affine
    shape: tuple[int, int]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in CRS units."""
        west, north = self.transform * (0, 0)
        east, south = self.transform * (self.shape[1], self.shape[0])
        return west, south, east, north

    def cut(self, rows: slice, columns: slice) -> "Grid":
        """The grid of a window of this one."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        return Grid(self.transform * Affine.translation(columns.start, rows.start), shape)


@dataclass(frozen=True)
class Outlines:
    """The boundaries of polygons as arrays. Vertices: coordinates (n x 2) and the polygon (zone) that each belongs to.
    Edges: position of the first vertex (the second one follows it), zone, and part. zone_of_part: one number for each
    part of the polygons, in their order."""

    coordinates: Floats
    zone_of_vertex: Integers
    edge: Integers
    zone_of_edge: Integers
    part_of_edge: Integers
    zone_of_part: Integers


class Polygons:
    """Polygons and multipolygons in a grid's CRS, valid or not, none empty; what several grids and bands need of them
    is worked out once."""

    def __init__(self, geometries: Geometries) -> None:
        self.geometries = geometries

    @classmethod
    def of(cls, geometries: "Geometries | Polygons") -> "Polygons":
        """Geometries as such, if they are not yet."""
        return geometries if isinstance(geometries, Polygons) else cls(geometries)

    def __len__(self) -> int:
        return len(self.geometries)

    def __getitem__(self, chosen: "slice | Integers") -> "Polygons":
        everything = isinstance(chosen, slice) and chosen == slice(0, len(self))
        return self if everything else Polygons(self.geometries[chosen])

    @cached_property
    def bounds(self) -> Floats:
        """n x (west, south, east, north)."""
        bounds: Floats = shapely.bounds(self.geometries)
        return bounds

    @cached_property
    def outlines(self) -> Outlines:
        """Their boundaries."""
        parts, zone_of_part = shapely.get_parts(self.geometries, return_index=True)
        rings, part_of_ring = shapely.get_rings(parts, return_index=True)
        coordinates, ring = shapely.get_coordinates(rings, return_index=True)
        zone = zone_of_part[part_of_ring[ring]]
        edge = np.flatnonzero(ring[1:] == ring[:-1])
        return Outlines(coordinates, zone, edge, zone[edge], part_of_ring[ring[edge]], zone_of_part)


@dataclass(frozen=True)
class Boxes:
    """The bounding boxes of geometries in whole pixels of a grid, rounded outwards, possibly reaching beyond it.

    top, bottom, left, right: one number each per geometry; bottom and right are the first row and column outside.
    """

    top: Floats
    bottom: Floats
    left: Floats
    right: Floats

    @classmethod
    def of(cls, geometries: Geometries | Polygons, grid: Grid) -> "Boxes":
        """Boxes by the same arithmetic as rasterstats', which it decides by which pixels it looks at."""
        bounds, transform = Polygons.of(geometries).bounds, grid.transform
        return cls(
            top=np.floor((bounds[:, 3] - transform.f) / transform.e),
            bottom=np.ceil((bounds[:, 1] - transform.f) / transform.e),
            left=np.floor((bounds[:, 0] - transform.c) / transform.a),
            right=np.ceil((bounds[:, 2] - transform.c) / transform.a),
        )


class Zones(Protocol):
    """The parcels of a chunk on one grid, ready for the bands that have this grid."""

    @property
    def pixels(self) -> Integers:
        """How many pixel centres of the grid lie in each parcel, valid or not."""

    def statistics(self, array: Array, nodata: float) -> Floats:
        """Parcels x STATISTICS for an array of the grid's shape; count 0 and NaN elsewhere without a valid pixel."""

    def histograms(self, array: Array, nodata: float) -> list[dict[str, int]]:
        """Pixels per value for each parcel, for an array of classes; {} without a valid pixel."""


Engine = Callable[[Geometries | Polygons, Grid], Zones]


def scanline(geometries: Geometries | Polygons, grid: Grid) -> Zones:
    """The fast engine: see `extractors.scanline`."""
    from extractors.statistics.scanline import ScanlineZones

    return ScanlineZones(geometries, grid)


def rasterstats(geometries: Geometries | Polygons, grid: Grid) -> Zones:
    """The reference: see `extractors.reference`."""
    from extractors.statistics.rasterstats import RasterstatsZones

    return RasterstatsZones(geometries, grid)


ENGINES: Mapping[str, Engine] = {"scanline": scanline, "rasterstats": rasterstats}


def reasons(
    geometries: Geometries | Polygons, grid: Grid | None, zones: Zones | None, counts: Integers
) -> Iterator[str]:
    """Why each parcel without a valid pixel (counts == 0) has none: `outside` if it does not overlap the grid (None:
    nothing there), `no_pixel` if it holds no pixel centre (zones None: none of them does), else `nodata`."""
    without = np.flatnonzero(counts == 0)
    if grid is None:
        yield from (OUTSIDE for _ in without)
        return
    if not without.size:
        return
    west, south, east, north = grid.bounds
    bounds = Polygons.of(geometries).bounds
    pixels = np.zeros(len(geometries)) if zones is None else zones.pixels
    for index in without:
        left, bottom, right, top = bounds[index]
        if left >= east or right <= west or bottom >= north or top <= south:
            yield OUTSIDE
        else:
            yield NODATA if pixels[index] else NO_PIXEL


def verified(
    engine: str, geometries: Geometries | Polygons, grid: Grid, arrays: Sequence[Array], nodata: float, sample: int
) -> tuple[Zones, list[Floats], bool]:
    """Zones and the statistics of each array by the engine, with rasterstats as the judge.

    `sample` parcels, spread over those given, are computed by rasterstats as well, each in one of the arrays. If any
    number differs, everything given here is computed by rasterstats instead, and the last value returned is True.
    """
    polygons = Polygons.of(geometries)
    zones = ENGINES[engine](polygons, grid)
    tables = [zones.statistics(array, nodata) for array in arrays]
    if engine == "rasterstats" or sample == 0 or not len(polygons):
        return zones, tables, False
    chosen = np.unique(np.linspace(0, len(polygons) - 1, min(sample, len(polygons))).astype(int))
    for turn, (array, table) in enumerate(zip(arrays, tables, strict=True)):
        # Each parcel in one of the bands, in turn: they share their pixels, and rasterstats is slow.
        mine = chosen[turn :: len(arrays)]
        if not mine.size:
            continue
        expected = ENGINES["rasterstats"](polygons[mine], grid).statistics(array, nodata)
        wrong = ~agree(table[mine], expected, array.dtype)
        if wrong.any():
            first = np.flatnonzero(wrong)[0]
            log.warning(
                "engine %s: %s for a parcel of %d vertices where rasterstats has %s; computing these %d parcels again "
                "with rasterstats",
                engine,
                table[mine][first].tolist(),
                shapely.get_num_coordinates(polygons.geometries[mine][first]),
                expected[first].tolist(),
                len(polygons),
            )
            zones = ENGINES["rasterstats"](polygons, grid)
            return zones, [zones.statistics(array, nodata) for array in arrays], True
    return zones, tables, False


def agree(table: Floats, expected: Floats, dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Whether rows of statistics are the same: count, min, max and percentiles equal, mean and std but for rounding."""
    exact = [index for index in range(len(STATISTICS)) if index not in (MEAN, STD)]
    same = ((table == expected) | (np.isnan(table) & np.isnan(expected)))[:, exact].all(axis=1)
    tolerance = TOLERANCE_FLOAT32 if dtype == np.float32 else TOLERANCE
    scale = np.fmax(np.abs(expected[:, 3]), np.abs(expected[:, 4]))[:, None]
    close = np.abs(table - expected)[:, [MEAN, STD]] <= tolerance * scale
    empty = expected[:, COUNT] == 0
    result: NDArray[np.bool_] = same & (close.all(axis=1) | empty)
    return result
