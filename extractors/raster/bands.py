"""The bands of a scene in local files: opened with the one driver they must have, grouped by grid, read where parcels
are."""

import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from extractors.errors import UnusableSceneError
from extractors.labels import POLARISATIONS
from extractors.model import PARTNERS, BandFile, ImageFormat
from extractors.raster.images import BandTile, DecodedBand, ImageFile, StoredBand, tile_window, tiles_under
from extractors.raster.integrity import JPEG2000, check_integrity
from extractors.statistics.grid import Array, Chosen, Grid, Integers, Polygons, PolygonsOnGrid
from extractors.statistics.scanline import Spans, rasterize, values_under

log = logging.getLogger(__name__)

# A chunk whose parcels lie far apart is read in parts: no window has more pixels than this, unless one parcel needs it.
LARGEST_WINDOW_PIXELS = 4_000_000

# A band that has to be decoded into memory; a Sentinel-2 tile has 0.24 GB. What claims more is broken, or worse.
LARGEST_DECODED_BYTES = 4_000_000_000

PIXEL_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"}
# GDAL's default, 5 % of the host's memory, is too much for one of several workers. We keep decoded tiles ourselves, and
# uncompressed files are in the system's cache.
BLOCK_CACHE_BYTES = 64 * 1024**2
# The description of a band that tells which pixels are valid.
MASK = "mask"
# Longitude and latitude by another authority, and the EPSG code under which databases know the same.
OGC_CODES = {"CRS84": 4326, "CRS83": 4269, "CRS27": 4267}


@dataclass(frozen=True)
class Band:
    """An open band: its name, grid, and where its pixels are. srid: the number of its CRS in databases (an EPSG or ESRI
    code). decoded: for formats in which reading means decoding. declared: what the file declares invalid, in words, ""
    for nothing. scale, offset: its values are scale x pixel + offset."""

    name: str
    srid: int
    grid: Grid
    stored: StoredBand
    decoded: DecodedBand | None
    declared: str = ""
    scale: float = 1.0
    offset: float = 0.0

    @property
    def nodata(self) -> float:
        """The value of pixels without observation."""
        return self.stored.nodata

    @property
    def settings(self) -> dict[str, Any]:
        """What the numbers depend on, for the log."""
        found: dict[str, Any] = {"number": self.stored.index}
        if self.declared:
            found["nodata"] = self.declared
        if (self.scale, self.offset) != (1, 0):
            found |= {"scale": self.scale, "offset": self.offset}
        return found


@dataclass(frozen=True)
class Part:
    """The pixels under some parcels of a chunk. chosen: which parcels. polygons: these, on the grid of the pixels that
    were read; None if no pixel is near them. arrays: the pixels of each band; those that are infinite are nodata in
    there, and infinite says which they are, by the band's position."""

    chosen: Chosen
    polygons: PolygonsOnGrid | None
    arrays: list[Array]
    infinite: dict[int, Array] = field(default_factory=dict)


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
        scattered = self._scattered(polygons)
        if scattered.any():
            compact = np.flatnonzero(~scattered)
            for part in self.parts(polygons[compact]):
                yield replace(part, chosen=compact[part.chosen])
            for index in np.flatnonzero(scattered):
                yield self._gathered(polygons, np.array([index]))
            return
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
            arrays = [band.stored.read(rows, columns) for band in self.bands]
            here = polygons[chosen].polygons.on(self.grid.cut(rows, columns))
            yield Part(chosen, here, arrays, self._without_infinite(arrays))

    def _scattered(self, polygons: PolygonsOnGrid) -> NDArray[np.bool_]:
        """Which polygons have parts so far apart that these are read one by one."""
        areas = polygons.boxes_within.areas
        scattered: NDArray[np.bool_] = polygons.to_read(LARGEST_WINDOW_PIXELS) < areas
        return scattered

    def _gathered(self, polygons: PolygonsOnGrid, chosen: Integers) -> Part:
        """The pixels of one polygon whose parts lie far apart: all in one row, under a polygon that covers the row."""
        spans = rasterize(polygons[chosen])
        if decoded := self._decoded:
            arrays = [values_under(band.array.reshape(-1), spans.first, spans.length) for band in decoded]
        else:
            arrays = self._windows_under(spans, polygons.rings(chosen)[0])
        number = len(arrays[0])
        if not number:
            return Part(chosen, None, [])
        row = Grid(Affine(1, 0, 0, 0, -1, 1), (1, number))
        arrays = [array.reshape(row.shape) for array in arrays]
        here = Polygons(np.array([shapely.box(*row.bounds)], dtype=object)).on(row)
        return Part(chosen, here, arrays, self._without_infinite(arrays))

    def _windows_under(self, spans: Spans, rings: PolygonsOnGrid) -> list[Array]:
        """The pixels of each band under the spans of one polygon, in any order. Each span lies in the box of a ring."""
        row, column = np.divmod(spans.first, self.grid.shape[1])
        remaining = np.ones(len(row), dtype=bool)
        found: list[list[Array]] = [[] for _ in self.bands]
        for number in range(len(rings)):
            window = _window(rings, slice(number, number + 1))
            if window is None:
                continue
            rows, columns = window
            here = remaining & (row >= rows.start) & (row < rows.stop) & (column >= columns.start)
            here &= column + spans.length <= columns.stop
            if not here.any():
                continue
            remaining &= ~here
            first = (row[here] - rows.start) * (columns.stop - columns.start) + column[here] - columns.start
            for arrays, band in zip(found, self.bands, strict=True):
                pixels = band.stored.read(rows, columns).reshape(-1)
                arrays.append(values_under(pixels, first, spans.length[here]))
        if remaining.any():
            raise RuntimeError("pixels of a parcel lie outside the boxes of its rings")
        return [np.concatenate(arrays) if arrays else np.empty(0) for arrays in found]

    def _without_infinite(self, arrays: list[Array]) -> dict[int, Array]:
        """Make infinite pixels nodata, which any engine leaves out; which ones they were, by the array's position."""
        found = {}
        for position, (band, pixels) in enumerate(zip(self.bands, arrays, strict=True)):
            if pixels.dtype.kind == "f":
                infinite = np.isinf(pixels)
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
        return [
            BandTile(band, tile)
            for shape, bands in by_shape.items()
            for tile in dict.fromkeys(tile for piece in pieces for tile in tiles_under(piece.boxes_within, shape))
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

    Methods raise SceneError for a file that is missing, UnusableSceneError for one that is cut short, is of another
    format, has no usable CRS or grid, or lacks the band.
    """

    def __init__(self, files: Sequence[BandFile], folder: Path, image_format: ImageFormat) -> None:
        self._format = image_format
        self._files: dict[Path, list[BandFile]] = {}
        for file in files:
            self._files.setdefault(folder / file.file_name, []).append(file)
        self._images = {path: ImageFile(path, image_format.driver) for path in self._files}
        self._bands: dict[Path, list[Band]] = {}

    def arrived(self, path: Path) -> list[GridBands]:
        """The bands of a file that is there, if decoding its tiles may begin; none if it can wait for the others."""
        return _by_grid(self._open(path)) if self._format.driver == JPEG2000 and path in self._images else []

    def bands(self) -> list[Band]:
        """All that the files hold; all files must be there now."""
        bands = [band for path in self._images for band in self._open(path)]
        if len({band.srid for band in bands}) > 1:
            listing = ", ".join(f"{band.name} in EPSG:{band.srid}" for band in bands)
            raise UnusableSceneError(f"the bands are in different CRS ({listing}); they must share one")
        return bands

    def grids(self, names: Iterable[str] | None = None) -> list[GridBands]:
        """Those of the bands that have these names, in this order, or all; all files must be there now."""
        bands = {band.name: band for band in self.bands()}
        return _by_grid([bands[name] for name in (bands if names is None else names) if name in bands])

    def close(self) -> None:
        """Close all files; nobody may use the bands any more."""
        for image in self._images.values():
            image.close()

    def _open(self, path: Path) -> list[Band]:
        if path not in self._bands:
            check_integrity(path, self._format.driver)
            self._bands[path] = _open_bands(self._files[path], self._images[path], self._format)
        return self._bands[path]


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


def _open_bands(files: Sequence[BandFile], image: ImageFile, image_format: ImageFormat) -> list[Band]:
    """The bands of one file, which should be `files`."""
    # A file without georeference is refused below, with a better message.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with image.borrow() as dataset:
            there = _really_there(files, image.path.name, _descriptions(dataset))
            return [_band(file, image, dataset, image_format) for file in there]


def _descriptions(dataset: Any) -> list[str]:
    """What the file says of its bands, "" for nothing. A band that is a mask is described as one, unless it names a
    polarisation: some writers leave such a mark on the last band."""
    return [
        MASK if interpretation is ColorInterp.alpha and not _polarisations(text) else text or ""
        for text, interpretation in zip(dataset.descriptions, dataset.colorinterp, strict=True)
    ]


def _polarisations(description: str | None) -> list[str]:
    return [name for name in POLARISATIONS if name in (description or "").upper()]


def _band(file: BandFile, image: ImageFile, dataset: Any, image_format: ImageFormat) -> Band:
    """One band of an open file."""
    name, index, transform, shape = image.path.name, file.index, dataset.transform, dataset.shape
    srid = _srid(dataset.crs)
    if srid is None:
        raise UnusableSceneError(
            f"{name} has no CRS with an EPSG code ({dataset.crs or 'none at all'}); replace the object"
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise UnusableSceneError(
            f"{name} is not on a north-up grid (transform {tuple(transform)[:6]}); replace the object"
        )
    if not 1 <= index <= dataset.count:
        raise UnusableSceneError(
            f"{name} has {dataset.count} band(s): no band {index} for {file.name}; replace the object"
        )
    descriptions = _descriptions(dataset)
    masked = MASK in descriptions
    if descriptions[index - 1] == MASK:
        raise UnusableSceneError(
            f"{name}: band {index} is a mask, and nothing says where {file.name} is; replace the object"
        )
    dtype = dataset.dtypes[index - 1]
    if dtype not in PIXEL_TYPES:
        raise UnusableSceneError(f"{name} holds {dtype} pixels, which have no such statistics")
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    decodes = image_format.driver == JPEG2000
    if decodes and size > LARGEST_DECODED_BYTES:
        raise UnusableSceneError(
            f"{name} claims {shape[1]:,} x {shape[0]:,} pixels, {size / 1e9:,.0f} GB; replace the object"
        )
    scale, offset = (dataset.scales[index - 1], dataset.offsets[index - 1]) if image_format.scaled else (1.0, 0.0)
    if not (math.isfinite(scale) and math.isfinite(offset) and scale > 0):
        raise UnusableSceneError(f"{name} declares values of {scale} x pixel + {offset}; replace the object")
    declared = "alpha" if masked else _declared(dataset, index, image_format.nodata)
    stored = StoredBand(
        image, index, image_format.nodata, bool(declared), 1 + descriptions.index(MASK) if masked else 0
    )
    decoded = DecodedBand(stored, shape, dataset.block_shapes[index - 1], dtype) if decodes else None
    return Band(file.name, srid, Grid(transform, shape), stored, decoded, declared, scale, offset)


def _srid(crs: Any) -> int | None:
    """The number under which databases know a CRS; None if it has none."""
    if crs is None:
        return None
    if crs.to_epsg() is not None:
        return int(crs.to_epsg())
    authority, code = crs.to_authority() or ("", "")
    if authority == "ESRI" and code.isdecimal():
        return int(code)  # databases and PROJ give ESRI's codes as they are: they are none of EPSG's
    return OGC_CODES.get(code) if authority == "OGC" else None


def _declared(dataset: Any, index: int, nodata: float) -> str:
    """What a file declares invalid in a band, in words; "" if that is no more than what is nodata anyway."""
    flags = {flag.name for flag in dataset.mask_flag_enums[index - 1]}
    if flags == {"all_valid"}:
        return ""
    if flags == {"nodata"}:
        value = dataset.nodatavals[index - 1]
        return "" if math.isnan(value) or value == nodata else f"{value:g}"
    # "alpha": a band that is one in name only.
    return "" if "alpha" in flags else MASK


def _really_there(files: Sequence[BandFile], name: str, descriptions: Sequence[str]) -> Sequence[BandFile]:
    """The bands of a file: those whose polarisations its descriptions name, if they do, each once; else as expected."""
    first = files[0]
    if not first.described and len(files) == 1:
        return files
    named = [_polarisations(text) for text in descriptions]
    sure = [(words[0], number) for number, words in enumerate(named, 1) if len(words) == 1]
    numbers = dict(sure)
    if len(numbers) < len(sure):
        log.warning("%s: its descriptions name a band twice: %s; taking the bands by number", name, descriptions)
        return files
    if not numbers and first.described:
        return files
    if not first.described and numbers.keys() <= {file.name for file in files}:
        usable = [number for number, text in enumerate(descriptions, 1) if text != MASK]
        return [file for file in files if file.index in usable] or files
    others = [number for number, text in enumerate(descriptions, 1) if not text]
    if len(numbers) == 1 and len(descriptions) == 2 and others:
        # Of two bands, the other one is what an instrument records together with this one.
        (word,) = numbers
        numbers[PARTNERS[word]] = others[0]
    return [replace(first, name=word, index=numbers[word]) for word in POLARISATIONS if word in numbers]
