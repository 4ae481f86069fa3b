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
from rasterio.enums import ColorInterp, Interleaving

from extractors.errors import UnusableSceneError
from extractors.labels import POLARISATIONS
from extractors.model import PARTNERS, BandFile, ImageFormat, Limits
from extractors.raster.images import BandTile, DecodedBand, ImageFile, StoredBand, cells, tile_window, tiles_under
from extractors.raster.integrity import JPEG2000, check_integrity, check_reading
from extractors.raster.memory import Budget
from extractors.statistics.grid import Array, Boxes, Chosen, Floats, Grid, Integers, Polygons, PolygonsOnGrid
from extractors.statistics.pixels import LARGEST_VALUE, Elsewhere, Pixels, Places, Stored
from extractors.statistics.scanline import Spans, rasterize, values_under

log = logging.getLogger(__name__)

# A chunk whose parcels lie far apart is read in parts: no window has more pixels than this, unless one parcel needs it.
LARGEST_WINDOW_PIXELS = 4_000_000

# Pixels of the bounding boxes of all parcels that are computed together: outlines that go to and fro within pixels
# have as many runs of them. And the side of what is read at a time under a parcel with a larger window.
MOST_PIXELS = 10_000_000
CELL = 1024

# Estimates of what the memory goes into: a run of pixels, and a vertex with its edge. A block takes its own size
# several times: as it is stored, decoded, and in GDAL's cache.
BYTES_PER_SPAN, BYTES_PER_VERTEX, COPIES_OF_BLOCK = 24, 300, 3
# OpenJPEG decodes to 32 bits, whatever the pixels are.
BYTES_PER_DECODED = 4
# Directories of a GeoTIFF: its image, overviews, a mask.
MOST_DIRECTORIES = 64

LARGEST_PIXEL_BYTES = 16
PIXEL_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"}
# GDAL's default, 5 % of the host's memory, is too much for one of several workers. We keep decoded tiles ourselves, and
# uncompressed files are in the system's cache.
BLOCK_CACHE_BYTES = 64 * 1024**2
# Sides of pixels, and coordinates, in degrees or metres: with others, positions of pixels have no exact numbers.
LEAST_PIXEL, FARTHEST = 1e-7, 1e9
# The description of a band that tells which pixels are valid.
MASK = "mask"
# Longitude and latitude by another authority, and the EPSG code under which databases know the same.
OGC_CODES = {"CRS84": 4326, "CRS83": 4269, "CRS27": 4267}


@dataclass(frozen=True)
class Band:
    """An open band: its name, grid, and where its pixels are. srid: the number of its CRS in databases (an EPSG or ESRI
    code). decoded: for formats in which reading means decoding. dtype: of its pixels. declared: what the file declares
    invalid, in words, "" for nothing. scale, offset: its values are scale x pixel + offset."""

    name: str
    srid: int
    grid: Grid
    stored: StoredBand
    decoded: DecodedBand | None
    dtype: str = "float64"
    declared: str = ""
    scale: float = 1.0
    offset: float = 0.0

    @property
    def nodata(self) -> float:
        """The value of pixels without observation."""
        return self.stored.nodata

    @property
    def pixel_bytes(self) -> int:
        """Of a pixel as it is read."""
        return _pixel_bytes(self.dtype)

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
        large = areas > LARGEST_WINDOW_PIXELS
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
                here = polygons[chosen].polygons.on(self.grid.cut(rows, columns))
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


class SceneBands:
    """The bands of a scene, all in one CRS but possibly on different grids; opened as their files arrive.

    Methods raise SceneError for a file that is missing, UnusableSceneError for one that is cut short, is of another
    format, has no usable CRS or grid, or lacks the band.
    """

    def __init__(self, files: Sequence[BandFile], folder: Path, image_format: ImageFormat, budget: Budget) -> None:
        self._format = image_format
        self._budget = budget
        self._files: dict[Path, list[BandFile]] = {}
        for file in files:
            self._files.setdefault(folder / file.file_name, []).append(file)
        self._images = {path: ImageFile(path, image_format.driver) for path in self._files}
        self._bands: dict[Path, list[Band]] = {}

    def arrived(self, path: Path) -> list[GridBands]:
        """The bands of a file that is there, if decoding its tiles may begin; none if it can wait for the others."""
        opens = self._format.driver == JPEG2000 and path in self._images
        return _by_grid(self._open(path), self._budget) if opens else []

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
        return _by_grid([bands[name] for name in (bands if names is None else names) if name in bands], self._budget)

    def close(self) -> None:
        """Close all files; nobody may use the bands any more."""
        for image in self._images.values():
            image.close()

    def _open(self, path: Path) -> list[Band]:
        if path not in self._bands:
            check_integrity(path, self._format.driver)
            self._bands[path] = self._open_bands(self._files[path], self._images[path])
        return self._bands[path]

    def _open_bands(self, files: Sequence[BandFile], image: ImageFile) -> list[Band]:
        """The bands of one file, which should be `files`."""
        # A file without georeference is refused below, with a better message.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with image.borrow() as dataset:
                there = _really_there(files, image.path.name, _descriptions(dataset))
                check_reading(image.path, dataset)
                _keep_blocks(image.path, dataset, self._budget)
                return [_band(file, image, dataset, self._format, self._budget) for file in there]


def _by_grid(bands: Iterable[Band], budget: Budget) -> list[GridBands]:
    groups: dict[Grid, list[Band]] = {}
    for band in bands:
        groups.setdefault(band.grid, []).append(band)
    return [GridBands(grid, tuple(group), budget) for grid, group in groups.items()]


@contextmanager
def scene_bands(
    files: Sequence[BandFile], folder: Path, image_format: ImageFormat, limits: Limits | None = None
) -> Iterator[SceneBands]:
    """The bands of a scene, to be opened within the block, after which they are closed."""
    opened = SceneBands(files, folder, image_format, Budget(limits))
    with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_BYTES), closing(opened) as bands:
        yield bands


def _keep_blocks(path: Path, dataset: Any, budget: Budget) -> None:
    """Count the blocks of a file, of which each thread decodes one at a time. Windows can have any size, blocks are
    what the file says. Raises UnusableSceneError, before any is decoded, if they are too large."""
    rows, columns = _largest_block(path, dataset)
    decoded = dataset.driver == JPEG2000
    size = BYTES_PER_DECODED if decoded else max(map(_pixel_bytes, dataset.dtypes))
    bands = dataset.count if decoded or dataset.interleaving is Interleaving.pixel else 1
    what = f"{path.name}: a block of {columns:,} x {rows:,} pixels for each of {budget.limits.cores} threads"
    budget.keep(rows * columns * bands * size * COPIES_OF_BLOCK * budget.limits.cores, what)


def _pixel_bytes(dtype: str) -> int:
    return np.dtype(dtype).itemsize if dtype in PIXEL_TYPES else LARGEST_PIXEL_BYTES


def _largest_block(path: Path, dataset: Any) -> tuple[int, int]:
    """Rows and columns of the largest block of a file, its mask included."""
    shapes: list[tuple[int, int]] = list(dataset.block_shapes)
    flags = {flag.name for of_band in dataset.mask_flag_enums for flag in of_band}
    if dataset.driver == "GTiff" and "per_dataset" in flags - {"alpha"}:
        for number in range(2, MOST_DIRECTORIES + 1):
            try:
                with rasterio.open(f"GTIFF_DIR:{number}:{path}", driver="GTiff") as directory:
                    shapes += directory.block_shapes
            except rasterio.errors.RasterioIOError:
                break
        else:
            raise UnusableSceneError(f"{path.name} holds over {MOST_DIRECTORIES} images; replace the object")
    return max(shapes, key=lambda shape: shape[0] * shape[1])


def _descriptions(dataset: Any) -> list[str]:
    """What the file says of its bands, "" for nothing. A band that is a mask is described as one, unless it names a
    polarisation: some writers leave such a mark on the last band."""
    return [
        MASK if interpretation is ColorInterp.alpha and not _polarisations(text) else text or ""
        for text, interpretation in zip(dataset.descriptions, dataset.colorinterp, strict=True)
    ]


def _polarisations(description: str | None) -> list[str]:
    return [name for name in POLARISATIONS if name in (description or "").upper()]


def _band(file: BandFile, image: ImageFile, dataset: Any, image_format: ImageFormat, budget: Budget) -> Band:
    """One band of an open file."""
    name, index, transform, shape = image.path.name, file.index, dataset.transform, dataset.shape
    srid = _srid(dataset.crs)
    if srid is None:
        raise UnusableSceneError(
            f"{name} has no CRS with an EPSG code ({dataset.crs or 'none at all'}); replace the object"
        )
    plain = not transform.b and not transform.d and transform.a >= LEAST_PIXEL and transform.e <= -LEAST_PIXEL
    if not plain or not max(map(abs, Grid(transform, shape).bounds)) <= FARTHEST:
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
    decodes = image_format.driver == JPEG2000
    if decodes:
        budget.keep(
            shape[0] * shape[1] * np.dtype(dtype).itemsize, f"{name}, {shape[1]:,} x {shape[0]:,} pixels decoded,"
        )
    scale, offset = (dataset.scales[index - 1], dataset.offsets[index - 1]) if image_format.scaled else (1.0, 0.0)
    if not (0 < scale <= LARGEST_VALUE and abs(offset) <= LARGEST_VALUE):
        raise UnusableSceneError(f"{name} declares values of {scale} x pixel + {offset}; replace the object")
    declared = "alpha" if masked else _declared(dataset, index, image_format.nodata)
    stored = StoredBand(
        image, index, image_format.nodata, bool(declared), 1 + descriptions.index(MASK) if masked else 0
    )
    decoded = DecodedBand(stored, shape, dataset.block_shapes[index - 1], dtype) if decodes else None
    return Band(file.name, srid, Grid(transform, shape), stored, decoded, dtype, declared, scale, offset)


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
