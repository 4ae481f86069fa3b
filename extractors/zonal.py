"""Zonal statistics: parcels and a raster in, a table out. Pure numerics, no I/O.

A parcel's pixels are those whose centre lies inside it; pixels equal to nodata and NaN are left out. The numbers
are by definition those of `rasterstats.zonal_stats`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import rasterstats
import shapely
from affine import Affine
from numpy.typing import NDArray

STATISTICS = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")
RASTERSTATS_NAMES = {"p25": "percentile_25", "p50": "percentile_50", "p75": "percentile_75"}

# Why a parcel has no statistics.
OUTSIDE = "outside"
NO_PIXEL = "no_pixel"
NODATA = "nodata"

# rasterstats allocates a parcel's whole bounding box: with that many pixels outside the raster, it is cut first.
LARGEST_OVERHANG_PIXELS = 4_000_000

Geometries = NDArray[np.object_]


@dataclass(frozen=True)
class Raster:
    """A two-dimensional array of pixels on a north-up grid.

    array: rows x columns, any integer or floating type. transform: pixel to CRS coordinates. nodata: the value that
    means "no observation".
    """

    array: NDArray[Any]
    transform: Affine
    nodata: float = 0

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in CRS units."""
        rows, columns = self.array.shape
        west, north = self.transform * (0, 0)
        east, south = self.transform * (columns, rows)
        return west, south, east, north


Engine = Callable[[Geometries, Raster], pd.DataFrame]


def outside(geometries: Geometries) -> pd.DataFrame:
    """The table of an engine for geometries that all lie outside the raster."""
    columns: dict[str, Any] = {"count": 0.0} | dict.fromkeys(STATISTICS[1:], np.nan) | {"reason": OUTSIDE}
    return pd.DataFrame(columns, index=range(len(geometries))).astype({"reason": object})


def rasterstats_engine(geometries: Geometries, raster: Raster) -> pd.DataFrame:
    """Statistics of each geometry by `rasterstats`, one row per geometry in the order given.

    geometries: shapely polygons or multipolygons in the raster's CRS, neither None nor empty, bounds finite.
    Returns the columns of STATISTICS (float64; count 0 and NaN elsewhere for a parcel without valid pixel) and
    `reason` (None, or why there is none: `outside`, `no_pixel`, `nodata`).
    """
    table = outside(geometries)
    inside = _overlaps(geometries, raster)
    table.loc[inside, "reason"] = None
    # An empty window (a parcel without extent on a pixel edge) is an error in rasterstats; there is no pixel in it.
    window = _window_shapes(geometries, raster)
    has_window = inside & (window > 0).all(axis=1)
    table.loc[inside & ~has_window, "reason"] = NO_PIXEL
    candidates = np.flatnonzero(has_window)
    shapes = _without_overhang(geometries[candidates], window[candidates], raster)
    statistics = rasterstats.zonal_stats(
        list(shapes),
        raster.array,
        affine=raster.transform,
        nodata=raster.nodata,
        stats=[RASTERSTATS_NAMES.get(name, name) for name in STATISTICS],
    )
    for name in STATISTICS:
        column = [row[RASTERSTATS_NAMES.get(name, name)] for row in statistics]
        table.loc[candidates, name] = np.array(column, dtype=np.float64)
    without = candidates[table.loc[candidates, "count"].to_numpy() == 0]
    if len(without):
        # The same parcels on a raster that is valid everywhere: do they hold a pixel centre at all?
        ones = np.broadcast_to(np.uint8(1), raster.array.shape)
        pixels = rasterstats.zonal_stats(
            list(shapes[np.isin(candidates, without)]), ones, affine=raster.transform, nodata=0, stats=["count"]
        )
        table.loc[without, "reason"] = [NODATA if row["count"] else NO_PIXEL for row in pixels]
    return table


def class_histograms(geometries: Geometries, raster: Raster) -> list[dict[str, int]]:
    """Pixels per class value in each geometry, for a classified raster (SCL); nodata left out, {} if nothing is left.

    geometries as for the engines. Keys are class values as text, as the established `hists` tables hold them.
    """
    histograms: list[dict[str, int]] = [{} for _ in geometries]
    window = _window_shapes(geometries, raster)
    candidates = np.flatnonzero(_overlaps(geometries, raster) & (window > 0).all(axis=1))
    shapes = _without_overhang(geometries[candidates], window[candidates], raster)
    counted = rasterstats.zonal_stats(
        list(shapes), raster.array, affine=raster.transform, nodata=raster.nodata, categorical=True, stats=["count"]
    )
    for index, row in zip(candidates, counted, strict=True):
        histograms[index] = {str(value): pixels for value, pixels in row.items() if value != "count"}
    return histograms


ENGINES: Mapping[str, Engine] = {"rasterstats": rasterstats_engine}


def _overlaps(geometries: Geometries, raster: Raster) -> NDArray[np.bool_]:
    west, south, east, north = raster.bounds
    bounds = shapely.bounds(geometries)
    overlaps: NDArray[np.bool_] = (
        (bounds[:, 0] < east) & (bounds[:, 2] > west) & (bounds[:, 1] < north) & (bounds[:, 3] > south)
    )
    return overlaps


def _window_shapes(geometries: Geometries, raster: Raster) -> NDArray[np.float64]:
    """Rows and columns of each geometry's bounding box, on the raster's grid and rounded outwards."""
    bounds, transform = shapely.bounds(geometries), raster.transform
    first = np.floor((bounds[:, [3, 0]] - [transform.f, transform.c]) / [transform.e, transform.a])
    last = np.ceil((bounds[:, [1, 2]] - [transform.f, transform.c]) / [transform.e, transform.a])
    shape: NDArray[np.float64] = last - first
    return shape


def _without_overhang(geometries: Geometries, window: NDArray[np.float64], raster: Raster) -> Geometries:
    """The geometries, those that reach far beyond the raster cut to it and a pixel more, so that no centre is lost."""
    huge = window.prod(axis=1) > raster.array.size + LARGEST_OVERHANG_PIXELS
    if not huge.any():
        return geometries
    west, south, east, north = raster.bounds
    dx, dy = raster.transform.a, -raster.transform.e
    cut = shapely.clip_by_rect(shapely.make_valid(geometries[huge]), west - dx, south - dy, east + dx, north + dy)
    # Nothing left of it: stand in with the pixel beside the upper left one, which is outside as well.
    cut[shapely.is_empty(cut)] = shapely.box(west - dx, north, west, north + dy)
    shapes = geometries.copy()
    shapes[huge] = cut
    return shapes
