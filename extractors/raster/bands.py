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
from extractors.model import BandFile, ImageFormat
from extractors.raster.images import BandTile, DecodedBand, ImageFile, tile_window, tiles_under
from extractors.raster.integrity import JPEG2000, check_integrity
from extractors.statistics.grid import Array, Grid, PolygonsOnGrid

# A chunk whose parcels lie far apart is read in parts: no window has more pixels than this, unless one parcel needs it.
LARGEST_WINDOW_PIXELS = 4_000_000

# A band that has to be decoded into memory; a Sentinel-2 tile has 0.24 GB. What claims more is broken, or worse.
LARGEST_DECODED_BYTES = 4_000_000_000

PIXEL_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"}
# GDAL's default, 5 % of the host's memory, is too much for one of several workers. We keep decoded tiles ourselves, and
# uncompressed files are in the system's cache.
BLOCK_CACHE_BYTES = 64 * 1024**2


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
class Part:
    """The pixels under some parcels of a chunk. chosen: which parcels. polygons: these, on the grid of the pixels that
    were read; None if no pixel is near them. arrays: the pixels of each band."""

    chosen: slice
    polygons: PolygonsOnGrid | None
    arrays: list[Array]


@dataclass(frozen=True)
class GridBands:
    """The bands of a scene that share a grid: a parcel has the same pixels in all of them."""

    grid: Grid
    bands: tuple[Band, ...]

    def parts(self, polygons: PolygonsOnGrid) -> Iterator[Part]:
        """The pixels of all bands under polygons on this grid. Of decoded bands, the tiles must be there already.

        Raises SceneError if a file cannot be read.
        """
        if not len(polygons):
            return
        everything = slice(0, len(polygons))
        if decoded := self._decoded:
            yield Part(everything, polygons, [band.array for band in decoded])
            return
        remaining = [everything]
        while remaining:
            chosen = remaining.pop(0)
            window = _window(polygons, chosen)
            if window is None:
                yield Part(chosen, None, [])
                continue
            rows, columns = window
            size, count = (rows.stop - rows.start) * (columns.stop - columns.start), chosen.stop - chosen.start
            if size > LARGEST_WINDOW_PIXELS and count > 1:
                middle = chosen.start + count // 2
                remaining[:0] = [slice(chosen.start, middle), slice(middle, chosen.stop)]
                continue
            arrays = [band.file.read(band.index, rows, columns) for band in self.bands]
            yield Part(chosen, polygons[chosen].polygons.on(self.grid.cut(rows, columns)), arrays)

    def tiles_under(self, polygons: PolygonsOnGrid) -> list[BandTile]:
        """The tiles that hold the polygons' pixels; none of a format that is read by windows."""
        return [
            BandTile(band, tile)
            for shape, bands in self._by_tile_shape().items()
            for tile in tiles_under(polygons.boxes_within, shape)
            for band in bands
        ]

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
    def _decoded(self) -> list[DecodedBand]:
        return [band.decoded for band in self.bands if band.decoded is not None]


def _window(polygons: PolygonsOnGrid, chosen: slice) -> tuple[slice, slice] | None:
    """Rows and columns around some of the polygons, cut to the grid; None if they do not meet."""
    boxes = polygons.boxes_within[chosen]
    rows = slice(int(boxes.top.min()), int(boxes.bottom.max()))
    columns = slice(int(boxes.left.min()), int(boxes.right.max()))
    return (rows, columns) if rows.stop > rows.start and columns.stop > columns.start else None


class SceneBands:
    """The bands of a scene, all in one CRS but possibly on different grids; opened as their files arrive.

    Methods raise SceneError for a file that is cut short, is of another format, has no usable CRS or grid.
    """

    def __init__(self, files: Sequence[BandFile], folder: Path, image_format: ImageFormat) -> None:
        self._format = image_format
        self._names = [file.name for file in files]
        self._files: dict[Path, list[BandFile]] = {}
        for file in files:
            self._files.setdefault(folder / file.file_name, []).append(file)
        self._images = {path: ImageFile(path, image_format.driver) for path in self._files}
        self._bands: dict[str, Band] = {}

    def arrived(self, path: Path) -> list[GridBands]:
        """The bands of a file that is there, if decoding its tiles may begin; none if it can wait for the others."""
        return _by_grid(self._open(path)) if self._format.driver == JPEG2000 and path in self._images else []

    def grids(self, names: Iterable[str] | None = None) -> list[GridBands]:
        """The bands of these names, or all, in this order; all files must be there now."""
        for path in self._images:
            self._open(path)
        bands = [self._bands[name] for name in self._names]
        if len({band.epsg for band in bands}) > 1:
            listing = ", ".join(f"{band.name} in EPSG:{band.epsg}" for band in bands)
            raise SceneError(f"the bands are in different CRS ({listing}); they must share one")
        return _by_grid(bands if names is None else [self._bands[name] for name in names])

    def close(self) -> None:
        """Close all files; nobody may use the bands any more."""
        for image in self._images.values():
            image.close()

    def _open(self, path: Path) -> list[Band]:
        files = self._files[path]
        if any(file.name not in self._bands for file in files):
            check_integrity(path, self._format.driver)
            for file in files:
                self._bands[file.name] = _band(file, self._images[path], files, self._format)
        return [self._bands[file.name] for file in files]


def _by_grid(bands: Iterable[Band]) -> list[GridBands]:
    groups: dict[Grid, list[Band]] = {}
    for band in bands:
        groups.setdefault(band.grid, []).append(band)
    return [GridBands(grid, tuple(group)) for grid, group in groups.items()]


@contextmanager
def scene_bands(files: Sequence[BandFile], folder: Path, image_format: ImageFormat) -> Iterator[SceneBands]:
    """The bands of a scene, to be opened within the block, after which they are closed."""
    with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_BYTES), closing(SceneBands(files, folder, image_format)) as bands:
        yield bands


def _band(file: BandFile, image: ImageFile, files: Sequence[BandFile], image_format: ImageFormat) -> Band:
    """One of the bands (`files`) in an image."""
    name, decodes = image.path.name, image_format.driver == JPEG2000
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
    if decodes and size > LARGEST_DECODED_BYTES:
        raise SceneError(f"{name} claims {shape[1]:,} x {shape[0]:,} pixels, {size / 1e9:,.0f} GB; replace the object")
    decoded = DecodedBand(image, index, shape, blocks[index - 1], dtype) if decodes else None
    return Band(file.name, crs.to_epsg(), Grid(transform, shape), image_format.nodata, index, image, decoded)


def _index(file: BandFile, dataset: Any, files: Sequence[BandFile]) -> int:
    """The band's number in its file: by description if the descriptions name every band exactly once, else as given."""
    if not file.described:
        return file.index
    matches = {
        other.name: [n for n, text in enumerate(dataset.descriptions, 1) if text and other.name in text.upper()]
        for other in files
    }
    numbers = {found[0] for found in matches.values() if len(found) == 1}
    return matches[file.name][0] if len(numbers) == len(files) else file.index
