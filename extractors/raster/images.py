"""Pixels in files, for several threads at once: read by windows, or decoded tile by tile into memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
import rasterio.windows

from extractors.errors import ConfigurationError, SceneError, one_line
from extractors.statistics.grid import Array, Boxes, Integers
from extractors.statistics.spans import Spans

Tile = tuple[int, int]

# Errors of rasterio that say nothing of a file.
OF_INSTALLATION = (
    rasterio.errors.DriverCapabilityError,
    rasterio.errors.DriverRegistrationError,
    rasterio.errors.EnvError,
    rasterio.errors.GDALBehaviorChangeException,
    rasterio.errors.GDALOptionNotImplementedError,
    rasterio.errors.GDALVersionError,
    rasterio.errors.OpenerRegistrationError,
)


class ImageFile:
    """A raster file that is only ever opened with one driver. A GDAL dataset serves one thread at a time, so every
    thread borrows its own."""

    def __init__(self, path: Path, driver: str) -> None:
        self.path = path
        self._driver = driver
        self._idle: list[Any] = []
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self) -> Iterator[Any]:
        """An open dataset for the calling thread. Raises SceneError if the file cannot be read by its driver,
        MemoryError if memory was short, and ConfigurationError if GDAL itself cannot work."""
        try:
            with self._lock:
                dataset = self._idle.pop() if self._idle else None
            if dataset is None:
                dataset = rasterio.open(self.path, driver=self._driver)
            try:
                yield dataset
            finally:
                with self._lock:
                    if self._closed:
                        dataset.close()
                    else:
                        self._idle.append(dataset)
        except Exception as error:
            if not _is_of_gdal(error):
                raise
            if _is_out_of_memory(error):
                raise MemoryError(f"{self.path.name} cannot be read ({one_line(error)})") from error
            if isinstance(error, OF_INSTALLATION):
                raise ConfigurationError(
                    f"GDAL cannot be used ({one_line(error)}); install the package rasterio as its wheel brings it, "
                    "and see which variables GDAL_... are set"
                ) from error
            raise SceneError(
                f"{self.path.name} cannot be read as {self._driver} ({one_line(error)}); see what the "
                "store holds under this name"
            ) from error

    def read(self, index: int, rows: slice, columns: slice, into: Array | None = None) -> Array:
        """The pixels of a window of one band; into: an array of that shape and the band's type to be filled."""
        window = rasterio.windows.Window.from_slices(rows, columns)
        with self.borrow() as dataset:
            pixels: Array = dataset.read(index, window=window, out=into)
        return pixels

    def invalid(self, index: int, rows: slice, columns: slice) -> Array:
        """Which pixels of such a window the file declares invalid, by a nodata value or a mask."""
        window = rasterio.windows.Window.from_slices(rows, columns)
        with self.borrow() as dataset:
            result: Array = dataset.read_masks(index, window=window) == 0
        return result

    def close(self) -> None:
        """Close all datasets; one that a thread is using is closed when it comes back: closing it now would crash."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()


def _is_of_gdal(error: BaseException) -> bool:
    """Whether it comes from rasterio: not all of its errors have a base of its own, and text in a file that is none
    raises one of Python's."""
    return isinstance(error, UnicodeDecodeError) or any(
        kind.__module__.partition(".")[0] == "rasterio" for kind in type(error).__mro__
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, which may pass: so says GDAL's error, or the one behind it."""
    chain = (error, error.__cause__, error.__context__)
    return any("OutOfMemory" in type(one).__name__ or isinstance(one, MemoryError) for one in chain)


@dataclass(frozen=True)
class StoredBand:
    """One band of a file. declares: whether the file declares pixels invalid, which then get the value `nodata`.
    alpha: the number of the band that is 0 there; 0: GDAL knows them."""

    file: ImageFile
    index: int
    nodata: float
    declares: bool = False
    alpha: int = 0

    def read(self, rows: slice, columns: slice, into: Array | None = None) -> Array:
        """The pixels of a window; into: an array of that shape and the band's type to be filled."""
        pixels = self.file.read(self.index, rows, columns, into)
        if self.declares:
            # GDAL takes alpha bands of some pixel types only for masks.
            invalid = (
                self.file.read(self.alpha, rows, columns) == 0
                if self.alpha
                else self.file.invalid(self.index, rows, columns)
            )
            pixels[invalid] = self.nodata
        return pixels


class DecodedBand:
    """One band in memory, filled tile by tile; parts that no tile has filled take no memory.

    array: rows x columns of the whole band; only decoded tiles hold pixels, the rest is 0.
    """

    def __init__(self, stored: StoredBand, shape: tuple[int, int], tile_shape: tuple[int, int], dtype: str):
        self.array: Array = np.zeros(shape, dtype=dtype)
        self.tile_shape = tile_shape
        self._stored = stored

    def decode(self, tile: Tile) -> None:
        """Decode a tile into the array. Raises SceneError if the file cannot be read."""
        rows, columns = tile_window(tile, self.tile_shape, self.array.shape)
        self._stored.read(rows, columns, self.array[rows, columns])


@dataclass(frozen=True)
class BandTile:
    """One tile of one band: a job for the pool, which decodes each tile once."""

    band: DecodedBand
    tile: Tile

    def __call__(self) -> None:
        """Decode it."""
        self.band.decode(self.tile)


def tile_window(tile: Tile, tile_shape: tuple[int, int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a tile, cut to the image."""
    top, left = tile[0] * tile_shape[0], tile[1] * tile_shape[1]
    return slice(top, min(top + tile_shape[0], shape[0])), slice(left, min(left + tile_shape[1], shape[1]))


def cells(spans: Spans, columns: int, side: int) -> Iterator[tuple[slice, slice, Integers, Integers]]:
    """Spans of an image with so many columns, by square cells of `side` pixels: the window around those of a cell (rows
    and columns), and their positions in it, flattened: first pixels and lengths."""
    row, column = np.divmod(spans.first, columns)
    # A span that lies in several cells is cut.
    pieces = (column + spans.length - 1) // side - column // side + 1
    piece = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    row, end = np.repeat(row, pieces), np.repeat(column + spans.length, pieces)
    left = np.repeat(column // side, pieces) + piece
    begin, end = np.maximum(np.repeat(column, pieces), left * side), np.minimum(end, (left + 1) * side)
    order = np.lexsort((left, row // side))
    row, begin, end, left = row[order], begin[order], end[order], left[order]
    new = np.flatnonzero((np.diff(row // side) != 0) | (np.diff(left) != 0)) + 1
    for here in map(slice, [0, *new.tolist()], [*new.tolist(), len(row)]):
        if here.start == here.stop:
            continue
        rows = slice(int(row[here].min()), int(row[here].max()) + 1)
        window = slice(int(begin[here].min()), int(end[here].max()))
        first = (row[here] - rows.start) * (window.stop - window.start) + begin[here] - window.start
        yield rows, window, first, end[here] - begin[here]


def tiles_under(boxes: Boxes, tile_shape: tuple[int, int]) -> list[Tile]:
    """The tiles under boxes that were cut to the image, in the order of the boxes."""
    corners = np.column_stack(
        [
            boxes.top // tile_shape[0],
            (boxes.bottom - 1) // tile_shape[0],
            boxes.left // tile_shape[1],
            (boxes.right - 1) // tile_shape[1],
        ]
    )[boxes.areas > 0].astype(int)
    _, first = np.unique(corners, axis=0, return_index=True)
    found = {
        (row, column): None
        for top, bottom, left, right in corners[np.sort(first)].tolist()
        for row in range(top, bottom + 1)
        for column in range(left, right + 1)
    }
    return list(found)
