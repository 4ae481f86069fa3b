"""Pixels that count with the share that a parcel covers: the numbers are those of exactextract called directly, and no
polygon ends the process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import exactextract
import numpy as np
import pytest
import shapely
from affine import Affine
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from extractors.config import Extraction
from extractors.errors import ConfigurationError
from extractors.model import StatisticsRequest
from extractors.raster import grids
from extractors.raster.bands import Band
from extractors.raster.grids import GridBands
from extractors.raster.images import DecodedBand, StoredBand
from extractors.signatures import COUNT, EXTRA_NAMES, FRACTION, INVALID, PIXELS, with_extra
from extractors.statistics import zonal
from extractors.statistics.fraction import FractionZones
from extractors.statistics.grid import Floats, Grid, Polygons, PolygonsOnGrid
from extractors.statistics.pixels import Stored
from extractors.statistics.zonal import Question, reasons, verified
from tests.unit.test_zonal_property import (
    SHAPES,
    VALUES,
    InMemory,
    Random,
    anywhere,
    as_object_array,
    dense,
    dtypes,
    on_the_grid,
    polygon,
    randoms,
    stored,
    with_any_hole,
)  # fmt: skip

WANTED = with_extra(EXTRA_NAMES)
NAMES = [statistic.weighted for statistic in WANTED]


def parcels(grid: Grid, *geometries: BaseGeometry) -> PolygonsOnGrid:
    return Polygons(as_object_array(list(geometries))).on(grid, FRACTION)


def directly(geometry: BaseGeometry, array: NDArray[Any], grid: Grid, nodata: float = 0) -> list[float]:
    """What exactextract says of a valid polygon, one statistic at a time, through its own reader of GeoJSON."""
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(geometry)}

    def one(name: str, pixels: NDArray[Any]) -> float:
        source = NumPyRasterSource(pixels, *grid.bounds, nodata=pixels.dtype.type(nodata).item())
        (found,) = exactextract.exact_extract(source, [feature], [name])
        (number,) = found["properties"].values()
        return np.nan if number is None else float(number)

    count, everywhere = one("count", array), one("count", np.ones_like(array))
    if not count:
        return [0.0, *[np.nan] * (len(NAMES) - 1)]
    own = {PIXELS: everywhere, INVALID: everywhere - count}
    return [own[name] if name in own else one(name, array) for name in NAMES]


def worker_s(polygons: PolygonsOnGrid, in_memory: InMemory, tile: int | None) -> Floats:
    """What the worker does."""
    file: Any = in_memory
    grid, dtype = polygons.grid, str(in_memory.array.dtype)
    band = StoredBand(file, 1, 0, bool(in_memory.mask.any()))
    decoded = None if tile is None else DecodedBand(band, grid.shape, (tile, tile), dtype)
    group = GridBands(grid, (Band("B04", 32633, grid, band, decoded, dtype),))
    for need in group.tiles_under(polygons):
        need()
    table = np.array([[0.0, *[np.nan] * (len(NAMES) - 1)]] * len(polygons))
    request = StatisticsRequest("exactextract", 5, (), WANTED, FRACTION)
    for part in group.parts(polygons):
        if part.polygons is not None:
            found = verified(request, part.polygons, Question([Stored(part.arrays[0], 0)]))
            (table[part.chosen],) = found.tables
            assert not found.recomputed
    return table


@settings(max_examples=300)
@given(
    random=randoms,
    content=st.tuples(st.sampled_from(sorted(VALUES)), st.sampled_from([0.0, 0.3])),
    reading=st.sampled_from([(0, None), (30, None), (1_000_000, None), (0, 5), (1_000_000, 5)]),
    places=st.sampled_from([on_the_grid, anywhere]),
)
def test_the_numbers_are_exactextract_s(
    random: Random, content: tuple[str, float], reading: tuple[int, int | None], places: Any
) -> None:
    (dtype, declares), (largest_window, tile) = content, reading
    file = stored(random, dtype if tile is None else dtype.split(maxsplit=1)[0], declares)
    rows, columns = file.array.shape
    grid = Grid(Affine(10, 0, 0, 0, -10, 120), (rows, columns))
    image = shapely.box(*grid.bounds)
    geometries: list[BaseGeometry] = []
    while len(geometries) < 5:
        shape = polygon(random, places, SHAPES)
        # exactextract itself ends the process over others.
        if shapely.is_valid(shape) and shapely.disjoint(shape.boundary, image.boundary):
            geometries.append(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "LARGEST_WINDOW_PIXELS", largest_window)
        table = worker_s(parcels(grid, *geometries), file, tile)
    expected = [directly(geometry, file.cleaned, grid) for geometry in geometries]
    np.testing.assert_allclose(table, expected, rtol=1e-9, atol=1e-6)


@settings(max_examples=300)
@given(random=randoms, dtype=dtypes, places=st.sampled_from([on_the_grid, anywhere]))
def test_any_polygon_has_its_area(random: Random, dtype: str, places: Any) -> None:
    """Invalid ones, and those that only touch the image, among them. (exactextract itself is wrong about some stars of
    thin spikes: of these, and of noise, only that there is a number.)"""
    array = np.ones((12, 12), dtype)
    grid = Grid(Affine(10, 0, 0, 0, -10, 120), (12, 12))
    shapes = [polygon(random, places, (*SHAPES, with_any_hole)) for _ in range(5)]
    wild = FractionZones(parcels(grid, polygon(random, places, (dense,)))).statistics(array, 0)
    assert ((wild[:, COUNT] >= 0) & (wild[:, COUNT] <= 144)).all()
    zones = FractionZones(parcels(grid, *shapes), WANTED)
    table = zones.statistics(array, 0)
    valid = shapely.make_valid(as_object_array(shapes), method="structure", keep_collapsed=False)
    areas = shapely.area(shapely.intersection(valid, shapely.box(*grid.bounds))) / 100
    # What was repaired may run along edges and through corners of pixels, within rounding errors of them.
    off = np.where(shapely.is_valid(as_object_array(shapes)) | (places is anywhere), 1e-4, 2)
    assert (np.abs(table[:, COUNT] - areas) <= off).all()
    np.testing.assert_allclose(zones.pixels, table[:, COUNT])


# Worked examples

GRID = Grid(Affine(10, 0, 0, 0, -10, 40), (4, 4))
FOUR = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]], np.uint8)


def test_a_parcel_of_shares() -> None:
    """Half of 1 and 5, a quarter of 2 and 6."""
    zones = FractionZones(parcels(GRID, shapely.box(5, 20, 12.5, 40)), WANTED)
    row = dict(zip([statistic.name for statistic in WANTED], zones.statistics(FOUR, 5)[0].tolist(), strict=True))
    assert row["count"] == 1  # without 5, which is nodata here
    assert row["mean"] == row["sum"] == 0.5 * 1 + 0.25 * 2 + 0.25 * 6
    assert (row["min"], row["max"], row["majority"]) == (1, 6, 1)
    assert (row["pixels"], row["nodata"]) == (1.5, 0.5)


def test_of_several_values_exactextract_takes_the_largest() -> None:
    table = FractionZones(parcels(GRID, shapely.box(0, 0, 40, 40)), WANTED).statistics(FOUR, 0)
    assert table[0, 8 + EXTRA_NAMES.index("majority")] == 16


def test_reasons() -> None:
    shapes = [
        shapely.box(100, 0, 110, 10), shapely.Polygon([(5, 5), (15, 5), (5, 5)]), shapely.box(1, 31, 9, 39),
        shapely.box(40, 0, 50, 10), shapely.box(11, 11, 19, 19),
    ]  # fmt: skip
    polygons = parcels(GRID, *shapes)
    zones = FractionZones(polygons)
    counts = zones.statistics(FOUR, 1)[:, COUNT]
    assert {reason: found.tolist() for reason, found in reasons(polygons, zones, counts).items()} == {
        "outside": [0, 3], "no_pixel": [1], "nodata": [2],
    }  # fmt: skip


@pytest.mark.parametrize(
    "shape",
    [
        "POLYGON ((10 10, 30 10, 30 60, 10 60, 10 10), (12 40, 14 40, 14 50, 12 50, 12 40))",
        "MULTIPOLYGON (((10 10, 30 10, 30 30, 10 30, 10 10)), ((0 10, 0 20, -40 20, -40 10, 0 10)))",
        "MULTIPOLYGON (((10 10, 30 10, 30 30, 10 30, 10 10)), ((65 20, 65 20, 60 20, 60 20, 65 20)))",
    ],
)
def test_polygons_that_end_exactextract_s_process(shape: str) -> None:
    """Rectangles that only touch the image, and without area: seen with version 0.3.0."""
    script = f"""
import numpy as np, shapely
from affine import Affine
from extractors.statistics.fraction import FractionZones
from extractors.statistics.grid import Grid, Polygons

grid = Grid(Affine(10, 0, 0, 0, -10, 40), (4, 4))
shapes = np.array([shapely.from_wkt("{shape}")], dtype=object)
print(FractionZones(Polygons(shapes).on(grid, "fraction")).statistics(np.ones((4, 4), "u1"), 0)[0, 0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "6.0\n" if "(12 40" in shape else "4.0\n"), done.stderr


def test_what_cannot_be_made_valid_in_time_is_not_tried() -> None:
    many = shapely.Polygon(np.random.default_rng(1).uniform(0, 40, (1000, 2)))
    round_one = shapely.Point(20, 20).buffer(10, quad_segs=1000)
    few = shapely.Polygon([(0, 0), (40, 40), (40, 0), (0, 40)])
    assert parcels(GRID, many, round_one, few).usable.tolist() == [False, True, True]
    assert Polygons(as_object_array([many])).on(GRID).usable.tolist() == [True]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zonal.check_fractions().startswith("exactextract ")
    monkeypatch.setattr(zonal, "FractionZones", None)
    monkeypatch.setattr(zonal, "MISSING", "No module named 'exactextract'")
    with pytest.raises(ConfigurationError, match=r'fraction needs .*No module named.*"parcel-extraction\[fraction\]"'):
        zonal.check_fractions()


def test_the_rule_is_one_of_three() -> None:
    assert Extraction().pixel_rule == "centre"
    assert Extraction(pixel_rule="fraction").meaning("bs")["pixel_rule"] == FRACTION
