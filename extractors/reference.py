"""The engine `rasterstats`: the numbers of the established system, by the library that it used.

It is the definition of what the statistics are, and the judge of the other engine.
"""

from functools import cached_property

import numpy as np
import rasterstats
import shapely

from extractors.zonal import STATISTICS, Array, Boxes, Floats, Geometries, Grid, Integers

NAMES = tuple({"p25": "percentile_25", "p50": "percentile_50", "p75": "percentile_75"}.get(n, n) for n in STATISTICS)

# rasterstats allocates a parcel's whole bounding box: with that many pixels outside the raster, it is cut first.
LARGEST_OVERHANG_PIXELS = 4_000_000


class RasterstatsZones:
    """Parcels on a grid. geometries: polygons and multipolygons in the grid's CRS, valid or not, none empty."""

    def __init__(self, geometries: Geometries, grid: Grid) -> None:
        self._grid = grid
        self._total = len(geometries)
        boxes = Boxes.of(geometries, grid)
        rows, columns = grid.shape
        # Only parcels near the grid are asked for: an empty box (a parcel without extent on a pixel's edge) is an
        # error in rasterstats, and one far away could be any size.
        self._near = np.flatnonzero(
            (boxes.bottom > boxes.top)
            & (boxes.right > boxes.left)
            & (boxes.top < rows)
            & (boxes.bottom > 0)
            & (boxes.left < columns)
            & (boxes.right > 0)
        )
        size = (boxes.bottom - boxes.top) * (boxes.right - boxes.left)
        huge = size[self._near] > rows * columns + LARGEST_OVERHANG_PIXELS
        self._shapes = _cut(geometries[self._near], huge, grid)

    @cached_property
    def pixels(self) -> Integers:
        """How many pixel centres lie in each parcel: its count on a raster that is valid everywhere."""
        pixels = np.zeros(self._total, dtype=np.int64)
        ones = np.broadcast_to(np.uint8(1), self._grid.shape)
        counted = rasterstats.zonal_stats(
            list(self._shapes), ones, affine=self._grid.transform, nodata=0, stats=["count"]
        )
        pixels[self._near] = [row["count"] for row in counted]
        return pixels

    def statistics(self, array: Array, nodata: float) -> Floats:
        """Parcels x STATISTICS; count 0 and NaN elsewhere for a parcel without a valid pixel."""
        table = np.full((self._total, len(STATISTICS)), np.nan)
        table[:, 0] = 0
        rows = rasterstats.zonal_stats(
            list(self._shapes), array, affine=self._grid.transform, nodata=nodata, stats=list(NAMES)
        )
        for index, row in zip(self._near, rows, strict=True):
            table[index] = [row[name] for name in NAMES]
        return table

    def histograms(self, array: Array, nodata: float) -> list[dict[str, int]]:
        """Pixels per value for each parcel, as the established `hists` tables hold them."""
        histograms: list[dict[str, int]] = [{} for _ in range(self._total)]
        rows = rasterstats.zonal_stats(
            list(self._shapes),
            array,
            affine=self._grid.transform,
            nodata=nodata,
            categorical=True,
            stats=["count"],
        )
        for index, row in zip(self._near, rows, strict=True):
            histograms[index] = {str(value): pixels for value, pixels in row.items() if value != "count"}
        return histograms


def _cut(geometries: Geometries, huge: Array, grid: Grid) -> Geometries:
    """The geometries, huge ones cut to the grid and a pixel more, so that no centre is lost."""
    if not huge.any():
        return geometries
    west, south, east, north = grid.bounds
    dx, dy = grid.transform.a, -grid.transform.e
    cut = shapely.clip_by_rect(shapely.make_valid(geometries[huge]), west - dx, south - dy, east + dx, north + dy)
    # Nothing left of it: stand in with the pixel beside the upper left one, which is outside as well.
    cut[shapely.is_empty(cut)] = shapely.box(west - dx, north, west, north + dy)
    shapes = geometries.copy()
    shapes[huge] = cut
    return shapes
