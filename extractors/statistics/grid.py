"""What a grid of pixels is, and polygons on it.

What several engines, bands or grids need of the same polygons is computed here, once.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from extractors.signatures import ALL_TOUCHED, CENTRE, FRACTION

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Array = NDArray[Any]
Geometries = NDArray[np.object_]
# Of one that crosses itself, so many vertices can be put right within seconds.
MOST_VERTICES_FIXED = 500
# Which of some polygons: a range, their positions, or a mark for each.
Chosen = slice | Integers | NDArray[np.bool_]


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

    @property
    def pixel_area(self) -> float:
        """In square units of the CRS."""
        return abs(self.transform.a * self.transform.e)

    def cut(self, rows: slice, columns: slice) -> "Grid":
        """The grid of a window of this one."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        return Grid(self.transform * Affine.translation(columns.start, rows.start), shape)


@dataclass(frozen=True)
class Boxes:
    """The bounding boxes of polygons in whole pixels of a grid, rounded outwards, possibly reaching beyond it.

    top, bottom, left, right: one number each per polygon; bottom and right are the first row and column outside.
    """

    top: Floats
    bottom: Floats
    left: Floats
    right: Floats

    def __getitem__(self, chosen: Chosen) -> "Boxes":
        return Boxes(self.top[chosen], self.bottom[chosen], self.left[chosen], self.right[chosen])

    def within(self, shape: tuple[int, int]) -> "Boxes":
        """These boxes cut to the rows and columns of a grid; what lies outside has no area."""
        rows, columns = shape
        return Boxes(
            np.clip(self.top, 0, rows),
            np.clip(self.bottom, 0, rows),
            np.clip(self.left, 0, columns),
            np.clip(self.right, 0, columns),
        )

    def slices(self, index: int) -> tuple[slice, slice]:
        """Rows and columns of one box."""
        sides = (self.top, self.bottom, self.left, self.right)
        top, bottom, left, right = (int(side[index]) for side in sides)
        return slice(top, bottom), slice(left, right)

    @property
    def wider(self) -> "Boxes":
        """These boxes with one pixel more on each side."""
        return Boxes(self.top - 1, self.bottom + 1, self.left - 1, self.right + 1)

    @property
    def areas(self) -> Floats:
        """Pixels of each box."""
        return (self.bottom - self.top) * (self.right - self.left)


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
    """Polygons and multipolygons in a scene's CRS, valid or not, none empty."""

    def __init__(self, geometries: Geometries) -> None:
        self.geometries = geometries

    def on(self, grid: Grid, rule: str = CENTRE) -> "PolygonsOnGrid":
        """The polygons on a grid in their CRS, with boxes by the same arithmetic as rasterstats', which decides by
        them which pixels it looks at. rule: which pixels are a polygon's."""
        bounds, transform = self.bounds, grid.transform
        boxes = Boxes(
            top=np.floor((bounds[:, 3] - transform.f) / transform.e),
            bottom=np.ceil((bounds[:, 1] - transform.f) / transform.e),
            left=np.floor((bounds[:, 0] - transform.c) / transform.a),
            right=np.ceil((bounds[:, 2] - transform.c) / transform.a),
        )
        return PolygonsOnGrid(self, grid, boxes, rule)

    @cached_property
    def bounds(self) -> Floats:
        """n x (west, south, east, north)."""
        bounds: Floats = shapely.bounds(self.geometries)
        return bounds

    @cached_property
    def vertices(self) -> Integers:
        """How many each one has."""
        return shapely.get_num_coordinates(self.geometries).astype(np.int64)

    @cached_property
    def outlines(self) -> Outlines:
        """Their boundaries."""
        parts, zone_of_part = shapely.get_parts(self.geometries, return_index=True)
        rings, part_of_ring = shapely.get_rings(parts, return_index=True)
        coordinates, ring = shapely.get_coordinates(rings, return_index=True)
        zone = zone_of_part[part_of_ring[ring]]
        edge = np.flatnonzero(ring[1:] == ring[:-1])
        return Outlines(coordinates, zone, edge, zone[edge], part_of_ring[ring[edge]], zone_of_part)


@dataclass(frozen=True, eq=False)
class PolygonsOnGrid:
    """Polygons with their boxes on a grid, and the rule by which pixels of it are theirs."""

    polygons: Polygons
    grid: Grid
    boxes: Boxes
    rule: str = CENTRE

    def __len__(self) -> int:
        return len(self.polygons.geometries)

    def __getitem__(self, chosen: Chosen) -> "PolygonsOnGrid":
        if isinstance(chosen, slice) and chosen == slice(0, len(self)):
            return self  # with what is computed already
        return PolygonsOnGrid(Polygons(self.polygons.geometries[chosen]), self.grid, self.boxes[chosen], self.rule)

    @property
    def divisible(self) -> bool:
        """Whether the pixels of one can be computed piece by piece, as each is a pixel like any other."""
        return self.rule != FRACTION

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """Which ones the rule can be applied to: shares need polygons that are valid or can be made so."""
        if self.rule != FRACTION:
            return np.ones(len(self), dtype=bool)
        few: NDArray[np.bool_] = self.polygons.vertices <= MOST_VERTICES_FIXED
        few[~few] = shapely.is_valid(self.polygons.geometries[~few])
        return few

    @cached_property
    def boxes_within(self) -> Boxes:
        """Their boxes cut to the grid."""
        return self.boxes.within(self.grid.shape)

    def rings(self, chosen: Chosen) -> tuple["PolygonsOnGrid", Integers]:
        """The rings of some of them as polygons (a hole may lie outside its shell), shells before their holes, and the
        position of the polygon, among all, that each belongs to."""
        parts, owner = shapely.get_parts(self.polygons.geometries[chosen], return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        found = Polygons(np.asarray(shapely.polygons(rings))).on(self.grid)
        if self.rule == ALL_TOUCHED:
            # Where a ring ends on a pixel's edge, it touches the one beyond, which may lie in its polygon's box.
            found = replace(found, boxes=found.boxes.wider)
        return found, np.arange(len(self))[chosen][owner[part]]

    def to_read(self, largest: float) -> Floats:
        """How many pixels must be read for each: those of its box, but where that has more than `largest` and can be
        divided, no more than those of the boxes of its rings."""
        areas = self.boxes_within.areas
        large = np.flatnonzero((areas > largest) & self.divisible)
        if large.size:
            rings, owner = self.rings(large)
            areas[large] = np.minimum(areas, np.bincount(owner, rings.boxes_within.areas, len(self)))[large]
        return areas
