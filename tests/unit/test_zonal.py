"""Zonal statistics as worked examples: the answers were computed by hand, from the pixels that lie in the parcel.

Every example holds for both engines.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from extractors.config import ENGINE_NAMES
from extractors.model import StatisticsRequest
from extractors.signatures import COUNT, EXTRA_NAMES, NAMES, rescaled, with_extra
from extractors.statistics import zonal
from extractors.statistics.grid import Floats, Grid, Integers, Polygons, PolygonsOnGrid
from extractors.statistics.pixels import Pixels as Values
from extractors.statistics.pixels import Stored
from extractors.statistics.rasterstats import RasterstatsZones
from extractors.statistics.zonal import ENGINES, Question, Zones, agree, reasons, verified

TEN_METRES = Affine(10, 0, 0, 0, -10, 40)
"""Four rows of pixels of 10 m: x from 0 to the right, y from 40 downwards."""

SIXTEEN = np.array(
    [
        [1, 2, 3, 4],  # y 40 to 30
        [5, 6, 7, 8],
        [9, 10, 11, 12],
        [13, 14, 15, 16],  # y 10 to 0
    ],
    dtype=np.uint8,
)
EVERYTHING = shapely.box(0, 0, 40, 40)
MIDDLE = shapely.box(10, 10, 30, 30)


@dataclass(frozen=True)
class Pixels:
    """A small raster whose upper left corner is at (0, 40)."""

    array: NDArray[Any]
    nodata: float

    @property
    def grid(self) -> Grid:
        rows, columns = self.array.shape
        return Grid(TEN_METRES, (rows, columns))


def raster(pixels: Any, dtype: Any = np.float32, nodata: float = 0) -> Pixels:
    return Pixels(np.asarray(pixels, dtype=dtype), nodata)


def parcels(grid: Grid, *geometries: BaseGeometry) -> PolygonsOnGrid:
    return Polygons(np.array(geometries, dtype=object)).on(grid)


def in_order(positions: dict[str, Integers]) -> list[str]:
    """The reasons of parcels, in the order of these."""
    found = sorted((position, reason) for reason, chosen in positions.items() for position in chosen.tolist())
    return [reason for _, reason in found]


@dataclass(frozen=True)
class Ask:
    """What the tests ask one engine."""

    engine: str

    def table(self, pixels: Pixels, *shapes: BaseGeometry) -> tuple[list[list[float]], list[str]]:
        """Statistics of each parcel, and the reasons of those that have none."""
        polygons = parcels(pixels.grid, *shapes)
        zones = ENGINES[self.engine](polygons)
        table = zones.statistics(pixels.array, pixels.nodata)
        assert table.shape == (len(shapes), len(NAMES))
        assert table.dtype == np.float64
        why = in_order(reasons(polygons, zones, table[:, COUNT]))
        return [[float(number) for number in row] for row in table], why

    def statistics(self, pixels: Pixels, parcel: BaseGeometry) -> tuple[float, ...]:
        """count, mean, std, min, max, p25, p50, p75 of one parcel that must have a row."""
        ((*row,),), why = self.table(pixels, parcel)
        assert why == []
        return tuple(row)

    def reason(self, pixels: Pixels, parcel: BaseGeometry) -> str:
        """Why one parcel has no row; all its statistics must be empty then."""
        ((count, *rest),), (why,) = self.table(pixels, parcel)
        assert count == 0
        assert np.isnan(rest).all()
        return why

    def histograms(self, pixels: Pixels, *shapes: BaseGeometry) -> list[dict[str, int]]:
        return ENGINES[self.engine](parcels(pixels.grid, *shapes)).histograms(pixels.array, pixels.nodata)

    def pixels(self, pixels: Pixels, *shapes: BaseGeometry) -> list[int]:
        found: list[int] = ENGINES[self.engine](parcels(pixels.grid, *shapes)).pixels.tolist()
        return found


@pytest.fixture(params=ENGINE_NAMES)
def ask(request: pytest.FixtureRequest) -> Ask:
    return Ask(request.param)


# With statistics


def test_four_pixels(ask: Ask) -> None:
    # 6, 7, 10, 11: squares of the distances from 8.5 are 6.25, 2.25, 2.25, 6.25, so the variance is 17 / 4
    assert ask.statistics(raster(SIXTEEN), MIDDLE) == pytest.approx((4, 8.5, np.sqrt(4.25), 6, 11, 6.75, 8.5, 10.25))


def test_one_pixel(ask: Ask) -> None:
    assert ask.statistics(raster(SIXTEEN), shapely.box(0, 30, 10, 40)) == (1, 1, 0, 1, 1, 1, 1, 1)


def test_std_is_that_of_the_population_and_percentiles_are_linear(ask: Ask) -> None:
    two = raster([[2, 4]])
    assert ask.statistics(two, EVERYTHING) == (2, 3, 1, 2, 4, 2.5, 3, 3.5)


def test_nodata_is_left_out(ask: Ask) -> None:
    # 2, 4, 6, 8 remain: variance (9 + 1 + 1 + 9) / 4
    pixels = raster([[0, 2, 0, 4], [6, 0, 8, 0]])
    assert ask.statistics(pixels, EVERYTHING) == pytest.approx((4, 5, np.sqrt(5), 2, 8, 3.5, 5, 6.5))


def test_nan_is_left_out(ask: Ask) -> None:
    assert ask.statistics(raster([[1, np.nan], [3, 0]]), EVERYTHING) == (2, 2, 1, 1, 3, 1.5, 2, 2.5)


def test_nodata_can_be_another_value(ask: Ask) -> None:
    assert ask.statistics(raster([[0, 255, 2]], np.uint8, nodata=255), EVERYTHING) == (2, 1, 1, 0, 2, 0.5, 1, 1.5)


def test_negative_pixels_are_data(ask: Ask) -> None:
    assert ask.statistics(raster([[-3, 0, 1]], np.int16), EVERYTHING) == (2, -1, 2, -3, 1, -2, -1, 0)


def test_sums_do_not_overflow_the_pixel_type(ask: Ask) -> None:
    assert ask.statistics(raster([[250, 250, 254, 254]], np.uint8), EVERYTHING)[:3] == (4, 252, 2)
    assert ask.statistics(raster([[65_000, 65_000, 65_004, 65_004]], np.uint16), EVERYTHING)[:3] == (4, 65_002, 2)


@pytest.mark.parametrize(("dtype", "low", "high"), [("uint16", 1, 65_535), ("int16", -32_768, -2), ("uint8", 1, 255)])
@pytest.mark.parametrize("columns", [2317, 2318])  # 46,340 and 46,360 pixels
def test_squares_do_not_overflow_either(columns: int, dtype: str, low: int, high: int, ask: Ask) -> None:
    half = [low, high] * (columns // 2) + [low] * (columns % 2)
    pixels = raster([half, half[::-1]] * 10, dtype)
    parcel = shapely.box(*pixels.grid.bounds)
    counted, mean, std, smallest, largest, *_ = ask.statistics(pixels, parcel)
    number = np.count_nonzero(pixels.array == high)
    expected = low + (high - low) * number / (20 * columns)
    assert (counted, smallest, largest) == (20 * columns, low, high)
    assert mean == pytest.approx(expected, rel=1e-12)
    assert std == pytest.approx(np.sqrt((expected - low) * (high - expected)), rel=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_every_pixel_type_gives_the_same_numbers(dtype: str, ask: Ask) -> None:
    assert ask.statistics(raster(SIXTEEN, dtype), MIDDLE) == pytest.approx(
        (4, 8.5, np.sqrt(4.25), 6, 11, 6.75, 8.5, 10.25)
    )


@pytest.mark.parametrize(("right_edge", "pixels"), [(5.1, 1), (14.9, 1), (15.1, 2), (24.9, 2), (25.1, 3), (39.9, 4)])
def test_a_pixel_belongs_to_the_parcel_that_holds_its_centre(right_edge: float, pixels: int, ask: Ask) -> None:
    assert ask.statistics(raster(SIXTEEN), shapely.box(0, 30, right_edge, 40))[0] == pixels


def test_a_hole_is_not_part_of_the_parcel(ask: Ask) -> None:
    # all but 6, 7, 10, 11: sum 136 - 34, squares of the distances from 8.5 add up to 323
    ring = EVERYTHING.difference(MIDDLE)
    assert ask.statistics(raster(SIXTEEN), ring) == pytest.approx((12, 8.5, np.sqrt(323 / 12), 1, 16, 3.75, 8.5, 13.25))


def test_the_parts_of_a_multipolygon_are_one_parcel(ask: Ask) -> None:
    corners = shapely.MultiPolygon([shapely.box(0, 30, 10, 40), shapely.box(30, 0, 40, 10)])
    assert ask.statistics(raster(SIXTEEN), corners) == (2, 8.5, 7.5, 1, 16, 4.75, 8.5, 12.25)


def test_partly_outside_counts_the_pixels_inside(ask: Ask) -> None:
    assert ask.statistics(raster(SIXTEEN), shapely.box(-100, 20, 20, 100)) == pytest.approx(
        (4, 3.5, np.sqrt(4.25), 1, 6, 1.75, 3.5, 5.25)
    )


def test_far_beyond_the_raster_on_all_sides(ask: Ask) -> None:
    # As an array of its own this parcel would have 4 million million pixels.
    assert ask.statistics(raster(SIXTEEN), shapely.box(-1e7, -1e7, 1e7, 1e7))[:2] == (16, 8.5)


def test_a_hole_far_beyond_the_raster(ask: Ask) -> None:
    frame = shapely.box(-1e7, -1e7, 1e7, 1e7).difference(shapely.box(-1e6, -1e6, 1e6, 20))
    assert ask.statistics(raster(SIXTEEN), frame)[:5] == pytest.approx((8, 4.5, np.sqrt(5.25), 1, 8))


def test_a_bow_tie_far_beyond_the_raster(ask: Ask) -> None:
    # Its wings meet in the middle of the raster, one above and one below; the edges rise 1 m every 2 m. They hold the
    # upper and the lower row, and 6, 7, 10, 11: squares of the distances from 8.5 add up to 340 - 25.
    wings = shapely.Polygon([(20 - 2e7, 20 + 1e7), (20 + 2e7, 20 + 1e7), (20 - 2e7, 20 - 1e7), (20 + 2e7, 20 - 1e7)])
    assert ask.statistics(raster(SIXTEEN), wings) == pytest.approx(
        (12, 8.5, np.sqrt(315 / 12), 1, 16, 3.75, 8.5, 13.25)
    )


def test_overlapping_parts_far_beyond_the_raster(ask: Ask) -> None:
    # Invalid, but drawn part by part: what lies in two parts is not left out, far or near.
    near = shapely.MultiPolygon([shapely.box(-60, -60, 60, 60), MIDDLE])
    far = shapely.MultiPolygon([shapely.box(-1e7, -1e7, 1e7, 1e7), MIDDLE])
    assert ask.statistics(raster(SIXTEEN), near)[:2] == (16, 8.5)
    assert ask.statistics(raster(SIXTEEN), far)[:2] == (16, 8.5)


def test_a_spike_on_a_parcel_far_beyond_the_raster(ask: Ask) -> None:
    # The right half of the raster belongs to the parcel, its spike crosses the left half between the centres.
    far = shapely.Polygon([(20, -1e7), (1e7, -1e7), (1e7, 1e7), (20, 1e7), (20, 23), (2, 23), (20, 23)])
    assert ask.statistics(raster(SIXTEEN), far)[:2] == (8, 9.5)


# Without statistics


@pytest.mark.parametrize(
    "parcel",
    [shapely.box(50, 0, 60, 10), shapely.box(40, 0, 50, 40), shapely.box(0, 40, 40, 50), shapely.box(-1e9, -9, 0, 9)],
    ids=["beside it", "touching its right edge", "touching its upper edge", "endless, to its left"],
)
def test_outside(parcel: BaseGeometry, ask: Ask) -> None:
    assert ask.reason(raster(SIXTEEN), parcel) == "outside"


@pytest.mark.parametrize(
    "parcel",
    [
        shapely.box(0, 21, 40, 24),
        shapely.box(21, 21, 24, 24),
        shapely.box(-100, -100, 4.9, 4.9),
        shapely.box(0, 30, 4.9, 40),
    ],
    ids=["a strip between the centres", "in a corner of a pixel", "reaching in from outside", "less than half a pixel"],
)
def test_no_pixel(parcel: BaseGeometry, ask: Ask) -> None:
    assert ask.reason(raster(SIXTEEN), parcel) == "no_pixel"


@pytest.mark.parametrize(
    "parcel",
    [
        shapely.Polygon([(10, 12), (10, 28), (10, 12)]),
        shapely.Polygon([(12, 20), (28, 20), (12, 20)]),
        shapely.Polygon([(20, 20), (20, 20), (20, 20), (20, 20)]),
        shapely.Polygon([(12, 13), (12, 13), (12, 13), (12, 13)]),
        shapely.Polygon([(12, 12), (13, 14), (12, 12)]),
    ],
    ids=["along a column edge", "along a row edge", "a corner of pixels", "a point in a pixel", "a line in a pixel"],
)
def test_a_polygon_without_extent_has_no_pixel(parcel: BaseGeometry, ask: Ask) -> None:
    assert ask.reason(raster(SIXTEEN), parcel) == "no_pixel"


def test_its_bounding_box_covers_the_raster_but_itself_does_not(ask: Ask) -> None:
    corner = shapely.Polygon([(-1e7, -1e7), (1e7, -1e7), (1e7, -1e6), (-1e6, -1e6), (-1e6, 1e7), (-1e7, 1e7)])
    assert ask.reason(raster(SIXTEEN), corner) == "no_pixel"


def test_a_spike_of_a_far_reaching_parcel_has_no_pixel(ask: Ask) -> None:
    # The same shape within the limit has none: the spike crosses the raster between the centres of its rows.
    near = shapely.Polygon([(-60, 40), (-10, 40), (-10, 23), (39, 23), (-10, 23), (-10, -40), (-60, -40)])
    far = shapely.Polygon([(-1e6, 1e6), (-1e5, 1e6), (-1e5, 23), (39, 23), (-1e5, 23), (-1e5, -1e6), (-1e6, -1e6)])
    assert ask.reason(raster(SIXTEEN), near) == "no_pixel"
    assert ask.reason(raster(SIXTEEN), far) == "no_pixel"


@pytest.mark.parametrize("pixels", [[[0, 0], [0, 0]], [[np.nan, 0], [0, np.nan]]])
def test_nodata_only(pixels: list[list[float]], ask: Ask) -> None:
    assert ask.reason(raster(pixels), EVERYTHING) == "nodata"


def test_on_nodata_beside_data(ask: Ask) -> None:
    assert ask.reason(raster([[0, 7]]), shapely.box(0, 30, 10, 40)) == "nodata"


# Tables


def test_one_row_per_parcel_in_the_order_given(ask: Ask) -> None:
    table, why = ask.table(
        raster([[0, 2, 4, 6]]),
        shapely.box(30, 30, 40, 40),
        shapely.box(90, 30, 99, 40),
        shapely.box(10, 30, 30, 40),
        shapely.box(0, 30, 10, 40),
        shapely.box(11, 31, 12, 32),
    )
    assert [row[:2] for row in table if row[0]] == [[1, 6], [2, 3]]
    assert [row[0] for row in table] == [1, 0, 2, 0, 0]
    assert why == ["outside", "nodata", "no_pixel"]


def test_the_same_parcel_twice_and_overlapping_neighbours(ask: Ask) -> None:
    table, _ = ask.table(raster(SIXTEEN), MIDDLE, MIDDLE, EVERYTHING)
    assert [row[:2] for row in table] == [[4, 8.5], [4, 8.5], [16, 8.5]]


def test_pixels_are_counted_whether_valid_or_not(ask: Ask) -> None:
    pixels = raster([[0, np.nan, 4, 6]])
    assert ask.pixels(pixels, shapely.box(0, 30, 30, 40), shapely.box(11, 31, 12, 32), shapely.box(90, 0, 99, 9)) == [
        3,
        0,
        0,
    ]


def test_the_input_is_left_as_it_was(ask: Ask) -> None:
    far = shapely.box(-1e7, -1e7, 1e7, 1e7)
    pixels = raster(SIXTEEN, np.uint8)
    pixels.array.flags.writeable = False
    ask.table(pixels, far, MIDDLE)
    ask.histograms(pixels, far, MIDDLE)
    assert far.equals(shapely.box(-1e7, -1e7, 1e7, 1e7))


def test_no_parcels_give_an_empty_table(ask: Ask) -> None:
    assert ask.table(raster(SIXTEEN)) == ([], [])
    assert ask.histograms(raster(SIXTEEN, np.uint8)) == []
    assert ask.pixels(raster(SIXTEEN)) == []


def test_one_array_after_the_other(ask: Ask) -> None:
    # The bands of a scene share the parcels' pixels, but not which of them are valid.
    zones = ENGINES[ask.engine](parcels(raster(SIXTEEN).grid, EVERYTHING))
    clouded = np.where(SIXTEEN > 8, 0, SIXTEEN)
    assert zones.statistics(SIXTEEN, 0)[0, :2].tolist() == [16, 8.5]
    assert zones.statistics(clouded, 0)[0, :2].tolist() == [8, 4.5]
    assert zones.statistics(SIXTEEN, 0)[0, :2].tolist() == [16, 8.5]


def test_without_any_pixel_nearby_a_parcel_is_outside_or_between_the_centres() -> None:
    strip = shapely.Polygon([(10, 12), (10, 28), (10, 12)])
    polygons = parcels(raster(SIXTEEN).grid, shapely.box(50, 0, 60, 10), strip)
    assert in_order(reasons(polygons, None, np.zeros(2))) == ["outside", "no_pixel"]


def test_bounds_are_west_south_east_north() -> None:
    grid = Grid(Affine(20, 0, 600_000, 0, -20, 5_100_000), (3, 5))
    assert grid.bounds == (600_000, 5_099_940, 600_100, 5_100_000)
    assert grid.cut(slice(1, 3), slice(2, 5)) == Grid(Affine(20, 0, 600_040, 0, -20, 5_099_980), (2, 3))


# Histograms of classes


def test_histograms(ask: Ask) -> None:
    assert ask.histograms(
        raster([[4, 4, 5, 0], [4, 8, 5, 0]], np.uint8),
        EVERYTHING,
        shapely.box(0, 20, 20, 40),
        shapely.box(20, 20, 40, 40),
        shapely.box(30, 20, 40, 40),
        shapely.box(50, 0, 60, 10),
        shapely.box(11, 31, 12, 32),
        shapely.Polygon([(10, 22), (10, 38), (10, 22)]),
        shapely.box(-1e7, -1e7, 1e7, 1e7),
    ) == [{"4": 3, "5": 2, "8": 1}, {"4": 3, "8": 1}, {"5": 2}, {}, {}, {}, {}, {"4": 3, "5": 2, "8": 1}]


def test_histogram_and_statistics_count_the_same_pixels(ask: Ask) -> None:
    pixels = raster(SIXTEEN % 4, np.uint8)
    shapes = (MIDDLE, EVERYTHING, EVERYTHING.difference(MIDDLE), shapely.box(-9, -9, 16, 16))
    table, _ = ask.table(pixels, *shapes)
    assert [sum(histogram.values()) for histogram in ask.histograms(pixels, *shapes)] == [row[0] for row in table]


# Checked against rasterstats


def test_the_engines_that_the_configuration_offers_are_there() -> None:
    assert tuple(ENGINES) == ENGINE_NAMES


@dataclass(frozen=True)
class OneTooMany:
    """An engine that is wrong about one parcel: it counts a pixel more."""

    zones: Zones
    wrong: int

    @property
    def pixels(self) -> NDArray[np.int64]:
        return self.zones.pixels

    def statistics(self, values: Values | NDArray[Any], nodata: float = 0) -> Floats:
        table = self.zones.statistics(values, nodata)
        table[self.wrong, COUNT] += 1
        return table

    def histograms(self, values: Values | NDArray[Any], nodata: float = 0) -> list[dict[str, int]]:
        return self.zones.histograms(values, nodata)

    def marked(self, marks: Values) -> NDArray[np.int64]:
        return self.zones.marked(marks)

    def some(self, chosen: NDArray[np.int64]) -> Zones:
        return self.zones.some(chosen)


CORNERS = parcels(raster(SIXTEEN).grid, *(shapely.box(x, y, x + 10, y + 10) for x in (0, 10, 20, 30) for y in (0, 30)))


def judged(parcels: int) -> StatisticsRequest:
    return StatisticsRequest("scanline", parcels, ())


def checked(
    request: StatisticsRequest, polygons: PolygonsOnGrid, arrays: list[NDArray[Any]]
) -> tuple[list[Floats], bool]:
    """Tables for arrays in which 0 is nodata, and whether rasterstats had to compute them."""
    found = verified(request, polygons, Question([Stored(array, 0) for array in arrays]))
    return found.tables, found.recomputed


def with_one_wrong(monkeypatch: pytest.MonkeyPatch, wrong: int) -> None:
    def engine(polygons: PolygonsOnGrid, _: Any) -> Zones:
        return OneTooMany(ENGINES["rasterstats"](polygons), wrong)

    monkeypatch.setattr(zonal, "ENGINES", dict[str, Any](ENGINES, scanline=engine))


@pytest.mark.parametrize(("sample", "wrong"), [(1, 0), (2, 7), (8, 3), (100, 5)])
def test_a_wrong_number_makes_rasterstats_compute_all(
    sample: int, wrong: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_one_wrong(monkeypatch, wrong)
    (table,), recomputed = checked(judged(sample), CORNERS, [SIXTEEN])
    assert recomputed
    assert table[:, COUNT].tolist() == [1] * 8
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("engine scanline: [2.0, ")
    assert record.getMessage().endswith("; recomputing these 8 parcels with rasterstats")


def test_only_the_sample_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with_one_wrong(monkeypatch, 3)
    for sample in (0, 1, 2):
        (table,), recomputed = checked(judged(sample), CORNERS, [SIXTEEN])
        assert not recomputed
        assert table[3, COUNT] == 2


def test_every_band_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    # The parcels of the sample take turns with the bands: one band wrong about all of them is found out.
    infrared = SIXTEEN.astype(np.uint16) * 100

    class WrongAboutOneBand(RasterstatsZones):
        def statistics(self, values: Values | NDArray[Any], nodata: float = 0) -> Floats:
            return super().statistics(values, nodata) + (values.dtype == np.uint16)

    monkeypatch.setattr(zonal, "ENGINES", {**ENGINES, "scanline": WrongAboutOneBand})
    both: list[NDArray[Any]] = [SIXTEEN, infrared]
    for arrays in (both, both[::-1]):
        tables, recomputed = checked(judged(2), CORNERS, arrays)
        assert recomputed
        assert [table[:, COUNT].tolist() for table in tables] == [[1] * 8] * 2


def test_right_numbers_stay(caplog: pytest.LogCaptureFixture) -> None:
    arrays: list[NDArray[Any]] = [SIXTEEN, SIXTEEN.astype(np.float32), np.zeros_like(SIXTEEN)]
    tables, recomputed = checked(judged(8), CORNERS, arrays)
    assert not recomputed
    assert [table[:, COUNT].sum() for table in tables] == [8, 8, 0]
    assert caplog.messages == []


@pytest.mark.parametrize("column", range(8))
def test_agreement_is_exact_but_for_mean_and_std(column: int) -> None:
    row = np.array([[4, 8.5, 2.0, 6, 11, 6.75, 8.5, 10.25]])
    other = row.copy()
    other[0, column] += 1e-6
    rounding = column in (1, 2)
    assert agree(row, other, np.dtype("float32")).tolist() == [rounding]
    assert agree(row, other, np.dtype("uint16")).tolist() == [False]
    other[0, column] = row[0, column] * (1 + 1e-12)
    assert agree(row, other, np.dtype("uint16")).tolist() == [rounding]


def test_rows_without_pixels_agree_with_each_other_only() -> None:
    empty = np.array([[0.0, *[np.nan] * 7]])
    one = np.array([[1.0, 5, 0, 5, 5, 5, 5, 5]])
    assert agree(empty, empty, np.dtype("uint8")).tolist() == [True]
    assert agree(empty, one, np.dtype("uint8")).tolist() == [False]
    assert agree(one, empty, np.dtype("uint8")).tolist() == [False]


# Statistics that are added


def added(engine: str, pixels: Pixels, *shapes: BaseGeometry) -> list[dict[str, float]]:
    """The additional statistics of each parcel."""
    zones = ENGINES[engine](parcels(pixels.grid, *shapes), with_extra(EXTRA_NAMES))
    table = zones.statistics(pixels.array, pixels.nodata)
    np.testing.assert_equal(
        table[:, : len(NAMES)],
        ENGINES[engine](parcels(pixels.grid, *shapes)).statistics(pixels.array, pixels.nodata),
    )
    return [dict(zip(EXTRA_NAMES, row[len(NAMES) :].tolist(), strict=True)) for row in table]


def test_statistics_are_added_in_their_order() -> None:
    assert [statistic.name for statistic in with_extra(["nodata", "p90"])] == [*NAMES, "p90", "nodata"]
    assert [statistic.name for statistic in with_extra([])] == list(NAMES)


def test_additional_statistics(ask: Ask) -> None:
    pixels = raster([[5, 5, 0, 9], [np.nan, 1, 2, 9]])
    shapes = (shapely.box(0, 20, 40, 40), shapely.box(0, 20, 10, 40), shapely.box(20, 30, 30, 40))
    whole, left, nothing = added(ask.engine, pixels, *shapes)
    assert whole == {
        "p10": pytest.approx(1.5), "p90": 9, "sum": 31, "majority": 5, "pixels": 8, "nodata": 2
    }  # fmt: skip
    assert left == {"p10": 5, "p90": 5, "sum": 5, "majority": 5, "pixels": 2, "nodata": 1}
    assert np.isnan(list(nothing.values())).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_of_several_values_the_smallest_is_the_commonest(dtype: str, ask: Ask) -> None:
    shapes = [shapely.box(0, top - 10, 40, top) for top in (40, 30, 20, 10)]
    pixels = raster([[7, 3, 7, 3], [2, 2, 2, 2], [9, 8, 9, 9], [4, 0, 1, 4]], dtype)
    assert [row["majority"] for row in added(ask.engine, pixels, *shapes)] == [3, 2, 9, 4]


def test_a_sum_of_integers_is_exact(ask: Ask) -> None:
    pixels = raster([[4_294_967_295] * 1000] * 100, np.uint32)
    (row,) = added(ask.engine, pixels, shapely.box(*pixels.grid.bounds))
    assert row["sum"] == 4_294_967_295 * 100_000


def test_pixels_beyond_the_raster_are_no_pixels(ask: Ask) -> None:
    (row,) = added(ask.engine, raster(SIXTEEN), shapely.box(-20, 20, 20, 60))
    assert (row["pixels"], row["nodata"]) == (4, 0)


def test_statistics_of_scaled_pixels(ask: Ask) -> None:
    names = with_extra(EXTRA_NAMES)
    shapes = (EVERYTHING, MIDDLE)
    pixels = raster(SIXTEEN, np.float64)
    table = ENGINES[ask.engine](parcels(pixels.grid, *shapes), names).statistics(pixels.array, 0)
    scaled = ENGINES[ask.engine](parcels(pixels.grid, *shapes), names).statistics(pixels.array * 0.5 - 1000, 0)
    np.testing.assert_allclose(rescaled(table, 0.5, -1000, names), scaled, rtol=1e-12)
    assert rescaled(table, 1, 0, names) is table


@pytest.mark.parametrize("name", EXTRA_NAMES)
def test_additional_statistics_are_judged(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = with_extra(EXTRA_NAMES)
    column = [statistic.name for statistic in wanted].index(name)

    class Wrong(OneTooMany):
        def statistics(self, values: Values | NDArray[Any], nodata: float = 0) -> Floats:
            table = self.zones.statistics(values, nodata)
            table[self.wrong, column] += 1
            return table

    right = ENGINES["rasterstats"](CORNERS, wanted).statistics(SIXTEEN, 0)

    def engine(polygons: PolygonsOnGrid, names: Any) -> Zones:
        return Wrong(ENGINES["rasterstats"](polygons, names), 3)

    monkeypatch.setattr(zonal, "ENGINES", dict[str, Any](ENGINES, scanline=engine))
    (table,), recomputed = checked(StatisticsRequest("scanline", 8, (), wanted), CORNERS, [SIXTEEN])
    assert recomputed
    np.testing.assert_equal(table, right)
    assert len(caplog.messages) == 1


def test_a_sum_may_be_as_far_off_as_its_number_of_pixels() -> None:
    """rasterstats adds float32 pixels in float32."""
    wanted = with_extra(["sum"])
    row = np.array([[1000, 8.5, 2.0, 6, 11, 6.75, 8.5, 10.25, 8500.0]])
    for change, dtype, same in ((0.05, "float32", True), (0.5, "float32", False), (0.05, "uint16", False)):
        other = row + np.array([[0] * 8 + [change]])
        assert agree(other, row, np.dtype(dtype), wanted).tolist() == [same], change


def test_a_new_statistic_is_one_entry_in_the_list() -> None:
    """In a process of its own, in which the list has a range as well."""
    script = """
import numpy as np, shapely
from affine import Affine
from extractors import signatures
from extractors.signatures import Statistic

signatures.EXTRA += (Statistic("range", lambda values: values.highest - values.lowest, "range", "range"),)
wanted = signatures.with_extra(["range"])

from extractors.model import StatisticsRequest
from extractors.statistics.grid import Grid, Polygons
from extractors.statistics.pixels import Stored
from extractors.statistics.zonal import ENGINES, Question, verified

grid = Grid(Affine(10, 0, 0, 0, -10, 40), (4, 4))
shapes = [shapely.box(0, 0, 40, 40), shapely.box(0, 30, 20, 40), shapely.box(50, 0, 60, 10)]
polygons = Polygons(np.array(shapes, dtype=object)).on(grid)
pixels = np.arange(1, 17, dtype=np.uint16).reshape(4, 4)
for engine in ENGINES:
    found = verified(StatisticsRequest(engine, 3, (), wanted), polygons, Question([Stored(pixels, 0)]))
    (table,), recomputed = found.tables, found.recomputed
    print(engine, recomputed, [row[[signatures.COUNT, 8]].tolist() for row in table])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        f"{engine} False [[16.0, 15.0], [2.0, 1.0], [0.0, nan]]" for engine in ENGINE_NAMES
    ], done.stderr
