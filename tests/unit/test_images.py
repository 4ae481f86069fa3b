"""Pixels in memory: each tile decoded once, by whichever thread comes first, and only where parcels are."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray

from extractors.errors import SceneError
from extractors.raster.images import DecodedBand, ImageFile, tile_window, tiles_under
from extractors.statistics.zonal import Boxes, Grid

# 5 x 7 pixels of 10 m in tiles of 2 x 3: three rows and three columns of tiles, the last ones cut.
GRID = Grid(Affine(10, 0, 0, 0, -10, 50), (5, 7))
TILE = (2, 3)
NUMBERS = np.arange(1, 36, dtype=np.uint16).reshape(5, 7)


class File:
    """Stands in for an image file; notes what is read."""

    def __init__(self) -> None:
        self.read_windows: list[tuple[slice, slice]] = []
        self.broken = False
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def read(self, index: int, rows: slice, columns: slice, into: NDArray[np.uint16]) -> None:
        self.read_windows.append((rows, columns))
        self.begun.set()
        assert self.go_on.wait(30)
        if self.broken:
            raise SceneError("the file cannot be read")
        into[:] = NUMBERS[rows, columns]


def decoded(file: Any) -> DecodedBand:
    return DecodedBand(file, 1, GRID.shape, TILE, "uint16")


@pytest.mark.parametrize(
    ("tile", "rows", "columns"),
    [
        ((0, 0), slice(0, 2), slice(0, 3)),
        ((1, 1), slice(2, 4), slice(3, 6)),
        ((2, 0), slice(4, 5), slice(0, 3)),
        ((2, 2), slice(4, 5), slice(6, 7)),
    ],
)
def test_a_tile_is_cut_to_the_image(tile: tuple[int, int], rows: slice, columns: slice) -> None:
    assert tile_window(tile, TILE, GRID.shape) == (rows, columns)


@pytest.mark.parametrize(
    ("shape", "tiles"),
    [
        (shapely.box(1, 45, 9, 49), [(0, 0)]),
        (shapely.box(0, 30, 30, 50), [(0, 0)]),
        (shapely.box(0, 29, 31, 50), [(0, 0), (0, 1), (1, 0), (1, 1)]),
        (shapely.box(61, 1, 69, 9), [(2, 2)]),
        (shapely.box(-100, -100, 1, 1), [(2, 0)]),
        (shapely.box(-100, -100, 500, 500), [(r, c) for r in range(3) for c in range(3)]),
        (shapely.box(70, 0, 80, 50), []),
        (shapely.box(-20, 0, 0, 50), []),
        (shapely.box(0, 50, 70, 60), []),
    ],
    ids=["one pixel", "one tile", "four tiles", "the last", "a corner", "all", "right", "left", "above"],
)
def test_tiles_under_a_geometry(shape: shapely.Polygon, tiles: list[tuple[int, int]]) -> None:
    geometries = np.array([shape], dtype=object)
    assert tiles_under(Boxes.of(geometries, GRID), TILE, GRID.shape) == tiles


def test_each_tile_once_in_the_order_of_the_geometries() -> None:
    geometries = np.array([shapely.box(61, 1, 62, 2), shapely.box(1, 1, 2, 2), shapely.box(63, 3, 64, 4)], dtype=object)
    assert tiles_under(Boxes.of(geometries, GRID), TILE, GRID.shape) == [(2, 2), (2, 0)]


def test_only_wanted_tiles_are_read_and_only_once() -> None:
    file = File()
    band = decoded(file)
    band.decode([(0, 0), (2, 2), (0, 0)])
    band.decode([(2, 2)])
    assert file.read_windows == [(slice(0, 2), slice(0, 3)), (slice(4, 5), slice(6, 7))]
    assert band.array.tolist() == [
        [1, 2, 3, 0, 0, 0, 0],
        [8, 9, 10, 0, 0, 0, 0],
        [0] * 7,
        [0] * 7,
        [0, 0, 0, 0, 0, 0, 35],
    ]


def test_a_thread_waits_for_the_tile_that_another_has_begun() -> None:
    file = File()
    band = decoded(file)
    file.go_on.clear()
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(band.decode, [(0, 0), (0, 1)]) for _ in range(4)]
        assert file.begun.wait(30)
        assert not any(done.done() for done in waiting)
        file.go_on.set()
        for done in waiting:
            done.result(30)
            assert band.array[1].tolist() == [8, 9, 10, 11, 12, 13, 0]
    assert len(file.read_windows) == 2


def test_a_broken_tile_is_an_error_for_everyone_who_needs_it() -> None:
    file = File()
    band = decoded(file)
    file.broken = True
    for _ in range(2):
        with pytest.raises(SceneError, match="the file cannot be read"):
            band.decode([(0, 0)])
    file.broken = False
    band.decode([(0, 1)])
    assert band.array[0].tolist() == [0, 0, 0, 4, 5, 6, 0]


def test_a_dataset_in_use_is_closed_when_it_comes_back(tmp_path: Path) -> None:
    """Closing it under a thread that reads would crash the process."""
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=5, width=7, count=1, dtype="uint16", transform=GRID.transform
    ) as made:
        made.write(NUMBERS, 1)
    file = ImageFile(path, "GTiff")
    with file.borrow() as idle:
        pass
    with file.borrow() as first, file.borrow() as second:
        assert first is idle
        file.close()
        assert not first.closed
        assert second.read(1).tolist() == NUMBERS.tolist()
    assert first.closed
    assert second.closed
