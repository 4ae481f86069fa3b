"""Memory is bounded: by a budget for what a scene's files need, and by batches for what its parcels need.

What takes too much is refused in words; what can be computed is, in memory that does not grow with the input.
"""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from extractors.config import Extraction
from extractors.database import spool
from extractors.database.spool import Spool
from extractors.errors import ConfigurationError, SceneError, UnusableSceneError
from extractors.labels import SENTINEL_2, SIDES, resolution
from extractors.model import BandFile, ImageFormat, Limits
from extractors.raster.bands import Band
from extractors.raster.grids import GridBands
from extractors.raster.images import DecodedBand, StoredBand
from extractors.raster.memory import Budget
from extractors.raster.scene_bands import scene_bands
from extractors.resources import limits, memory_of_tiles
from extractors.signatures import COUNT
from extractors.statistics.grid import Grid, Polygons, PolygonsOnGrid
from extractors.statistics.scanline import ScanlineZones
from extractors.statistics.zonal import ENGINES
from tests.support.fuzz import bounded

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

SIDE = 22_000
MB = 1_000_000
TRANSFORM = Affine(10, 0, 0, 0, -10, 0)


# The budget


def test_what_is_kept_leaves_a_reserve() -> None:
    budget = Budget(Limits(2, 100 * MB))
    budget.keep(50 * MB, "an image")
    with pytest.raises(UnusableSceneError, match=r"^b takes 30 MB of memory, and 25 MB are left .*memory_megabytes"):
        budget.keep(30 * MB, "b")
    budget.keep(25 * MB, "c")
    assert budget.work == 25 * MB


def test_who_needs_much_waits_until_others_have_given_back() -> None:
    budget, began, order = Budget(Limits(2, 100)), threading.Event(), []

    def other() -> None:
        began.set()
        with budget.using(60):
            order.append("other")

    with budget.using(10):
        pass
    thread = threading.Thread(target=other)
    with budget.using(60):
        thread.start()
        assert began.wait(30)
        thread.join(0.1)
        order.append("first")
    thread.join(30)
    assert order == ["first", "other"]


def test_who_is_alone_never_waits() -> None:
    with Budget(Limits(1, 100)).using(1000):
        pass


@pytest.mark.parametrize(
    ("settings", "cores", "memory", "expected"),
    [
        ({}, 2, None, Limits(2, 1100 * MB)),
        ({}, 2, 8_000 * MB, Limits(2, 1100 * MB)),
        ({}, 2, 1_000 * MB, Limits(2, 750 * MB)),
        ({"cores": 4}, 2, 8_000 * MB, Limits(4, 1500 * MB)),
        ({"memory_megabytes": 3000}, 2, 1_000 * MB, Limits(2, 3000 * MB)),
    ],
)
def test_how_much_there_is(settings: dict[str, Any], cores: int, memory: int | None, expected: Limits) -> None:
    assert limits(Extraction(**settings), cores, memory) == expected


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize("memory", [None, 1_200 * MB, 4_000 * MB])
@pytest.mark.parametrize("bands", [("B04", "B08", "SCL"), ("B02", "B03", "B04", "B08", "SCL"), tuple(SENTINEL_2)])
def test_whole_tiles_fit(bands: tuple[str, ...], memory: int | None, cores: int) -> None:
    """What is wrong for every scene is said once, before the first claim."""
    try:
        found = limits(Extraction(), cores, memory, bands)
    except ConfigurationError as error:
        assert memory is not None and memory * 3 // 4 < memory_of_tiles(bands, 1)
        assert f"{len(bands)} bands" in str(error)
        return
    assert found.memory <= (memory or 10_000 * MB) * 3 // 4
    budget = Budget(found)
    for band in bands:
        budget.keep(12_600_000 * found.cores, f"a block of {band}")
        budget.keep(2 * SIDES[resolution(band)] ** 2, band)


def test_fewer_threads_rather_than_no_scene() -> None:
    bands = ("B04", "B08", "SCL")
    assert limits(Extraction(), 8, 1_200 * MB, bands).cores < 8
    assert limits(Extraction(), 2, 4_000 * MB, bands) == Limits(2, 1_100 * MB)


# Files


def opening(folder: Path, *names: str, driver: str = "GTiff", memory: int = 1100 * MB) -> str:
    """What opening says that is refused; nothing is decoded before."""
    files = [BandFile(f"B{number}", name) for number, name in enumerate(names)]
    with (
        bounded(),
        pytest.raises(SceneError) as caught,
        scene_bands(files, folder, ImageFormat(driver, 0), Limits(2, memory)) as scene,
    ):
        for band in scene.bands():
            band.stored.read(slice(0, 1), slice(0, 1))
    return str(caught.value)


@pytest.mark.parametrize("compress", ["lerc", "deflate", "lzw", "zstd", "lzma"])
def test_a_geotiff_of_one_huge_block(compress: str, tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=SIDE, height=SIDE, count=2, dtype="float32",
        crs=CRS.from_epsg(32633), transform=TRANSFORM, blockysize=SIDE, compress=compress, SPARSE_OK=True,
    ):  # fmt: skip
        pass
    assert "a block of 22,000 x 22,000 pixels for each of 2 threads takes" in opening(tmp_path, "a.tif")


def test_a_geotiff_whose_mask_is_one_huge_block(tmp_path: Path) -> None:
    """The image has small ones."""
    path, side = tmp_path / "a.tif", 2000
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", width=side, height=side, count=1, dtype="uint8", crs=CRS.from_epsg(32633),
            transform=TRANSFORM, blockysize=1, compress="deflate", SPARSE_OK=True, BIGTIFF="NO",
        ) as file,
    ):  # fmt: skip
        file.write_mask(np.zeros((1, side), "u1"), window=rasterio.windows.Window(0, 0, side, 1))
    content = bytearray(path.read_bytes())
    at = struct.unpack_from("<I", content, 4)[0]
    at = struct.unpack_from("<I", content, at + 2 + 12 * struct.unpack_from("<H", content, at)[0])[0]
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", content, at)[0], 12):
        if struct.unpack_from("<H", content, entry)[0] == 278:  # rows per strip
            struct.pack_into("<HII", content, entry + 2, 4, 1, side)
    path.write_bytes(content)
    assert "a block of 2,000 x 2,000 pixels" in opening(tmp_path, "a.tif", memory=20 * MB)


def test_an_envi_file_of_one_line(tmp_path: Path) -> None:
    """GDAL reads raw files line by line."""
    samples = 400 * MB
    with (tmp_path / "a.img").open("wb") as file:
        file.truncate(samples)
    (tmp_path / "a.hdr").write_text(
        f"ENVI\nsamples = {samples}\nlines = 1\nbands = 1\ndata type = 1\ninterleave = bsq\n"
        "map info = {UTM,1,1,500000,5100000,0.001,10,33,North,WGS-84}\n"
    )
    assert "a block of 400,000,000 x 1 pixels" in opening(tmp_path, "a.img", driver="ENVI")


def test_bands_that_are_too_large_together(tmp_path: Path) -> None:
    """Each of them would fit."""
    for name in ("a.jp2", "b.jp2"):
        with rasterio.open(
            tmp_path / name, "w", driver="JP2OpenJPEG", width=1000, height=1000, count=1, dtype="uint16",
            crs=CRS.from_epsg(32633), transform=TRANSFORM, blockxsize=100, blockysize=100,
        ) as file:  # fmt: skip
            file.write(np.ones((1000, 1000), "u2"), 1)
    files = [BandFile("B04", "a.jp2"), BandFile("B08", "b.jp2")]
    with scene_bands(files, tmp_path, ImageFormat("JP2OpenJPEG", 0), Limits(1, 6 * MB)) as scene:
        assert len(scene.bands()) == 2
    with (
        scene_bands(files, tmp_path, ImageFormat("JP2OpenJPEG", 0), Limits(1, 5 * MB)) as scene,
        pytest.raises(UnusableSceneError, match=r"^b\.jp2, 1,000 x 1,000 pixels decoded, takes 2 MB"),
    ):
        scene.bands()


# Parcels


def on(shape: shapely.Geometry, side: int) -> PolygonsOnGrid:
    """One parcel on a square grid of pixels of 1 m."""
    return Polygons(np.array([shape], dtype=object)).on(Grid(Affine(1, 0, 0, 0, -1, side), (side, side)))


def pixels_of(shape: shapely.Geometry, side: int) -> tuple[int, int]:
    """By scanline, in little memory; and by rasterstats."""
    ones = np.ones((side, side), "u1")
    with bounded(600 * MB):
        found = int(ScanlineZones(on(shape, side)).statistics(ones, 0)[0, COUNT])
    return found, int(ENGINES["rasterstats"](on(shape, side)).statistics(ones, 0)[0, COUNT])


def test_a_zigzag_with_millions_of_crossings() -> None:
    """24 million."""
    x = np.linspace(1, 1999, 6000)
    y = np.where(np.arange(6000) % 2, -1000.0, 3000.0)
    found, expected = pixels_of(shapely.Polygon(np.column_stack([x, y])), 2000)
    assert found == expected


def test_noise_with_millions_of_crossings() -> None:
    shape = shapely.Polygon(np.random.default_rng(1).uniform(0, 2000, (15_000, 2)))
    found, expected = pixels_of(shape, 2000)
    assert found == expected


def test_a_star_of_many_vertices() -> None:
    angle = np.arange(30_000) * 2 * np.pi / 30_000
    radius = np.where(np.arange(30_000) % 2, 990, 5)
    shape = shapely.Polygon(1000 + np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]))
    found, expected = pixels_of(shape, 2000)
    assert found == expected


def test_a_parcel_of_many_equal_parts() -> None:
    """Their pixels together are 360 million."""
    part = shapely.box(20, 20, 1920, 1920)
    found, expected = pixels_of(shapely.MultiPolygon([part] * 100), 2000)
    assert found == expected == 1900**2


@pytest.mark.parametrize(("north", "rows"), [(5990, 5980), (5990.5, 5981)], ids=["", "edges on centre lines"])
def test_a_parcel_of_millions_of_pixels(north: float, rows: int) -> None:
    side = 6000
    array = np.tile(np.arange(side, dtype="u2"), (side, 1))
    band = StoredBand(None, 1, 0)  # type: ignore[arg-type]
    decoded = DecodedBand(band, (1, 1), (1, 1), "uint16")
    decoded.array = array
    polygons = on(shapely.box(10, north - 5980, 5990, north), side)
    with bounded(900 * MB):
        group = GridBands(polygons.grid, (Band("B04", 32633, polygons.grid, band, decoded, "uint16"),))
        (part,) = group.parts(polygons)
        assert part.polygons is not None
        table = ScanlineZones(part.polygons).statistics(part.arrays[0], 0)
    values = np.arange(10, 5990)
    assert table[0].tolist() == pytest.approx(
        [rows * 5980, values.mean(), values.std(), 10, 5989, *np.percentile(np.repeat(values, 9), [25, 50, 75])],
        abs=0.5,
    )


def test_a_parcel_that_does_not_fit_is_too_large() -> None:
    decoded = DecodedBand(StoredBand(None, 1, 0), (1, 1), (1, 1), "uint16")  # type: ignore[arg-type]
    polygons = on(shapely.box(0, 0, 1000, 1000), 1000)
    band = Band("B04", 32633, polygons.grid, StoredBand(None, 1, 0), decoded, "uint16")  # type: ignore[arg-type]
    sizes, vertices = np.array([1e6, 1e6, 100.0]), np.array([5, 1_000_000, 5])
    for memory, fits in ((400 * MB, [True] * 3), (200 * MB, [True, False, True]), (1 * MB, [False, False, True])):
        group = GridBands(polygons.grid, (band,), Budget(Limits(1, memory)))
        assert group.fit(sizes, vertices).tolist() == fits


def test_a_band_of_classes_has_no_more_than_there_can_be() -> None:
    array = np.arange(1, 1601, dtype="u2").reshape(40, 40)
    for engine in ENGINES.values():
        zones = engine(on(shapely.box(0, 0, 40, 40), 40))
        assert sum(zones.histograms(array % 250 + 1, 0)[0].values()) == 1600
        with pytest.raises(UnusableSceneError, match="1,600 different values in a band of classes"):
            zones.histograms(array, 0)


def test_blocks_of_rows_have_no_more_bytes_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a single row."""
    monkeypatch.setattr(spool, "BYTES_PER_BLOCK", 100)
    with Spool(tmp_path, 0, 3) as rows:
        for size in (10, 10, 10, 10, 60, 60, 300, 10):
            rows.add(bytes(size))
        assert [[len(row) for row in block] for block in rows.blocks()] == [[10] * 3, [10, 60], [60], [300], [10]]
