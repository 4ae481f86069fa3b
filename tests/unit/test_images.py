"""Pixels in memory: only where parcels are, tile by tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from extractors.raster.images import BandTile, DecodedBand, ImageFile, tile_window, tiles_under
from extractors.statistics.grid import Grid, Polygons

# 5 x 7 pixels of 10 m in tiles of 2 x 3: three rows and three columns of tiles, the last ones cut.
GRID = Grid(Affine(10, 0, 0, 0, -10, 50), (5, 7))
TILE = (2, 3)
NUMBERS = np.arange(1, 36, dtype=np.uint16).reshape(5, 7)


@pytest.fixture
def file(tmp_path: Path) -> ImageFile:
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=5, width=7, count=1, dtype="uint16", transform=GRID.transform
    ) as made:
        made.write(NUMBERS, 1)
    return ImageFile(path, "GTiff")


def tiles(*shapes: shapely.Polygon) -> list[tuple[int, int]]:
    """Those under some polygons."""
    return tiles_under(Polygons(np.array(shapes, dtype=object)).on(GRID).boxes_within, TILE)


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
    ("shape", "expected"),
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
        (shapely.box(30, 0, 30, 50), []),
    ],
    ids=[
        "one pixel",
        "one tile",
        "four tiles",
        "the last",
        "a corner",
        "all",
        "right",
        "left",
        "above",
        "without extent",
    ],
)
def test_tiles_under_a_geometry(shape: shapely.Polygon, expected: list[tuple[int, int]]) -> None:
    assert tiles(shape) == expected


def test_each_tile_once_in_the_order_of_the_geometries() -> None:
    assert tiles(shapely.box(61, 1, 62, 2), shapely.box(1, 1, 2, 2), shapely.box(63, 3, 64, 4)) == [(2, 2), (2, 0)]


def test_only_wanted_tiles_are_read(file: ImageFile) -> None:
    band = DecodedBand(file, 1, GRID.shape, TILE, "uint16")
    BandTile(band, (0, 0))()
    BandTile(band, (2, 2))()
    assert band.array.tolist() == [
        [1, 2, 3, 0, 0, 0, 0],
        [8, 9, 10, 0, 0, 0, 0],
        [0] * 7,
        [0] * 7,
        [0, 0, 0, 0, 0, 0, 35],
    ]


def test_a_dataset_in_use_is_closed_when_it_comes_back(file: ImageFile) -> None:
    """Closing it under a thread that reads would crash the process."""
    with file.borrow() as idle:
        pass
    with file.borrow() as first, file.borrow() as second:
        assert first is idle
        file.close()
        assert not first.closed
        assert second.read(1).tolist() == NUMBERS.tolist()
    assert first.closed
    assert second.closed
