"""The engine `rasterstats`: the numbers of the established system, by the library that it used.

It is the definition of what the statistics are, and the judge of the other engine.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import rasterio.features
import rasterstats
import shapely

from extractors.statistics.zonal import STATISTICS, Array, Boxes, Floats, Geometries, Grid, Integers, Polygons

NAMES = tuple({"p25": "percentile_25", "p50": "percentile_50", "p75": "percentile_75"}.get(n, n) for n in STATISTICS)

# rasterstats allocates a parcel's whole bounding box: with that many pixels outside the raster, it gets none.
LARGEST_OVERHANG_PIXELS = 4_000_000


class RasterstatsZones:
    """Parcels on a grid. geometries: polygons and multipolygons in the grid's CRS, valid or not, none empty."""

    def __init__(self, geometries: Geometries | Polygons, grid: Grid) -> None:
        polygons = Polygons.of(geometries)
        self._grid = grid
        self._geometries = polygons.geometries
        boxes = Boxes.of(polygons, grid)
        rows, columns = grid.shape
        # Only parcels near the grid are asked for: an empty box (a parcel without extent on a pixel's edge) is an
        # error in rasterstats, and one far away could be any size.
        near = (
            (boxes.bottom > boxes.top)
            & (boxes.right > boxes.left)
            & (boxes.top < rows)
            & (boxes.bottom > 0)
            & (boxes.left < columns)
            & (boxes.right > 0)
        )
        overhanging = (boxes.bottom - boxes.top) * (boxes.right - boxes.left) > rows * columns + LARGEST_OVERHANG_PIXELS
        self._near = np.flatnonzero(near & ~overhanging)
        self._overhanging = np.flatnonzero(near & overhanging)

    @cached_property
    def pixels(self) -> Integers:
        """How many pixel centres lie in each parcel: its count on a raster that is valid everywhere."""
        pixels = np.zeros(len(self._geometries), dtype=np.int64)
        for index, row in self._rows(np.broadcast_to(np.uint8(1), self._grid.shape), 0, stats=["count"]):
            pixels[index] = row["count"]
        return pixels

    def statistics(self, array: Array, nodata: float) -> Floats:
        """Parcels x STATISTICS; count 0 and NaN elsewhere for a parcel without a valid pixel."""
        table = np.full((len(self._geometries), len(STATISTICS)), np.nan)
        table[:, 0] = 0
        for index, row in self._rows(array, nodata, stats=list(NAMES)):
            table[index] = [row[name] for name in NAMES]
        return table

    def histograms(self, array: Array, nodata: float) -> list[dict[str, int]]:
        """Pixels per value for each parcel, as the established `hists` tables hold them."""
        histograms: list[dict[str, int]] = [{} for _ in self._geometries]
        for index, row in self._rows(array, nodata, categorical=True, stats=["count"]):
            histograms[index] = {str(value): pixels for value, pixels in row.items() if value != "count"}
        return histograms

    def _rows(self, array: Array, nodata: float, **options: Any) -> Iterator[tuple[int, dict[Any, Any]]]:
        """What rasterstats has for each parcel, with the parcel's position."""
        common = {"affine": self._grid.transform, "nodata": nodata, **options}
        shapes = list(self._geometries[self._near])
        yield from zip(self._near.tolist(), rasterstats.zonal_stats(shapes, array, **common), strict=True)
        for index in self._overhanging.tolist():
            # Its pixels by the same rasterisation, but on the grid alone; then everything but them is nodata.
            inside = rasterio.features.rasterize(
                [(self._geometries[index], 1)], self._grid.shape, transform=self._grid.transform, dtype="uint8"
            )
            masked = np.where(inside, array, np.array(nodata).astype(array.dtype))
            (row,) = rasterstats.zonal_stats([shapely.box(*self._grid.bounds)], masked, **common)
            yield index, row
