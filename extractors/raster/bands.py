"""The bands of a scene in local files: opened with the one driver they must have, grouped by grid, read where parcels
are."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors

from extractors.errors import SceneError
from extractors.raster.images import DecodedBand, ImageFile, TileOfBand, tile_window, tiles_under
from extractors.raster.integrity import JPEG2000, check_whole
from extractors.statistics.zonal import Array, Boxes, Geometries, Grid, Polygons

# A chunk whose parcels lie far apart is read in parts: no window has more pixels than this, unless one parcel needs it.
LARGEST_WINDOW_PIXELS = 4_000_000

# A band that has to be decoded into memory; a Sentinel-2 tile has 0.24 GB. What claims more is broken, or worse.
LARGEST_DECODED_BYTES = 4_000_000_000

PIXEL_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"}
# GDAL's default, 5 % of the host's memory, is not what one of several workers should take. Decoded tiles are kept by
# ourselves, and uncompressed files are in the system's cache.
BLOCK_CACHE_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class BandFile:
    """Where a band is: file, and its number in there (from 1). With `described`, a band of the file whose description
    holds the band's name comes before that number."""

    name: str
    path: Path
    index: int = 1
    described: bool = False


@dataclass(frozen=True)
class Band:
    """An open band: its name, EPSG code of its CRS, grid, and where its pixels are. decoded: for formats in which
    reading means decoding."""

    name: str
    epsg: int
    grid: Grid
    nodata: float
    index: int
    file: ImageFile
    decoded: DecodedBand | None


@dataclass(frozen=True)
class GridBands:
    """The bands of a scene that share a grid: a parcel has the same pixels in all of them."""

    grid: Grid
    bands: tuple[Band, ...]

    def parts(self, geometries: Geometries | Polygons) -> Iterator[tuple[slice, Grid | None, list[Array]]]:
        """What statistics of the geometries need: (which of them, grid, one array on it per band).

        Grid None: these geometries lie outside. Raises SceneError if a file cannot be read.
        """
        polygons = Polygons.of(geometries)
        if decoded := self._decoded:
            boxes = Boxes.of(polygons, self.grid)
            for image in decoded:
                image.decode(tiles_under(boxes, image.tile_shape, self.grid.shape))
            yield slice(0, len(polygons)), self.grid, [image.array for image in decoded]
            return
        parts = [slice(0, len(polygons))]
        while parts:
            part = parts.pop(0)
            window = self._window(polygons[part])
            if window is None:
                yield part, None, []
                continue
            rows, columns = window
            size, count = (rows.stop - rows.start) * (columns.stop - columns.start), part.stop - part.start
            if size > LARGEST_WINDOW_PIXELS and count > 1:
                middle = part.start + count // 2
                parts[:0] = [slice(part.start, middle), slice(middle, part.stop)]
                continue
            arrays = [band.file.read(band.index, rows, columns) for band in self.bands]
            yield part, self.grid.cut(rows, columns), arrays

    def tiles_under(self, geometries: Geometries | Polygons) -> list[TileOfBand]:
        """The tiles that have to be decoded for the geometries' pixels; none of a format that is read by windows."""
        boxes = Boxes.of(geometries, self.grid)
        return [
            TileOfBand(image, tile)
            for image in self._decoded
            for tile in tiles_under(boxes, image.tile_shape, self.grid.shape)
        ]

    def all_tiles(self) -> Iterator[tuple[list[TileOfBand], tuple[float, float, float, float]]]:
        """The tiles that can be decoded, those of all bands at one place together, with their bounds (west, south,
        east, north)."""
        shapes = {image.tile_shape for image in self._decoded}
        for shape in shapes:
            images = [image for image in self._decoded if image.tile_shape == shape]
            for tile in np.ndindex(*(-(-size // step) for size, step in zip(self.grid.shape, shape, strict=True))):
                bounds = self.grid.cut(*tile_window(tile, shape, self.grid.shape)).bounds
                yield [TileOfBand(image, tile) for image in images], bounds

    @property
    def _decoded(self) -> list[DecodedBand]:
        return [band.decoded for band in self.bands if band.decoded is not None]

    def _window(self, polygons: Polygons) -> tuple[slice, slice] | None:
        """Rows and columns around the geometries, cut to the grid; None if they do not meet."""
        boxes = Boxes.of(polygons, self.grid)
        rows = slice(max(0, int(boxes.top.min())), min(self.grid.shape[0], int(boxes.bottom.max())))
        columns = slice(max(0, int(boxes.left.min())), min(self.grid.shape[1], int(boxes.right.max())))
        return (rows, columns) if rows.stop > rows.start and columns.stop > columns.start else None


class SceneBands:
    """The bands of a scene, all in one CRS but possibly on different grids; opened as their files arrive.

    Methods raise SceneError for a file that is cut short, is of another format, has no usable CRS or grid.
    """

    def __init__(self, files: Sequence[BandFile], driver: str, nodata: float) -> None:
        self._files = files
        self._driver = driver
        self._nodata = nodata
        self._images = {path: ImageFile(path, driver) for path in dict.fromkeys(file.path for file in files)}
        self._bands: dict[str, Band] = {}

    def arrived(self, path: Path) -> list[GridBands]:
        """The bands of a file that is there, if reading them means decoding and so may begin; else it can wait."""
        return _by_grid(self._open(path)) if self._driver == JPEG2000 and path in self._images else []

    def grids(self) -> list[GridBands]:
        """All bands, in the order of the files; these must be there now."""
        for path in self._images:
            self._open(path)
        bands = [self._bands[file.name] for file in self._files]
        if len({band.epsg for band in bands}) > 1:
            listing = ", ".join(f"{band.name} in EPSG:{band.epsg}" for band in bands)
            raise SceneError(f"the bands are in different CRS ({listing}); they must share one")
        return _by_grid(bands)

    def close(self) -> None:
        """Close all files; nobody may use the bands any more."""
        for image in self._images.values():
            image.close()

    def _open(self, path: Path) -> list[Band]:
        files = [file for file in self._files if file.path == path]
        if any(file.name not in self._bands for file in files):
            check_whole(path, self._driver)
            for file in files:
                self._bands[file.name] = _band(file, self._images[path], self._files, self._driver, self._nodata)
        return [self._bands[file.name] for file in files]


def _by_grid(bands: Sequence[Band]) -> list[GridBands]:
    grids = dict.fromkeys(band.grid for band in bands)
    return [GridBands(grid, tuple(band for band in bands if band.grid == grid)) for grid in grids]


@contextmanager
def scene_bands(files: Sequence[BandFile], driver: str, nodata: float) -> Iterator[SceneBands]:
    """The bands of a scene, to be opened within the block, after which they are closed."""
    with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_BYTES), closing(SceneBands(files, driver, nodata)) as bands:
        yield bands


def _band(file: BandFile, image: ImageFile, files: Iterable[BandFile], driver: str, nodata: float) -> Band:
    name = file.path.name
    # A file without georeference is refused below, with a better message.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with image.borrow() as dataset:
            crs, transform, shape, types = dataset.crs, dataset.transform, dataset.shape, dataset.dtypes
            blocks, index = dataset.block_shapes, _index(file, dataset, files)
    if crs is None or crs.to_epsg() is None:
        raise SceneError(f"{name} has no CRS with an EPSG code ({crs or 'none at all'}); replace the object")
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise SceneError(f"{name} is not on a north-up grid (transform {tuple(transform)[:6]}); replace the object")
    if not 1 <= index <= len(types):
        raise SceneError(f"{name} has {len(types)} band(s): no band {index} for {file.name}; replace the object")
    dtype = types[index - 1]
    if dtype not in PIXEL_TYPES:
        raise SceneError(f"{name} holds {dtype} pixels, which have no such statistics")
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    if driver == JPEG2000 and size > LARGEST_DECODED_BYTES:
        raise SceneError(f"{name} claims {shape[1]:,} x {shape[0]:,} pixels, {size / 1e9:,.0f} GB; replace the object")
    decoded = DecodedBand(image, index, shape, blocks[index - 1], dtype) if driver == JPEG2000 else None
    return Band(file.name, crs.to_epsg(), Grid(transform, shape), nodata, index, image, decoded)


def _index(file: BandFile, dataset: Any, files: Iterable[BandFile]) -> int:
    """The band's number in its file: by description if the descriptions name every band exactly once, else as given."""
    if not file.described:
        return file.index
    names = [other.name for other in files if other.path == file.path]
    matches = {
        name: [number for number, text in enumerate(dataset.descriptions, 1) if text and name in text.upper()]
        for name in names
    }
    numbers = {found[0] for found in matches.values() if len(found) == 1}
    if len(numbers) == len(names):
        return matches[file.name][0]
    return file.index
