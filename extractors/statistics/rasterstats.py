"""The engine `rasterstats`: the numbers of the established system, by the library that it used.

It is the definition of the statistics; the other engine is checked against it.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import rasterio.features
import rasterstats
import shapely

from extractors.signatures import COUNT, INVALID, PIXELS, STATISTICS, Statistic, check_classes
from extractors.statistics.grid import Array, Floats, Integers, PolygonsOnGrid
from extractors.statistics.pixels import Pixels, Stored, as_pixels

# rasterstats allocates a parcel's whole bounding box. It is not given one with so many pixels more than the raster.
LARGEST_OVERHANG_PIXELS = 4_000_000


class RasterstatsZones:
    """Parcels on a grid."""

    def __init__(self, polygons: PolygonsOnGrid, wanted: Sequence[Statistic] = STATISTICS) -> None:
        self._polygons, self._wanted = polygons, wanted
        self._names = [statistic.reference for statistic in wanted]
        self._grid = polygons.grid
        self._geometries = polygons.polygons.geometries
        # Only parcels near the grid are asked for: an empty box (a parcel without extent on a pixel's edge) is an
        # error in rasterstats, and one far away could be any size.
        self._boxes = polygons.boxes_within
        near = self._boxes.areas > 0
        rows, columns = self._grid.shape
        overhanging = polygons.boxes.areas > rows * columns + LARGEST_OVERHANG_PIXELS
        self._near = np.flatnonzero(near & ~overhanging)
        self._overhanging = np.flatnonzero(near & overhanging)

    @cached_property
    def pixels(self) -> Integers:
        """How many pixel centres lie in each parcel: its count on a raster that is valid everywhere."""
        pixels = np.zeros(len(self._geometries), dtype=np.int64)
        everywhere = Stored(np.broadcast_to(np.uint8(1), self._grid.shape), 0)
        for index, row in self._rows(everywhere, stats=["count"]):
            pixels[index] = row["count"]
        return pixels

    def statistics(self, values: Pixels | Array, nodata: float = 0) -> Floats:
        """Parcels x statistics; count 0 and NaN elsewhere for a parcel without a valid pixel."""
        table = np.full((len(self._geometries), len(self._names)), np.nan)
        table[:, COUNT] = 0
        # Its own statistic `nodata` counts pixels beyond the raster as well, and no NaN.
        own = {PIXELS, INVALID}.intersection(self._names)
        names = [name for name in self._names if name not in own]
        for index, row in self._rows(as_pixels(values, nodata), stats=names):
            if own and row["count"]:
                row |= {PIXELS: self.pixels[index], INVALID: self.pixels[index] - row["count"]}
            table[index] = [row.get(name) for name in self._names]
        return table

    def histograms(self, values: Pixels | Array, nodata: float = 0) -> list[dict[str, int]]:
        """Pixels per value for each parcel, as the established `hists` tables hold them."""
        histograms: list[dict[str, int]] = [{} for _ in self._geometries]
        for index, row in self._rows(as_pixels(values, nodata), categorical=True, stats=["count"]):
            check_classes(len(row) - 1)
            histograms[index] = {str(value): pixels for value, pixels in row.items() if value != "count"}
        return histograms

    def marked(self, marks: Pixels) -> Integers:
        """How many marks are in each parcel."""
        found = np.zeros(len(self._geometries), dtype=np.int64)
        for index, row in self._rows(marks, stats=["count"]):
            found[index] = row["count"]
        return found

    def some(self, chosen: Integers) -> "RasterstatsZones":
        """Some of the parcels."""
        return RasterstatsZones(self._polygons[chosen], self._wanted)

    def _rows(self, pixels: Pixels, **options: Any) -> Iterator[tuple[int, dict[Any, Any]]]:
        """The position of each parcel near the grid, and what rasterstats has for it."""
        nodata, transform = pixels.nodata, self._grid.transform
        options["nodata"] = nodata
        if isinstance(pixels, Stored):
            shapes = list(self._geometries[self._near])
            rows = rasterstats.zonal_stats(shapes, pixels.array, affine=transform, **options)
            yield from zip(self._near.tolist(), rows, strict=True)
        else:
            # Values are made where a parcel is.
            for index in self._near.tolist():
                box = self._boxes.slices(index)
                here = self._grid.cut(*box).transform
                (row,) = rasterstats.zonal_stats(self._geometries[index], pixels.within(*box), affine=here, **options)
                yield index, row
        for index in self._overhanging.tolist():
            # Its pixels by the same rasterisation, but on the grid alone; all others are set to nodata. So are those
            # outside its box, to which rasterstats does not look: the box is the shells', and holes may lie beside it.
            inside = rasterio.features.rasterize(
                [(self._geometries[index], 1)], self._grid.shape, transform=transform, dtype="uint8"
            )
            masked = np.full(self._grid.shape, nodata, dtype=pixels.dtype)
            box = self._boxes.slices(index)
            masked[box] = np.where(inside[box], pixels.within(*box), masked[box])
            (row,) = rasterstats.zonal_stats([shapely.box(*self._grid.bounds)], masked, affine=transform, **options)
            yield index, row
