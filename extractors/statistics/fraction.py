"""The rule `fraction`: every pixel counts with the share of it that a parcel covers, by the library exactextract.

Weighted by these shares, its own definitions are the definition here: nothing else judges them.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import exactextract
import numpy as np
import shapely
from exactextract.feature import Feature, FeatureSource
from exactextract.raster import RasterSource

from extractors.signatures import COUNT, INVALID, PIXELS, STATISTICS, Statistic
from extractors.statistics.grid import Array, Floats, Geometries, Grid, PolygonsOnGrid
from extractors.statistics.pixels import Marked, Pixels, Stored, as_pixels

# More pixels than a parcel's box has: working piece by piece, it ends the process over rectangles (exactextract 0.3).
MOST_CELLS = 10_000_000
# What overlaps a grid by less, in parts of a pixel, does not.
LEAST_OVERLAP = 1e-6


class FractionZones:
    """Parcels on a grid."""

    def __init__(self, polygons: PolygonsOnGrid, wanted: Sequence[Statistic] = STATISTICS) -> None:
        self._grid = polygons.grid
        self._zones = len(polygons)
        self._names = [statistic.weighted for statistic in wanted]
        geometries = _overlapping(_valid(polygons.polygons.geometries), polygons)
        self._there = np.flatnonzero(~shapely.is_empty(geometries))
        self._shapes = _Shapes(geometries[self._there])

    @cached_property
    def pixels(self) -> Floats:
        """The sum of the shares of pixels of the grid that are each parcel's."""
        pixels = np.zeros(self._zones)
        everywhere = np.broadcast_to(np.uint8(1), self._grid.shape)
        pixels[self._there] = self._computed(Stored(everywhere, 0), ["count"])[:, 0]
        return pixels

    def statistics(self, values: Pixels | Array, nodata: float = 0) -> Floats:
        """Parcels x statistics; count 0 and NaN elsewhere for a parcel without a valid pixel."""
        table = np.full((self._zones, len(self._names)), np.nan)
        own = {PIXELS, INVALID}.intersection(self._names)
        asked = [column for column, name in enumerate(self._names) if name not in own]
        computed = self._computed(as_pixels(values, nodata), [self._names[column] for column in asked])
        table[self._there[:, None], asked] = computed
        counted = table[:, COUNT] > 0
        table[~counted] = np.nan
        table[~counted, COUNT] = 0
        for column, name in enumerate(self._names):
            if name in own:
                missing = np.maximum(self.pixels - table[:, COUNT], 0)
                table[counted, column] = (self.pixels if name == PIXELS else missing)[counted]
        return table

    def histograms(self, values: Pixels | Array, nodata: float = 0) -> list[dict[str, int]]:
        """None: shares of pixels are no numbers of pixels. (Refused before the first claim.)"""
        raise NotImplementedError

    def both(self, values: Pixels, marks: Pixels) -> tuple[Floats, Floats]:
        """Statistics of all pixels, and of those with a mark."""
        return self.statistics(values), self.statistics(Marked(values, marks))

    def _computed(self, pixels: Pixels, names: list[str]) -> Floats:
        if not self._there.size:
            return np.empty((0, len(names)))
        source = _Source(pixels, self._grid)
        found = exactextract.exact_extract(source, self._shapes, names, output="pandas", max_cells_in_memory=MOST_CELLS)
        numbers: Floats = found.to_numpy(dtype=np.float64)
        return numbers


class _Source(RasterSource):  # type: ignore[misc]
    """Pixels as the library reads them, in windows."""

    def __init__(self, pixels: Pixels, grid: Grid) -> None:
        super().__init__()
        self._pixels = pixels
        self._grid = grid

    def res(self) -> tuple[float, float]:
        """Width and height of a pixel."""
        return self._grid.transform.a, -self._grid.transform.e

    def extent(self) -> tuple[float, float, float, float]:
        """West, south, east, north."""
        return self._grid.bounds

    def nodata_value(self) -> float | int:
        """What stands where there is no value, in their type."""
        value: float | int = self._pixels.dtype.type(self._pixels.nodata).item()
        return value

    def srs_wkt(self) -> None:
        """The polygons' own."""
        return

    def read_window(self, left: int, top: int, columns: int, rows: int) -> Array:
        """The values in a window."""
        return self._pixels.within(slice(top, top + rows), slice(left, left + columns))


class _Shape(Feature):  # type: ignore[misc]
    """A polygon as the library takes it: without its rounding to text."""

    def __init__(self, wkb: bytes) -> None:
        super().__init__()
        self._wkb = wkb

    def geometry(self) -> bytes:
        """Well-known binary."""
        return self._wkb

    def fields(self) -> list[str]:
        """It has no attributes."""
        return []


class _Shapes(FeatureSource):  # type: ignore[misc]
    """Some polygons."""

    def __init__(self, geometries: Geometries) -> None:
        super().__init__()
        self._wkb = shapely.to_wkb(geometries)

    def count(self) -> int:
        """How many there are."""
        return len(self._wkb)

    def __iter__(self) -> Iterator[_Shape]:
        return map(_Shape, self._wkb)

    def srs_wkt(self) -> None:
        """They are on the grid already."""
        return


def _valid(geometries: Geometries) -> Geometries:
    """The same, those that cross themselves made valid: others than valid ones end the process (exactextract 0.3)."""
    invalid = np.flatnonzero(~shapely.is_valid(geometries))
    if not invalid.size:
        return geometries
    valid = geometries.copy()
    valid[invalid] = shapely.make_valid(geometries[invalid], method="structure", keep_collapsed=False)
    return valid


def _overlapping(geometries: Geometries, polygons: PolygonsOnGrid) -> Geometries:
    """Valid polygons without the parts and holes that do not overlap the grid, or only touch it: those change nothing
    there, and rectangles among them end the process (exactextract 0.3)."""
    parts, owner = shapely.get_parts(geometries, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    bounds = shapely.bounds(rings)
    box, least = np.array(polygons.grid.bounds), LEAST_OVERLAP * polygons.grid.transform.a
    overlap = np.minimum(bounds[:, 2:], box[2:]) - np.maximum(bounds[:, :2], box[:2])
    overlaps = (overlap > least).all(axis=1)
    affected = np.unique(owner[part[~overlaps]])
    if not affected.size:
        return geometries
    is_shell = np.append(True, part[1:] != part[:-1])
    result = geometries.copy()
    for position in affected:
        kept = []
        for number in np.flatnonzero(owner == position):
            here = np.flatnonzero(part == number)
            if overlaps[here[is_shell[here]]].all():
                holes = here[overlaps[here] & ~is_shell[here]]
                kept.append(shapely.Polygon(rings[here[0]], list(rings[holes])))
        result[position] = shapely.MultiPolygon(kept)
    return result
