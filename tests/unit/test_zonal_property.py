"""One invariant over many cases: however the pixels are read and whichever engine counts them, no number changes.

For any polygons, `GridBands.parts` and an engine together say what `rasterstats.zonal_stats` says about the whole
raster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rasterstats
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from extractors.model import StatisticsRequest
from extractors.raster import grids
from extractors.raster.bands import Band
from extractors.raster.grids import GridBands
from extractors.raster.images import DecodedBand, StoredBand
from extractors.signatures import ALL_TOUCHED, CENTRE, COUNT, EXTRA_NAMES, INVALID, PIXELS, with_extra
from extractors.statistics import rasterstats as reference
from extractors.statistics import scanline, spans
from extractors.statistics.grid import Floats, Grid, Polygons, PolygonsOnGrid
from extractors.statistics.pixels import Stored
from extractors.statistics.zonal import ENGINES, Question, agree, reasons, verified

PIXEL = 10.0
# All that there are: established, and added.
WANTED = with_extra(EXTRA_NAMES)
NAMES = [statistic.reference for statistic in WANTED]
NOTHING = [0.0, *[np.nan] * (len(NAMES) - 1)]

Random = np.random.Generator
Places = Callable[[Random, int], NDArray[np.float64]]
"""So many points, as rows of x and y. The raster has at most 12 x 12 pixels and lies between 0 and 120."""


def on_the_grid(random: Random, number: int) -> NDArray[np.float64]:
    """Steps of 2.5 meet edges, corners and centres of pixels."""
    return random.integers(-20, 60, (number, 2)).astype(np.float64) * 2.5


def anywhere(random: Random, number: int) -> NDArray[np.float64]:
    """Millimetres."""
    return random.uniform(-60, 180, (number, 2)).round(3)


@dataclasses.dataclass(frozen=True)
class InMemory:
    """As much of a file as bands read from. mask: what it declares invalid."""

    array: NDArray[Any]
    mask: NDArray[np.bool_]

    def read(self, index: int, rows: slice, columns: slice, into: NDArray[Any] | None = None) -> NDArray[Any]:
        assert index == 1
        pixels: NDArray[Any] = self.array[rows, columns].copy()
        if into is None:
            return pixels
        into[:] = pixels
        return into

    def invalid(self, index: int, rows: slice, columns: slice) -> NDArray[Any]:
        assert index == 1
        return self.mask[rows, columns]

    @property
    def cleaned(self) -> NDArray[Any]:
        """All that is not data as 0: what rasterstats is asked about."""
        array = self.array.copy()
        array[self.mask] = 0
        if array.dtype.kind == "f":
            array[np.isinf(array)] = 0
        return array


def ring(random: Random, places: Places) -> shapely.Polygon:
    """Any ring of points: convex, concave, crossing itself (bow-ties)."""
    return shapely.Polygon(places(random, int(random.integers(3, 8))))


def rectangle(random: Random, places: Places) -> shapely.Polygon:
    """A rectangle; on the grid, it may have no extent."""
    return shapely.box(*np.sort(places(random, 2), axis=0).ravel())


def with_hole(random: Random, places: Places) -> shapely.Polygon:
    """A rectangle with a hole in it."""
    west, south, east, north = (shell := rectangle(random, places)).bounds
    inner = np.sort(random.uniform(0.1, 0.9, (2, 2)), axis=0) * [east - west, north - south] + [west, south]
    return shapely.Polygon(shell.exterior.coords, [shapely.box(*inner.ravel().round(3)).exterior.coords])


def with_any_hole(random: Random, places: Places) -> shapely.Polygon:
    """A ring within, across or outside another one."""
    return shapely.Polygon(ring(random, places).exterior.coords, [ring(random, places).exterior.coords])


SHAPES = (ring, rectangle, with_hole)


def polygon(random: Random, places: Places, shapes: tuple[Callable[..., shapely.Polygon], ...]) -> BaseGeometry:
    """One polygon, or several that may overlap."""
    number = int(random.choice([1, 1, 2, 3]))
    parts = [shapes[random.integers(len(shapes))](random, places) for _ in range(number)]
    return parts[0] if number == 1 else shapely.MultiPolygon(parts)


VALUES = {
    "uint8": [0, 0, 1, 2, 7, 100, 255],
    "uint16": [0, 0, 1, 2, 300, 9_999, 65_535],
    "int16": [0, 0, -10_000, -1, 1, 10_000],
    "float32": [0, 0, np.nan, 0.001, 0.1, 0.25, 7.5],
    "float32 with infinite": [0, np.inf, np.nan, 0.001, 0.1, -np.inf, 7.5],
}
"""Pixels of the types that the CARDs have, nodata, NaN and infinite ones among them."""
FINITE = sorted(set(VALUES) - {"float32 with infinite"})


def pixels(random: Random, dtype: str) -> NDArray[Any]:
    return random.choice(np.array(VALUES[dtype], dtype.split(maxsplit=1)[0]), random.integers(1, 13, 2))


def stored(random: Random, dtype: str, declares: float) -> InMemory:
    """A file that declares this share of its pixels invalid."""
    array = pixels(random, dtype)
    return InMemory(array, random.random(array.shape) < declares)


# The examples are drawn by numpy: hypothesis' own polygons are nearly all slivers.
randoms = st.integers(0, 2**32 - 1).map(np.random.default_rng)
dtypes = st.sampled_from(FINITE)


rules = st.sampled_from([CENTRE, CENTRE, CENTRE, ALL_TOUCHED])


def whole(geometry: BaseGeometry, array: NDArray[Any], grid: Grid, rule: str = CENTRE) -> list[float]:
    """The definition: rasterstats, asked about the whole raster; no number where it has nothing to say."""
    (west, south, east, north), (left, bottom, right, top) = geometry.bounds, grid.bounds
    if west >= right or east <= left or south >= top or north <= bottom:
        return list(NOTHING)
    try:
        common = {"affine": grid.transform, "nodata": 0, "all_touched": rule == ALL_TOUCHED}
        names = [name for name in NAMES if name not in {PIXELS, INVALID}]
        (row,) = rasterstats.zonal_stats(geometry, array, **common, stats=names)
        ((all_pixels),) = rasterstats.zonal_stats(geometry, np.ones_like(array), **common, stats="count")
    except ValueError:  # it cannot make an array without rows or columns for a shape without extent on a pixel edge
        assert west == east or south == north
        return list(NOTHING)
    if row["count"]:
        row |= {PIXELS: all_pixels["count"], INVALID: all_pixels["count"] - row["count"]}
    return [np.nan if row.get(name) is None else float(row[name]) for name in NAMES]


@dataclasses.dataclass(frozen=True)
class Found:
    """What the worker has for each parcel: statistics, infinite pixels; and why some have no statistics, sorted."""

    table: Floats
    infinite: NDArray[np.float64]
    why: list[str]


def words(positions: dict[str, NDArray[np.int64]]) -> list[str]:
    """The reason of each parcel without statistics."""
    return [reason for reason, chosen in positions.items() for _ in chosen]


def in_parts(engine: str, polygons: PolygonsOnGrid, in_memory: InMemory, tile: int | None) -> Found:
    """What the worker does: the engine on every window, or on decoded tiles of so many pixels. Judged by rasterstats,
    every parcel, as the worker judges some."""
    file: Any = in_memory
    grid = polygons.grid
    stored = StoredBand(file, 1, 0, bool(in_memory.mask.any()))
    decoded = None if tile is None else DecodedBand(stored, grid.shape, (tile, tile), str(in_memory.array.dtype))
    group = GridBands(grid, (Band("B04", 32633, grid, stored, decoded, str(in_memory.array.dtype)),))
    request = StatisticsRequest(engine, len(polygons), (), WANTED)
    table = np.array([NOTHING] * len(polygons))
    infinite, why = np.zeros(len(polygons)), []
    for need in group.tiles_under(polygons):
        need()
    for part in group.parts(polygons):
        zones, lost = None, None
        if part.polygons is not None:
            found = verified(request, part.polygons, Question([Stored(array, 0) for array in part.arrays]))
            zones, (table[part.chosen],) = found.zones, found.tables
            assert not found.recomputed
            if 0 in part.infinite:
                lost = zones.statistics(part.infinite[0].astype(np.uint8), 0)[:, COUNT]
                infinite[part.chosen] = lost
        why += words(reasons(polygons[part.chosen], zones, table[part.chosen, COUNT], lost))
    return Found(table, infinite, sorted(why))


def assert_same(table: Floats, expected: Floats, dtype: np.dtype[Any]) -> None:
    """Equal, but for rounding in mean and std: float32 is summed in float32, in an order that depends on the array."""
    wrong = ~agree(table, expected, dtype, WANTED)
    assert not wrong.any(), f"{table[wrong]} instead of {expected[wrong]}"


def as_object_array(shapes: list[Any]) -> NDArray[np.object_]:
    geometries = np.empty(len(shapes), dtype=object)
    geometries[:] = shapes
    return geometries


engines = st.sampled_from(sorted(ENGINES))


@given(
    random=randoms,
    how=st.tuples(engines, rules),
    content=st.tuples(st.sampled_from(sorted(VALUES)), st.sampled_from([0.0, 0.0, 0.3, 0.9])),
    # Pixels of the largest window (one for each parcel, small ones, one for all), and the side of a decoded tile.
    reading=st.sampled_from([(0, None), (30, None), (1_000_000, None), (0, 5), (1_000_000, 5), (0, 100)]),
    ground=st.tuples(
        st.sampled_from([on_the_grid, anywhere]), st.sampled_from([(0.0, 120.0), (499_980.0, 5_100_000.0)])
    ),
)
def test_windows_and_tiles_change_no_number(
    random: Random,
    how: tuple[str, str],
    content: tuple[str, float],
    reading: tuple[int, int | None],
    ground: tuple[Places, tuple[float, float]],
) -> None:
    (engine, rule), (dtype, declares), (largest_window, tile), (places, corner) = how, content, reading, ground
    # What is decoded tile by tile has no infinite pixels: JPEG 2000 holds whole numbers.
    file = stored(random, dtype if tile is None else dtype.split(maxsplit=1)[0], declares)
    array = file.cleaned
    # The corner's own coordinates are part of the test: real ones leave fewer digits for the pixels.
    grid = Grid(Affine(PIXEL, 0, corner[0], 0, -PIXEL, corner[1]), (array.shape[0], array.shape[1]))
    shapes = as_object_array([polygon(random, places, (*SHAPES, with_any_hole)) for _ in range(5)])
    geometries = shapely.transform(shapes, lambda xy: xy + np.array([corner[0], corner[1] - 120]))
    polygons = Polygons(geometries).on(grid, rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "LARGEST_WINDOW_PIXELS", largest_window)
        found = in_parts(engine, polygons, file, tile)
    expected = np.array([whole(geometry, array, grid, rule) for geometry in geometries])
    assert_same(found.table, expected, array.dtype)
    by_definition = ENGINES["rasterstats"](polygons)
    infinite = np.isinf(file.array) & ~file.mask
    lost = by_definition.statistics(infinite.astype(np.uint8), 0)[:, COUNT]
    assert found.infinite.tolist() == lost.tolist()
    assert found.why == sorted(words(reasons(polygons, by_definition, expected[:, COUNT], lost)))


@pytest.mark.parametrize(("south", "tile"), [(1, 4), (-19, None)], ids=["decoded", "other part outside"])
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_pixels_that_a_part_touches_beyond_its_box(
    engine: str, south: int, tile: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first part ends in a corner of pixels; what it touches there lies in the box of both parts."""
    monkeypatch.setattr(grids, "LARGEST_WINDOW_PIXELS", 0)
    array = np.arange(1, 145, dtype="int16").reshape(12, 12)
    grid = Grid(Affine(PIXEL, 0, 0, 0, -PIXEL, 120), (12, 12))
    first = shapely.Polygon([(40, 80), (15, 115), (25, 115), (40, 80)])
    parcel = shapely.MultiPolygon([first, shapely.box(91, south, 119, south + 8)])
    file = InMemory(array, np.zeros(array.shape, bool))
    found = in_parts(engine, Polygons(as_object_array([parcel])).on(grid, ALL_TOUCHED), file, tile)
    assert_same(found.table, np.array([whole(parcel, array, grid, ALL_TOUCHED)]), array.dtype)


@given(random=randoms, rule=rules, engine=engines, dtype=dtypes)
def test_the_short_cuts_for_huge_parcels_change_no_number(random: Random, rule: str, engine: str, dtype: str) -> None:
    # Not on the grid: counted from another corner, rounding may decide otherwise of an edge through a pixel's centre.
    # And no holes outside their shells: rasterstats looks at the shell's bounding box only.
    array = pixels(random, dtype)
    grid = Grid(Affine(PIXEL, 0, 0, 0, -PIXEL, 120), (array.shape[0], array.shape[1]))
    geometries = as_object_array([polygon(random, anywhere, SHAPES) for _ in range(5)])
    with pytest.MonkeyPatch.context() as patch:
        # Every shape counts as huge.
        patch.setattr(reference, "LARGEST_OVERHANG_PIXELS", -array.size - 1)
        patch.setattr(spans, "LARGEST_BOX_PIXELS", -1)
        table = ENGINES[engine](Polygons(geometries).on(grid, rule), WANTED).statistics(array, 0)
    assert_same(table, np.array([whole(geometry, array, grid, rule) for geometry in geometries]), array.dtype)


@given(
    random=randoms,
    rule=rules,
    dtype=dtypes,
    batch=st.sampled_from([1, 20, 60_000]),
    exact=st.sampled_from([0, 10, 46_340]),
)
def test_batches_change_no_number(random: Random, rule: str, dtype: str, batch: int, exact: int) -> None:
    array = pixels(random, dtype)
    grid = Grid(Affine(PIXEL, 0, 0, 0, -PIXEL, 120), (array.shape[0], array.shape[1]))
    geometries = as_object_array([polygon(random, anywhere, SHAPES) for _ in range(5)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanline, "BATCH_PIXELS", batch)
        patch.setattr(scanline, "MOST_PIXELS_EXACT", exact)
        table = ENGINES["scanline"](Polygons(geometries).on(grid, rule), WANTED).statistics(array, 0)
    assert_same(table, np.array([whole(geometry, array, grid, rule) for geometry in geometries]), array.dtype)


def dense(random: Random, places: Places) -> shapely.Polygon:
    """Vertices and crossings in plenty: noise, a star whose points meet in its middle, or a zigzag that turns within
    pixels."""
    number, kind = int(random.integers(20, 200)), random.integers(3)
    if kind == 0:
        return shapely.Polygon(places(random, number))
    middle = places(random, 1)[0]
    if kind == 1:
        angle, radius = np.arange(number) * 2 * np.pi / number, np.where(np.arange(number) % 2, 80.0, 0.5)
        return shapely.Polygon(middle + (radius * [np.cos(angle), np.sin(angle)]).T)
    x = np.linspace(middle[0] - 60, middle[0] + 60, number)
    return shapely.Polygon(np.column_stack([x, np.where(np.arange(number) % 2, middle[1] - 50, middle[1] + 50)]))


@given(
    random=randoms, batch=st.sampled_from([0, 1, 7, 100, 500_000]), places=st.sampled_from([on_the_grid, anywhere]),
    gathered=st.booleans(),
)  # fmt: skip
def test_batches_of_crossings_change_no_number(random: Random, batch: int, places: Places, gathered: bool) -> None:
    file = stored(random, "uint16", 0)
    grid = Grid(Affine(PIXEL, 0, 0, 0, -PIXEL, 120), (file.array.shape[0], file.array.shape[1]))
    geometries = as_object_array([polygon(random, places, (dense, with_any_hole)) for _ in range(3)])
    polygons = Polygons(geometries).on(grid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "BATCH_CROSSINGS", batch)
        patch.setattr(grids, "LARGEST_WINDOW_PIXELS", 0 if gathered else 1_000_000)
        table = in_parts("scanline", polygons, file, None).table
    assert_same(table, np.array([whole(geometry, file.cleaned, grid) for geometry in geometries]), file.array.dtype)


@given(random=randoms, rule=rules, engine=engines, places=st.sampled_from([on_the_grid, anywhere]))
def test_histograms_hold_the_counted_pixels(random: Random, rule: str, engine: str, places: Places) -> None:
    classes = random.integers(0, 12, (12, 12), dtype=np.uint8)
    grid = Grid(Affine(PIXEL, 0, 0, 0, -PIXEL, 120), (12, 12))
    shape = polygon(random, places, (*SHAPES, with_any_hole))
    (histogram,) = ENGINES[engine](Polygons(as_object_array([shape])).on(grid, rule)).histograms(classes, 0)
    count, _, _, smallest, largest, *_ = whole(shape, classes, grid, rule)
    found: list[float] = sorted(map(float, histogram)) or [np.nan]
    np.testing.assert_equal((sum(histogram.values()), found[0], found[-1]), (count, smallest, largest))
