"""The bands of a scene that share a grid, and their pixels under parcels: in parts, as memory allows."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from extractors.raster.bands import Band
from extractors.raster.images import BandTile, DecodedBand, cells, tile_window, tiles_under
from extractors.raster.memory import Budget
from extractors.statistics.grid import Array, Boxes, Chosen, Floats, Grid, Integers, Polygons, PolygonsOnGrid
from extractors.statistics.pixels import LARGEST_VALUE, Elsewhere, Pixels, Places, Stored
from extractors.statistics.scanline import values_under
from extractors.statistics.spans import Spans, rasterize

# A chunk whose parcels lie far apart is read in parts: no window has more pixels than this, unless one parcel needs it.
LARGEST_WINDOW_PIXELS = 4_000_000
# Pixels of the bounding boxes of all parcels that are computed together: outlines that go to and fro within pixels
# have as many runs of them. And the side of what is read at a time under a parcel with a larger window.
MOST_PIXELS = 10_000_000
CELL = 1024
# Estimates of what the memory goes into: a run of pixels, and a vertex with its edge.
BYTES_PER_SPAN, BYTES_PER_VERTEX = 24, 300


@dataclass(frozen=True)
class Part:
    """The pixels under some parcels of a chunk. chosen: which parcels. polygons: these, on the grid of the pixels that
    were read; None if no pixel is near them. arrays: the pixels of each band; those that are infinite are nodata in
    there, and infinite says which they are, by the band's position. others: the pixels of bands on other grids."""

    chosen: Chosen
    polygons: PolygonsOnGrid | None
    arrays: list[Array]
    infinite: dict[int, Array] = field(default_factory=dict)
    others: list[Pixels] = field(default_factory=list)


@dataclass(frozen=True)
class OtherBand:
    """A band on another grid, whose pixels are needed on this one; places: where each has its own."""

    band: Band
    places: Places

    def window(self, rows: slice, columns: slice) -> Elsewhere:
        """Its pixels for a window here. Infinite ones are nodata."""
        there_rows, there_columns, places = self.places.cut(rows, columns)
        array = self.band.stored.read(there_rows, there_columns)
        if array.dtype.kind == "f":
            array[np.abs(array) > LARGEST_VALUE] = self.band.nodata
        return Elsewhere(array, self.band.nodata, places)

    def tiles(self, boxes: Boxes) -> list[BandTile]:
        """Its tiles that hold the pixels of boxes here, which were cut to the grid."""
        decoded = self.band.decoded
        if decoded is None:
            return []
        boxes = boxes[boxes.areas > 0]
        top, bottom = _between(self.places.rows, boxes.top, boxes.bottom)
        left, right = _between(self.places.columns, boxes.left, boxes.right)
        return [BandTile(decoded, tile) for tile in tiles_under(Boxes(top, bottom, left, right), decoded.tile_shape)]


def _between(places: Integers, first: Floats, end: Floats) -> tuple[Floats, Floats]:
    """The first place and the one after the last, of those from `first` to before `end`; the same one, if there is
    none."""
    there = np.flatnonzero(places >= 0)
    if not there.size:
        return np.zeros(len(first)), np.zeros(len(first))
    first, end = np.clip(first, there[0], there[-1] + 1), np.clip(end, there[0], there[-1] + 1)
    begin = places[np.minimum(first, there[-1]).astype(int)].astype(float)
    return begin, np.where(end > first, places[end.astype(int) - 1] + 1.0, begin)


@dataclass(frozen=True)
class GridBands:
    """The bands of a scene that share a grid: a parcel has the same pixels in all of them. others: bands on other grids
    that go with them. made_bytes: of a value that is made of their pixels, 0 for none."""

    grid: Grid
    bands: tuple[Band, ...]
    budget: Budget = field(default_factory=Budget, compare=False)
    others: tuple[OtherBand, ...] = ()
    made_bytes: int = 0

    def parts(self, polygons: PolygonsOnGrid) -> Iterator[Part]:
        """The pixels of all bands under polygons on this grid, each part within the memory that is left. Of decoded
        bands, the tiles must be there already.

        Raises SceneError if a file cannot be read.
        """
        if not len(polygons):
            return
        areas = polygons.boxes_within.areas
        large = (areas > LARGEST_WINDOW_PIXELS) & polygons.divisible
        if large.any():
            needs = self._needs(polygons.to_read(LARGEST_WINDOW_PIXELS), polygons.polygons.vertices)
            compact = np.flatnonzero(~large)
            for part in self.parts(polygons[compact]):
                yield replace(part, chosen=compact[part.chosen])
            for index in np.flatnonzero(large):
                one = np.array([index])
                with self.budget.using(int(needs[index])):
                    yield self._gathered(polygons, one)
            return
        decoded = self._decoded
        before, vertices = np.append(0, np.cumsum(areas)), np.append(0, np.cumsum(polygons.polygons.vertices))
        remaining = [slice(0, len(polygons))]
        while remaining:
            chosen = remaining.pop(0)
            window = _window(polygons, chosen)
            if window is None and not decoded:
                yield Part(chosen, None, [])
                continue
            rows, columns = window or (slice(0, 0), slice(0, 0))
            size = 0 if decoded else (rows.stop - rows.start) * (columns.stop - columns.start)
            count, pixels = chosen.stop - chosen.start, int(before[chosen.stop] - before[chosen.start])
            if count > 1 and (size > LARGEST_WINDOW_PIXELS or pixels > MOST_PIXELS):
                middle = chosen.start + count // 2
                remaining[:0] = [slice(chosen.start, middle), slice(middle, chosen.stop)]
                continue
            memory = size * self._bytes_per_pixel + pixels * BYTES_PER_SPAN
            memory += int(vertices[chosen.stop] - vertices[chosen.start]) * BYTES_PER_VERTEX
            with self.budget.using(memory):
                if decoded:
                    arrays = [band.array for band in decoded]
                    yield Part(chosen, polygons[chosen], arrays, others=self._decoded_others)
                    continue
                arrays = [band.stored.read(rows, columns) for band in self.bands]
                here = polygons[chosen].polygons.on(self.grid.cut(rows, columns), polygons.rule)
                others: list[Pixels] = [other.window(rows, columns) for other in self.others]
                yield Part(chosen, here, arrays, self._without_infinite(arrays), others)

    def fit(self, pixels: Floats, vertices: Integers) -> NDArray[np.bool_]:
        """Which polygons, of so many pixels and vertices, can be computed with the memory that there is."""
        return np.asarray(self._needs(pixels, vertices) <= self.budget.work)

    def _needs(self, pixels: Floats, vertices: Integers) -> Floats:
        """Bytes that computing one polygon takes: all its pixels in each band, and several times in one of them."""
        widest = max(self.made_bytes, *(band.pixel_bytes for band in self.bands))
        needs: Floats = pixels * (self._bytes_per_pixel + 2 * widest + 1)
        needs += np.minimum(pixels, LARGEST_WINDOW_PIXELS) * BYTES_PER_SPAN
        return needs + vertices * BYTES_PER_VERTEX

    @property
    def _bytes_per_pixel(self) -> int:
        """Of all bands together, and of what is made of a large parcel's."""
        return sum(band.pixel_bytes for band in (*self.bands, *(other.band for other in self.others)))

    def _scattered(self, polygons: PolygonsOnGrid) -> NDArray[np.bool_]:
        """Which polygons have parts so far apart that only what lies around each of these is read."""
        areas = polygons.boxes_within.areas
        scattered: NDArray[np.bool_] = polygons.to_read(LARGEST_WINDOW_PIXELS) < areas
        return scattered

    def _gathered(self, polygons: PolygonsOnGrid, chosen: Integers) -> Part:
        """The pixels of one polygon that is large, or whose parts lie far apart: all in one row, under a polygon that
        covers the row. Some rows of the grid at a time."""
        found: list[list[Array]] = [[] for _ in (*self.bands, *self.others)]
        for rows in _bands_of_rows(polygons.rings(chosen)[0].boxes_within):
            spans = rasterize(polygons[chosen], rows)
            if len(spans.zone):
                for pixels, array in zip(found, self._under(spans), strict=True):
                    pixels.append(array)
        number = sum(map(len, found[0]))
        if not number:
            return Part(chosen, None, [])
        row = Grid(Affine(1, 0, 0, 0, -1, 1), (1, number))
        arrays = []
        for pixels in found:
            arrays.append(np.concatenate(pixels).reshape(row.shape))
            pixels.clear()
        here = Polygons(np.array([shapely.box(*row.bounds)], dtype=object)).on(row)
        own = arrays[: len(self.bands)]
        others: list[Pixels] = [
            Stored(array, other.band.nodata) for array, other in zip(arrays[len(own) :], self.others, strict=True)
        ]
        return Part(chosen, here, own, self._without_infinite(own), others)

    def _under(self, spans: Spans) -> list[Array]:
        """The pixels of each band, and of those on other grids, under spans, in any order."""
        if decoded := self._decoded:
            sources = [*(Stored(band.array, 0) for band in decoded), *self._decoded_others]
            return [values_under(source, spans.first, spans.length) for source in sources]
        found: list[list[Array]] = [[] for _ in (*self.bands, *self.others)]
        for rows, columns, first, length in cells(spans, self.grid.shape[1], CELL):
            windows: list[Pixels] = [Stored(band.stored.read(rows, columns), band.nodata) for band in self.bands]
            windows += [other.window(rows, columns) for other in self.others]
            for arrays, window in zip(found, windows, strict=True):
                arrays.append(values_under(window, first, length))
        return [np.concatenate(arrays) for arrays in found]

    def _without_infinite(self, arrays: list[Array]) -> dict[int, Array]:
        """Make infinite pixels nodata, which any engine leaves out; which ones they were, by the array's position. What
        nobody has ever measured counts as infinite: its square would become so."""
        found = {}
        for position, (band, pixels) in enumerate(zip(self.bands, arrays, strict=True)):
            if pixels.dtype.kind == "f":
                infinite = np.abs(pixels) > LARGEST_VALUE
                if infinite.any():
                    pixels[infinite] = band.nodata
                    found[position] = infinite
        return found

    def tiles_under(self, polygons: PolygonsOnGrid) -> list[BandTile]:
        """The tiles that hold the polygons' pixels; none of a format that is read by windows."""
        by_shape = self._by_tile_shape()
        if not by_shape:
            return []
        scattered = self._scattered(polygons)
        pieces = [polygons[~scattered], polygons.rings(scattered)[0]] if scattered.any() else [polygons]
        found = [
            BandTile(band, tile)
            for shape, bands in by_shape.items()
            for tile in dict.fromkeys(tile for piece in pieces for tile in tiles_under(piece.boxes_within, shape))
            for band in bands
        ]
        found += [tile for other in self.others for piece in pieces for tile in other.tiles(piece.boxes_within)]
        return list(dict.fromkeys(found))

    def all_tiles(self) -> Iterator[tuple[list[BandTile], tuple[float, float, float, float]]]:
        """The tiles that can be decoded, those of all bands at one place together, with their bounds (west, south,
        east, north)."""
        for shape, bands in self._by_tile_shape().items():
            for tile in np.ndindex(*(-(-size // step) for size, step in zip(self.grid.shape, shape, strict=True))):
                bounds = self.grid.cut(*tile_window(tile, shape, self.grid.shape)).bounds
                yield [BandTile(band, tile) for band in bands], bounds

    def _by_tile_shape(self) -> dict[tuple[int, int], list[DecodedBand]]:
        shapes = dict.fromkeys(band.tile_shape for band in self._decoded)
        return {shape: [band for band in self._decoded if band.tile_shape == shape] for shape in shapes}

    @property
    def _decoded_others(self) -> list[Pixels]:
        return [
            Elsewhere(other.band.decoded.array, other.band.nodata, other.places)
            for other in self.others
            if other.band.decoded is not None
        ]

    @property
    def _decoded(self) -> list[DecodedBand]:
        return [band.decoded for band in self.bands if band.decoded is not None]


def _bands_of_rows(boxes: Boxes) -> Iterator[slice]:
    """Rows of a grid that hold the boxes, some at a time: together, the boxes have no more than LARGEST_WINDOW_PIXELS
    in them, or it is a single row."""
    filled = boxes.areas > 0
    if not filled.any():
        return
    top, bottom, width = boxes.top[filled], boxes.bottom[filled], (boxes.right - boxes.left)[filled]
    row = np.unique(np.concatenate([top, bottom]))
    # Pixels of the boxes in all rows before each of these.
    change = np.bincount(np.searchsorted(row, top), width, len(row))
    change -= np.bincount(np.searchsorted(row, bottom), width, len(row))
    before = np.append(0, np.cumsum(np.cumsum(change)[:-1] * np.diff(row)))
    begin, done = row[0], 0.0
    while begin < row[-1]:
        until = max(begin + 1, np.floor(np.interp(done + LARGEST_WINDOW_PIXELS, before, row)))
        yield slice(int(begin), int(until))
        begin, done = until, float(np.interp(until, row, before))


def _window(polygons: PolygonsOnGrid, chosen: slice) -> tuple[slice, slice] | None:
    """Rows and columns around some of the polygons, cut to the grid; None if they do not meet."""
    boxes = polygons.boxes_within[chosen]
    rows = slice(int(boxes.top.min()), int(boxes.bottom.max()))
    columns = slice(int(boxes.left.min()), int(boxes.right.max()))
    return (rows, columns) if rows.stop > rows.start and columns.stop > columns.start else None
