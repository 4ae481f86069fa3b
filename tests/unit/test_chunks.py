"""One chunk of parcels in all bands: every parcel gives a row in a band, or is counted under one reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from extractors.config import ENGINE_NAMES
from extractors.model import BandFile, ImageFormat, Layer, ParcelChunk, StatisticsRequest
from extractors.raster import chunks
from extractors.raster import grids as raster_grids
from extractors.raster.chunks import ChunkTask
from extractors.raster.grids import GridBands
from extractors.raster.plan import plan
from extractors.raster.scene_bands import scene_bands
from extractors.signatures import ChunkResult
from extractors.statistics import zonal
from extractors.statistics.pixels import Pixels
from extractors.statistics.rasterstats import RasterstatsZones

FINE = Affine(10, 0, 500_000, 0, -10, 5_100_000)
RED = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0], [13, 14, 0, 0]], dtype=np.uint16)
INFRARED = RED * 100
CLASSES = np.array([[4, 5], [4, 0]], dtype=np.uint8)
LAYERS = (Layer("B04", "B4"), Layer("B08", "B8"), Layer("SCL", "SC", histogram=True))


def square(column: float, row: float, side: float = 1) -> shapely.Polygon:
    """So many pixels of 10 m, from this column and row on."""
    left, top = 500_000 + 10 * column, 5_100_000 - 10 * row
    return shapely.box(left, top - 10 * side, left + 10 * side, top)


def chunk(*shapes: shapely.Geometry, unusable: dict[str, int] | None = None) -> ParcelChunk:
    """Parcels 101, 102, ..."""
    frame = geopandas.GeoDataFrame(
        {"pid": np.arange(101, 101 + len(shapes), dtype=np.int64)}, geometry=list(shapes), crs="EPSG:32633"
    )
    first = itertools.count(901)
    numbers = {
        reason: np.array([next(first) for _ in range(number)], np.int64) for reason, number in (unusable or {}).items()
    }
    return ParcelChunk(frame, numbers)


def compute(
    chunk: ParcelChunk, grids: list[GridBands], engine: str = "scanline", layers: tuple[Layer, ...] = LAYERS
) -> ChunkResult:
    request = StatisticsRequest(engine, 5, layers)
    return ChunkTask(chunk, plan(grids, request), request)()


@pytest.fixture
def grids(tmp_path: Path) -> Iterator[list[GridBands]]:
    """B04 and B08 at 10 m, SCL at 20 m; the lower right quarter is nodata."""
    files = []
    for name, array, transform in (
        ("B04", RED, FINE),
        ("B08", INFRARED, FINE),
        ("SCL", CLASSES, FINE @ Affine.scale(2)),
    ):
        path = tmp_path / f"{name}.tif"
        rows, columns = array.shape
        with rasterio.open(
            path, "w", driver="GTiff", height=rows, width=columns, count=1, dtype=array.dtype,
            crs=CRS.from_epsg(32633), transform=transform,
        ) as file:  # fmt: skip
            file.write(array, 1)
        files.append(BandFile(name, path.name))
    with scene_bands(files, tmp_path, ImageFormat("GTiff", 0)) as scene:
        yield scene.grids()


def means(result: ChunkResult) -> dict[tuple[int, str], tuple[float, float]]:
    """(pid, label) -> count and mean."""
    found: dict[tuple[int, str], tuple[float, float]] = {}
    for part in result.signatures:
        for pid, row in zip(part.pid.tolist(), part.table, strict=True):
            assert (pid, part.label) not in found
            found[pid, part.label] = (float(row[0]), float(row[1]))
    return found


def missing(result: ChunkResult) -> dict[str, dict[str, int]]:
    """By label and reason, how many parcels have no row."""
    return {
        label: {reason: len(pids) for reason, pids in by_reason.items()}
        for label, by_reason in result.without_row.items()
    }


def counts_are_complete(result: ChunkResult) -> bool:
    """Whether every parcel is in every layer, once."""
    written = {label: [pid for pid, other in means(result) if other == label] for label in result.without_row}
    for label, by_reason in result.without_row.items():
        pids = [*written[label], *itertools.chain(*(pids.tolist() for pids in by_reason.values()))]
        if len(pids) != len(set(pids)) or len(pids) != result.parcels:
            return False
    return True


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_row_per_parcel_and_band_or_a_reason(engine: str, grids: list[GridBands]) -> None:
    result = compute(
        chunk(
            square(0, 0, 2),
            square(1.1, 1.1, 1.8),
            square(2, 2, 2),
            square(9, 9),
            square(0.6, 0.6, 0.3),
            unusable={"not_polygon": 2, "broken_geometry": 1},
        ),
        grids,
        engine,
    )
    assert result.parcels == 8
    assert result.pid.tolist() == [101, 102, 103, 104, 105]
    assert means(result) == {
        (101, "B4"): (4, 3.5), (101, "B8"): (4, 350), (101, "SC"): (1, 4),
        (102, "B4"): (3, 23 / 3), (102, "B8"): (3, 2300 / 3),
    }  # fmt: skip
    fine = {"not_polygon": 2, "broken_geometry": 1, "nodata": 1, "outside": 1, "no_pixel": 1}
    # The second one lies between the four centres of the coarse pixels.
    assert missing(result) == {"B4": fine, "B8": fine, "SC": fine | {"no_pixel": 2}}
    assert result.hists == [(101, {"4": 1})]
    assert {reason: pids.tolist() for reason, pids in result.without_row["SC"].items()} == {
        "not_polygon": [901, 902], "broken_geometry": [903], "nodata": [103], "outside": [104], "no_pixel": [102, 105],
    }  # fmt: skip
    assert not result.recomputed
    assert counts_are_complete(result)


def test_a_chunk_without_any_polygon(grids: list[GridBands]) -> None:
    result = compute(chunk(unusable={"not_polygon": 3}), grids)
    assert (result.parcels, result.pid.tolist(), result.signatures, result.hists) == (3, [], [], [])
    assert missing(result) == {label: {"not_polygon": 3} for label in ("B4", "B8", "SC")}


def test_a_chunk_outside_the_scene(grids: list[GridBands]) -> None:
    result = compute(chunk(square(20, 0), square(0, -9)), grids)
    assert missing(result) == {label: {"outside": 2} for label in ("B4", "B8", "SC")}
    assert counts_are_complete(result)


def edge() -> shapely.Polygon:
    """A polygon without extent, on the edge between two columns of pixels."""
    return shapely.Polygon([(500_020, 5_099_965), (500_020, 5_099_985), (500_020, 5_099_965)])


@pytest.mark.parametrize(
    "others",
    [[], [square(0, 0), square(3, 3)], [square(0, 0)]],
    ids=["alone", "among others", "at the edge of the window that is read"],
)
def test_a_polygon_without_extent_on_a_pixel_edge_has_no_pixel(
    others: list[shapely.Polygon], grids: list[GridBands]
) -> None:
    result = compute(chunk(edge(), *others), grids)
    assert missing(result)["B4"]["no_pixel"] == 1
    assert counts_are_complete(result)


def test_a_parcel_as_large_as_the_scene_is_left_out(grids: list[GridBands], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LARGEST_PARCEL_PIXELS", 12)
    result = compute(chunk(square(0, 0, 4), square(0, 0, 3), square(-50, -50, 100)), grids)
    assert {pid for pid, label in means(result) if label == "B4"} == {102}
    assert missing(result)["B4"] == {"too_large": 2}
    # On the grid of 20 m all are small enough.
    assert {pid for pid, label in means(result) if label == "SC"} == {101, 102, 103}
    assert counts_are_complete(result)


def test_pieces_far_apart_are_what_must_be_read(grids: list[GridBands], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their common box is too large, they are not; engine and judge agree."""
    far = shapely.MultiPolygon([square(0, 0), square(3, 0, 1), square(0, 3)])
    wide = shapely.MultiPolygon([square(0, 0, 3), square(1, 1, 3)])
    whole = compute(chunk(far, square(1, 1)), grids)
    for monkeyed in (raster_grids, chunks):
        monkeypatch.setattr(monkeyed, "LARGEST_WINDOW_PIXELS", 2)
    monkeypatch.setattr(chunks, "LARGEST_PARCEL_PIXELS", 8)
    for engine in ENGINE_NAMES:
        result = compute(chunk(far, square(1, 1), wide), grids, engine)
        found = {key: value for key, value in means(result).items() if key[1] != "SC"}
        assert found == {key: value for key, value in means(whole).items() if key[1] != "SC"}
        assert found[101, "B4"] == (3, (1 + 4 + 13) / 3)
        assert missing(result)["B4"] == {"too_large": 1}
        assert not result.recomputed
        assert counts_are_complete(result)


def test_what_has_to_be_decoded_before_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with rasterio.open(
        tmp_path / "B04.jp2", "w", driver="JP2OpenJPEG", height=128, width=128, count=1, dtype="uint16",
        crs=CRS.from_epsg(32633), transform=FINE, quality="100", reversible="yes", blockxsize=64, blockysize=64,
    ) as file:  # fmt: skip
        file.write(np.ones((128, 128), np.uint16), 1)
    with scene_bands([BandFile("B04", "B04.jp2")], tmp_path, ImageFormat("JP2OpenJPEG", 0)) as scene:

        def tiles(*shapes: shapely.Geometry) -> list[tuple[int, int]]:
            request = StatisticsRequest("scanline", 5, (Layer("B04", "B4"),))
            task = ChunkTask(chunk(*shapes), plan(scene.grids(), request), request)
            return [need.tile for need in task.needs]

        assert tiles(square(100, 100), square(1, 1)) == [(1, 1), (0, 0)]
        assert tiles(square(63, 10, side=2)) == [(0, 0), (0, 1)]
        assert tiles(square(200, 200)) == []
        assert tiles() == []
        # Pieces far apart need what is under each of them.
        monkeypatch.setattr(raster_grids, "LARGEST_WINDOW_PIXELS", 99)
        assert tiles(shapely.MultiPolygon([square(1, 1), square(100, 100)]), square(1, 100)) == [(1, 0), (0, 0), (1, 1)]
        # A parcel that will not be computed needs nothing.
        monkeypatch.setattr(chunks, "LARGEST_PARCEL_PIXELS", 99)
        assert tiles(square(1, 1), square(60, 60, side=10)) == [(0, 0)]


def test_windows_that_are_split_change_nothing(grids: list[GridBands], monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [square(column, row) for column in range(-1, 5) for row in range(-1, 5)]
    shapes += [square(0, 0, 4), square(1, 1, 2), square(2, 2, 2)]
    whole = compute(chunk(*shapes), grids)
    for limit in (0, 1, 5):
        monkeypatch.setattr(raster_grids, "LARGEST_WINDOW_PIXELS", limit)
        parts = compute(chunk(*shapes), grids)
        assert means(parts) == means(whole)
        assert missing(parts) == missing(whole)
        assert parts.hists == whole.hists
        assert parts.pid.tolist() == whole.pid.tolist()


def test_histograms_only_if_wanted(grids: list[GridBands]) -> None:
    without = (Layer("B04", "B4"), Layer("B08", "B8"), Layer("SCL", "SC"))
    assert compute(chunk(square(0, 0, 4)), grids, layers=without).hists == []
    assert compute(chunk(square(0, 0, 4)), grids).hists == [(101, {"4": 2, "5": 1})]


def test_the_layers_say_what_is_computed(grids: list[GridBands]) -> None:
    layers = (Layer("B08", "infrared"), Layer("B08", "again"))
    result = compute(chunk(square(0, 0, 2), square(9, 9)), grids, layers=layers)
    assert means(result) == {(101, "infrared"): (4, 350), (101, "again"): (4, 350)}
    assert missing(result) == {"infrared": {"outside": 1}, "again": {"outside": 1}}
    assert result.hists == []


def test_an_engine_that_disagrees_with_rasterstats_is_overruled(
    grids: list[GridBands], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = zonal.ENGINES["rasterstats"]

    class Wrong(RasterstatsZones):
        def statistics(self, values: Pixels | NDArray[Any], nodata: float = 0) -> NDArray[np.float64]:
            return super().statistics(values, nodata) + 1

    monkeypatch.setattr(zonal, "ENGINES", {"rasterstats": right, "scanline": Wrong})
    result = compute(chunk(square(0, 0, 2)), grids)
    assert result.recomputed
    assert means(result) == {(101, "B4"): (4, 3.5), (101, "B8"): (4, 350), (101, "SC"): (1, 4)}
    assert result.hists == [(101, {"4": 1})]
