"""The ground of nearly every test: where it is, rectangles on it, and pixels for it.

Scenes are small (60 x 60 pixels of 10 m). Parcels are rectangles whose edges lie 2 m inside pixel edges: 3 m away from
every pixel centre, so that the number of pixels in a parcel is beyond doubt.
"""

from __future__ import annotations

from typing import Any

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from demo.products import Grid

GRID = Grid(epsg=32633, left=499980.0, top=5100000.0, pixel=10.0)
"""60 x 60 pixels of 10 m at 15 degrees east, 46 degrees north."""
SHAPE = (60, 60)
SIDE = 600.0

Array = NDArray[Any]


def cell(
    column: float, row: float, width: float = 6, height: float = 6, *, grid: Grid = GRID, inset: float = 2.0
) -> shapely.Polygon:
    """The rectangle that holds the centres of these pixels, its edges `inset` metres inside the pixel edges."""
    left, top = grid.left + column * grid.pixel, grid.top - row * grid.pixel
    return shapely.box(left + inset, top - height * grid.pixel + inset, left + width * grid.pixel - inset, top - inset)


def squares(number: int, *, grid: Grid = GRID) -> list[BaseGeometry]:
    """Squares of 6 x 6 pixels in rows of seven, not touching each other."""
    return [cell(2 + 8 * (i % 7), 2 + 8 * (i // 7), grid=grid) for i in range(number)]


def ground(margin: float = 150.0, *, grid: Grid = GRID, shape: tuple[int, int] = SHAPE) -> shapely.Polygon:
    """The rectangle of a raster, `margin` metres wider on each side."""
    height, width = shape[0] * grid.pixel, shape[1] * grid.pixel
    return shapely.box(grid.left - margin, grid.top - height - margin, grid.left + width + margin, grid.top + margin)


def to_epsg(geometry: BaseGeometry, source: int, target: int) -> BaseGeometry:
    """Reprojected with x = easting and y = northing on both sides, as ogr2ogr stores geometries."""
    result: BaseGeometry = geopandas.GeoSeries([geometry], crs=source).to_crs(target).iloc[0]
    return result


def footprint(geometry: BaseGeometry, epsg: int = GRID.epsg) -> str:
    """As WKT in EPSG:4326, for the catalogue."""
    return to_epsg(geometry, epsg, 4326).wkt


def red(seed: int = 1, shape: tuple[int, int] = SHAPE) -> Array:
    """Digital numbers 1 to 9,999, with a corner of nodata."""
    numbers = np.random.default_rng(seed).integers(1, 10_000, shape, dtype=np.uint16)
    numbers[-4:, -4:] = 0
    return numbers


def classes(seed: int = 1, shape: tuple[int, int] = (30, 30)) -> Array:
    """Scene classes 1 to 11, with a corner of nodata."""
    numbers = np.random.default_rng(1000 + seed).integers(1, 12, shape, dtype=np.uint8)
    numbers[-2:, -2:] = 0
    return numbers


def optical(seed: int = 1) -> dict[str, Array]:
    """The three bands of a small s2 scene."""
    return {"B04": red(seed), "B08": red(seed + 500), "SCL": classes(seed)}


def radar(seed: int = 1, shape: tuple[int, int] = SHAPE) -> dict[str, Array]:
    """VV (about 0.5) and VH (about 0.1): they cannot be taken for one another."""
    random = np.random.default_rng(seed)
    return {
        "VV": random.uniform(0.4, 0.6, shape).astype("float32"),
        "VH": random.uniform(0.05, 0.15, shape).astype("float32"),
    }
