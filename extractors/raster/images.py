"""Pixels in files, for several threads at once: read by windows, or, where reading means decoding, decoded tile by
tile into memory, each tile once and only where parcels are."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
import rasterio.windows

from extractors.errors import SceneError, one_line
from extractors.statistics.zonal import Array, Boxes

Tile = tuple[int, int]


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
        """An open dataset for the calling thread. Raises SceneError if the file cannot be opened as what it should
        be, or read."""
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
        except rasterio.errors.RasterioError as error:
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

    def close(self) -> None:
        """Close all datasets; one that a thread still has, when that is done: to take it away would crash."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()


class DecodedBand:
    """One band in memory, filled tile by tile. What no tile has filled takes no memory.

    array: rows x columns of the whole band; only tiles that `decode` was called for hold pixels, the rest is 0.
    """

    def __init__(self, file: ImageFile, index: int, shape: tuple[int, int], tile_shape: tuple[int, int], dtype: str):
        self.array: Array = np.zeros(shape, dtype=dtype)
        self.tile_shape = tile_shape
        self._file = file
        self._index = index
        self._tiles: dict[Tile, Future[None]] = {}
        self._lock = threading.Lock()

    def decode(self, tiles: Iterable[Tile]) -> None:
        """Return when these tiles are in the array: decoded here, unless another thread has begun with them."""
        others = []
        for tile in tiles:
            with self._lock:
                done = self._tiles.get(tile)
                mine = done is None
                if done is None:
                    done = self._tiles[tile] = Future()
            if not mine:
                others.append(done)
                continue
            try:
                rows, columns = tile_window(tile, self.tile_shape, self.array.shape)
                self._file.read(self._index, rows, columns, self.array[rows, columns])
            except BaseException as error:
                done.set_exception(error)
                raise
            done.set_result(None)
        for done in others:
            done.result()


@dataclass(frozen=True)
class TileOfBand:
    """One tile of one band."""

    image: DecodedBand
    tile: Tile

    def __call__(self) -> None:
        """Decode it, unless that has been done."""
        self.image.decode([self.tile])


def tile_window(tile: Tile, tile_shape: tuple[int, int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a tile, cut to the image."""
    top, left = tile[0] * tile_shape[0], tile[1] * tile_shape[1]
    return slice(top, min(top + tile_shape[0], shape[0])), slice(left, min(left + tile_shape[1], shape[1]))


def tiles_under(boxes: Boxes, tile_shape: tuple[int, int], shape: tuple[int, int]) -> list[Tile]:
    """The tiles that boxes touch, in the order of the boxes."""
    rows, columns = shape
    meets = (boxes.top < rows) & (boxes.bottom > 0) & (boxes.left < columns) & (boxes.right > 0)
    corners = np.column_stack(
        [
            np.clip(boxes.top, 0, rows - 1) // tile_shape[0],
            np.clip(boxes.bottom - 1, 0, rows - 1) // tile_shape[0],
            np.clip(boxes.left, 0, columns - 1) // tile_shape[1],
            np.clip(boxes.right - 1, 0, columns - 1) // tile_shape[1],
        ]
    )[meets].astype(int)
    _, first = np.unique(corners, axis=0, return_index=True)
    found = {
        (row, column): None
        for top, bottom, left, right in corners[np.sort(first)].tolist()
        for row in range(top, bottom + 1)
        for column in range(left, right + 1)
    }
    return list(found)
