"""Layers that are more than a band: formulas, bands on other grids, clear pixels, decibels.

For any polygons and pixels, and however these are read, the numbers are rasterstats' on whole arrays that numpy has
made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterstats
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from extractors.indices import Formula
from extractors.model import Layer, ParcelChunk, StatisticsRequest
from extractors.raster import grids
from extractors.raster.bands import Band
from extractors.raster.chunks import ChunkTask
from extractors.raster.grids import GridBands
from extractors.raster.images import DecodedBand, StoredBand
from extractors.raster.plan import needed, plan
from extractors.signatures import ALL_TOUCHED, CENTRE, NAMES, STATISTICS, ChunkResult, Signatures, rescaled
from extractors.statistics import scanline, zonal
from extractors.statistics.grid import Floats, Grid
from extractors.statistics.pixels import Pixels
from extractors.statistics.scanline import ScanlineZones
from extractors.statistics.zonal import ENGINES, agree
from tests.unit.test_zonal_property import SHAPES, InMemory, Random, anywhere, as_object_array, polygon, randoms

Array = NDArray[Any]
TOP = 120.0
SHIFTS = {"B04": -1000.0, "B08": -1000.0, "B05": -900.0}


def layer(label: str, operation: str, *names: str) -> Layer:
    formula = Formula(operation, names)
    return Layer(str(formula), label, formula=formula)


LAYERS = (
    Layer("B04", "B4"), Layer("B08", "B8"), Layer("B08", "again"), Layer("B05", "B5"),
    Layer("SCL", "SC", histogram=True), layer("NDV", "nd", "B08", "B04"), layer("R", "/", "B05", "B04"),
    layer("D", "-", "B05", "B08"), layer("DB", "db", "B08"), layer("R5", "/", "B05", "B05x"),
)  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """Bands with their pixels: B04, B08 on a fine grid, the others on coarser ones that may lie askew."""

    arrays: Mapping[str, Array]
    grids: Mapping[str, Grid]

    @classmethod
    def random(cls, random: Random, floats: bool) -> Ground:
        fine = Grid(Affine(10, 0, 0, 0, -10, TOP), (int(random.integers(1, 13)), int(random.integers(1, 13))))
        coarse = cls._coarser(random)
        grids = {"B04": fine, "B08": fine, "SCL": coarse, "B05": coarse, "B05x": cls._coarser(random)}
        arrays = {}
        for name, grid in grids.items():
            values = random.choice([0, 0, 1, 400, 900, 1000, 1001, 3000, 65535], grid.shape).astype(np.uint16)
            arrays[name] = values
        if floats:
            values = random.choice([0, np.nan, -0.5, 1e-3, 0.25, 7.5, 1e-40, 3e4], (4, *fine.shape)).astype(np.float32)
            arrays["B04"], arrays["B08"] = values[:2]
        arrays["SCL"] = random.integers(0, 12, coarse.shape).astype(np.uint8)
        if random.random() < 0.5:  # in patches, as real ones
            arrays["SCL"][: coarse.shape[0] // 2] = 4
        return cls(arrays, grids)

    @staticmethod
    def _coarser(random: Random) -> Grid:
        pixel = int(random.choice([15, 20, 60]))
        left, up = (int(random.choice([0, 0, 7, -20, 30])) for _ in range(2))
        return Grid(
            Affine(pixel, 0, left, 0, -pixel, TOP + up), (int(random.integers(1, 8)), int(random.integers(1, 8)))
        )

    def groups(self, tile: int | None) -> list[GridBands]:
        """As the worker has them: read by windows, or decoded tile by tile. (Two grids that are equal are one.)"""
        groups: dict[Grid, list[Band]] = {}
        for name, array in self.arrays.items():
            grid = self.grids[name]
            file: Any = InMemory(array, np.zeros(array.shape, np.bool_))
            stored = StoredBand(file, 1, 0)
            decoded = None if tile is None else DecodedBand(stored, grid.shape, (tile, tile), str(array.dtype))
            groups.setdefault(grid, []).append(Band(name, 32633, grid, stored, decoded, str(array.dtype)))
        return [GridBands(grid, tuple(group)) for grid, group in groups.items()]

    def at(self, name: str, grid: Grid) -> Array:
        """A band's pixels on a grid: for each, that which holds its centre; 0 where there is none."""
        own, array = self.grids[name], self.arrays[name]
        result = np.zeros(grid.shape, array.dtype)
        for row, column in np.ndindex(*grid.shape):
            x = grid.transform.c + (column + 0.5) * grid.transform.a - own.transform.c
            y = own.transform.f - grid.transform.f - (row + 0.5) * grid.transform.e
            there = int(y // own.transform.a), int(x // own.transform.a)
            if 0 <= there[0] < own.shape[0] and 0 <= there[1] < own.shape[1]:
                result[row, column] = array[there]
        return result

    def values(self, layer: Layer, shifts: Mapping[str, float]) -> tuple[Array, Grid, float]:
        """The layer's pixels by numpy, their grid, and what is nodata."""
        grid = min((self.grids[name] for name in layer.bands), key=lambda grid: grid.transform.a)
        if layer.formula is None:
            return self.arrays[layer.band], grid, 0
        raw = [self.at(name, grid) for name in layer.bands]
        dtype = np.result_type(np.float32, *(array.dtype for array in raw))
        with np.errstate(all="ignore"):
            values = [
                array.astype(dtype) + dtype.type(shifts.get(name, 0))
                for array, name in zip(raw, layer.bands, strict=True)
            ]
            if layer.formula.operation == "db":
                result = 10 * np.log10(values[0])
            elif layer.formula.operation == "nd":
                result = (values[0] - values[1]) / (values[0] + values[1])
            else:
                result = values[0] / values[1] if layer.formula.operation == "/" else values[0] - values[1]
            result[~np.isfinite(result) | (np.abs(result) > 1e15)] = np.nan
        for array in raw:
            result[array == 0] = np.nan
        return result, grid, np.nan


def computed(
    ground: Ground, shapes: Sequence[BaseGeometry], request: StatisticsRequest, tile: int | None
) -> ChunkResult:
    """What the worker makes of it: only tiles that the task names are decoded before."""
    frame = geopandas.GeoDataFrame(
        {"pid": np.arange(len(shapes), dtype=np.int64)}, geometry=list(shapes), crs="EPSG:32633"
    )
    groups = [group for group in ground.groups(tile) if any(band.name in needed(request) for band in group.bands)]
    task = ChunkTask(ParcelChunk(frame, {}), plan(groups, request), request)
    for need in task.needs:
        need()
    return task()


def table(parts: list[Signatures], label: str, number: int) -> Floats:
    """Rows of a label; empty ones for parcels without."""
    rows = np.full((number, len(NAMES)), np.nan)
    rows[:, 0] = 0
    for part in parts:
        if part.label == label:
            rows[part.pid] = part.table
    return rows


def by_rasterstats(shapes: Sequence[BaseGeometry], array: Array, grid: Grid, **options: Any) -> Floats:
    rows = np.full((len(shapes), len(NAMES)), np.nan)
    rows[:, 0] = 0
    west, south, east, north = grid.bounds
    for index, shape in enumerate(shapes):
        if shape.bounds[0] < east and shape.bounds[2] > west and shape.bounds[1] < north and shape.bounds[3] > south:
            names = [statistic.reference for statistic in STATISTICS]
            (row,) = rasterstats.zonal_stats(shape, array, affine=grid.transform, stats=names, **options)
            rows[index] = [np.nan if row[name] is None else row[name] for name in names]
    return rows


def assert_as_defined(
    ground: Ground, shapes: Sequence[BaseGeometry], request: StatisticsRequest, result: ChunkResult
) -> None:
    """Numbers as rasterstats has them, all parcels accounted for, histograms as counted by it."""
    touched = request.pixel_rule == ALL_TOUCHED
    for layer in request.layers:
        array, grid, nodata = ground.values(layer, request.shifts)
        shift = 0.0 if layer.formula else request.shifts.get(layer.band, 0.0)
        everything = by_rasterstats(shapes, array, grid, nodata=nodata, all_touched=touched)
        tables = [(everything, result.signatures, result.without_row)]
        if request.is_cleared(layer):
            clear = np.isin(ground.at("SCL", grid), request.clear or ())
            of_clear = by_rasterstats(
                shapes, np.where(clear, array, array.dtype.type(nodata)), grid, nodata=nodata, all_touched=touched
            )
            tables.append((of_clear, result.clear, result.clear_without_row))
            lost = (of_clear[:, 0] == 0) & (everything[:, 0] > 0)
            without = result.clear_without_row[layer.label]
            assert sorted(without.get("not_clear", ())) == np.flatnonzero(lost).tolist()
        else:
            assert layer.label not in result.clear_without_row
        for expected, parts, without_row in tables:
            found = table(parts, layer.label, len(shapes))
            same = agree(found, rescaled(expected, 1, shift), array.dtype)
            assert same.all(), (layer, found[~same], expected[~same])
            pids = [pid for part in parts if part.label == layer.label for pid in part.pid.tolist()]
            pids += [pid for numbers in without_row[layer.label].values() for pid in numbers.tolist()]
            assert sorted(pids) == list(range(len(shapes)))
    if any(layer.histogram for layer in request.layers):
        expected_hists = {}
        west, south, east, north = ground.grids["SCL"].bounds
        for index, shape in enumerate(shapes):
            if shape.intersects(shapely.box(west, south, east, north)):
                (row,) = rasterstats.zonal_stats(
                    shape,
                    ground.arrays["SCL"],
                    affine=ground.grids["SCL"].transform,
                    nodata=0,
                    categorical=True,
                    all_touched=touched,
                )
                counted = {str(value): pixels for value, pixels in row.items() if isinstance(value, int | np.integer)}
                if counted:
                    expected_hists[index] = counted
        assert dict(result.hists) == expected_hists


@settings(max_examples=60)
@given(
    random=randoms,
    engine=st.sampled_from(sorted(ENGINES)),
    # Pixels of the largest window, the side of a decoded tile, pixels of a batch.
    reading=st.sampled_from([(0, None), (30, None), (1_000_000, None), (0, 5), (1_000_000, 5), (1_000_000, 7)]),
    batch=st.sampled_from([1, 20, 60_000]),
    clear=st.sampled_from([None, (4, 5, 6, 7), (0, 11)]),
    floats=st.booleans(),
    rule=st.sampled_from([CENTRE, CENTRE, ALL_TOUCHED]),
)
def test_layers_are_what_rasterstats_makes_of_whole_arrays(
    random: Random,
    engine: str,
    reading: tuple[int, int | None],
    batch: int,
    clear: tuple[int, ...] | None,
    floats: bool,
    rule: str,
) -> None:
    largest_window, tile = reading
    ground = Ground.random(random, floats and tile is None)
    shapes = list(as_object_array([polygon(random, anywhere, SHAPES) for _ in range(5)]))
    chosen = tuple(layer for layer in LAYERS if random.random() < 0.7) or LAYERS
    request = StatisticsRequest(engine, len(shapes) * 20, chosen, pixel_rule=rule, clear=clear, shifts=SHIFTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "LARGEST_WINDOW_PIXELS", largest_window)
        patch.setattr(grids, "CELL", 4)
        patch.setattr(scanline, "BATCH_PIXELS", batch)
        result = computed(ground, shapes, request, tile)
    assert not result.recomputed
    assert_as_defined(ground, shapes, request, result)


EVERYTHING = [shapely.box(0, 80, 40, 120), shapely.box(0, 100, 20, 120), shapely.box(20, 80, 40, 100)]


def small() -> Ground:
    """4 x 4 pixels of 10 m, and SCL of 20 m: the right half is cloudy; B08 is three times B04, and one is nodata."""
    grid = Grid(Affine(10, 0, 0, 0, -10, TOP), (4, 4))
    red = np.arange(1001, 1017, dtype=np.uint16).reshape(4, 4)
    infrared = (red - 1000) * 3 + 1000
    infrared[0, 0] = 0
    classes = np.array([[4, 9], [5, 3]], np.uint8)
    coarse = Grid(Affine(20, 0, 0, 0, -20, TOP), (2, 2))
    return Ground({"B04": red, "B08": infrared, "SCL": classes}, {"B04": grid, "B08": grid, "SCL": coarse})


def asked(*layers: Layer, clear: tuple[int, ...] | None = None) -> StatisticsRequest:
    return StatisticsRequest("scanline", 5, layers, clear=clear, shifts=SHIFTS)


def test_an_index_is_that_of_shifted_pixels_and_zero_is_a_value() -> None:
    ndvi, difference = layer("NDV", "nd", "B08", "B04"), layer("D", "-", "B04", "B04")
    result = computed(small(), EVERYTHING, asked(ndvi, difference), None)
    rows = table(result.signatures, "NDV", 3)
    assert rows[:, 0].tolist() == [15, 3, 4]  # without the one that is nodata
    assert rows[:, 1].tolist() == pytest.approx([0.5] * 3)
    zero = table(result.signatures, "D", 3)
    assert (zero[:, 0].tolist(), zero[:, 1].tolist()) == ([16, 4, 4], [0, 0, 0])


def test_a_division_by_zero_is_nodata() -> None:
    ground = small()
    ground.arrays["B04"][:2] = 1000  # 0, after the shift
    result = computed(ground, EVERYTHING, asked(layer("R", "/", "B08", "B04")), None)
    assert table(result.signatures, "R", 3)[:, 0].tolist() == [8, 0, 4]
    assert {reason: pids.tolist() for reason, pids in result.without_row["R"].items()} == {"nodata": [1]}


def test_clear_pixels_and_those_that_have_none() -> None:
    result = computed(small(), EVERYTHING, asked(Layer("B04", "B4"), Layer("SCL", "SC"), clear=(4, 5)), None)
    assert table(result.clear, "B4", 3)[:, 0].tolist() == [8, 4, 0]
    assert {reason: pids.tolist() for reason, pids in result.clear_without_row["B4"].items()} == {"not_clear": [2]}
    assert result.without_row["B4"] == {}
    assert {part.label for part in result.clear} == {"B4"}
    assert "SC" not in result.clear_without_row


def test_without_the_classes_nothing_is_masked() -> None:
    result = computed(small(), EVERYTHING, asked(Layer("B04", "B4")), None)
    assert (result.clear, result.clear_without_row) == ([], {})


@pytest.mark.parametrize("what", ["an index", "clear pixels", "histograms"])
def test_an_engine_that_is_wrong_about_it_is_overruled(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(ScanlineZones):
        def both(self, values: Pixels, marks: Pixels) -> tuple[Floats, Floats]:
            table, of_marked = super().both(values, marks)
            wrong = what == "an index" and values.dtype == np.float32
            return table + wrong, of_marked + (what == "clear pixels")

        def histograms(self, values: Pixels | Array, nodata: float = 0) -> list[dict[str, int]]:
            right = super().histograms(values, nodata)
            return [{"7": 1}, *right[1:]] if what == "histograms" else right

    request = asked(
        Layer("B04", "B4"), layer("NDV", "nd", "B08", "B04"), Layer("SCL", "SC", histogram=True), clear=(4, 5)
    )
    right = computed(small(), EVERYTHING[:1], replace(request, engine="rasterstats"), None)
    monkeypatch.setattr(zonal, "ENGINES", {**ENGINES, "scanline": Wrong})
    result = computed(small(), EVERYTHING[:1], request, None)
    assert result.recomputed
    assert len(caplog.messages) == 1
    assert result.hists == right.hists
    for mine, expected in zip([*result.signatures, *result.clear], [*right.signatures, *right.clear], strict=True):
        np.testing.assert_array_equal(mine.table, expected.table)


def test_every_kind_of_layer_is_judged_even_of_a_small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """One parcel to be checked, and the engine is wrong about the last of many tables."""

    class Wrong(ScanlineZones):
        def statistics(self, values: Pixels | Array, nodata: float = 0) -> Floats:
            right = super().statistics(values, nodata)
            return right + (values.dtype == np.float32)

    monkeypatch.setattr(zonal, "ENGINES", {**ENGINES, "scanline": Wrong})
    request = replace(asked(Layer("B04", "B4"), Layer("B08", "B8"), layer("N", "nd", "B08", "B04")), verified_parcels=1)
    assert computed(small(), EVERYTHING, request, None).recomputed


def test_what_is_needed() -> None:
    assert needed(asked(layer("N", "nd", "B08", "B04"), Layer("B05", "B5"))) == ["B08", "B04", "B05"]
    assert needed(asked(Layer("B04", "B4"), clear=(4,))) == ["B04", "SCL"]
    # A layer of bands that are not there is left out; so is a grid without layers.
    groups = small().groups(None)
    (only,) = plan(groups, asked(Layer("B04", "B4"), layer("R", "/", "B04", "B05"), clear=(4,)))
    assert [layer.label for layer in only.layers] == ["B4"]
    assert ([band.name for band in only.bands.bands], [other.band.name for other in only.bands.others]) == (
        ["B04"], ["SCL"],
    )  # fmt: skip


def test_a_parcel_that_needs_more_memory_for_an_index_is_too_large() -> None:
    """What is made of its pixels counts as well."""
    ground = small()
    groups = [group for group in ground.groups(None) if group.grid.shape == (4, 4)]
    with_index = plan(groups, asked(layer("N", "nd", "B08", "B04")))[0].bands
    without = plan(groups, asked(Layer("B04", "B4"), Layer("B08", "B8")))[0].bands
    pixels, vertices = np.array([1e8]), np.array([5])
    needs = [group._needs(pixels, vertices)[0] for group in (with_index, without)]
    assert needs[0] - needs[1] == 2 * (4 - 2) * 1e8
