"""The images of a scene at work: each tile is decoded once, and an error is reported to whoever needs the tile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from extractors.errors import SceneError
from extractors.model import BandFile, ImageFormat, Layer, Limits, ParcelChunk, StatisticsRequest
from extractors.raster.decoding import Decoding
from extractors.raster.images import ImageFile
from extractors.signatures import ChunkResult
from extractors.statistics.grid import Array

# As the worker's `main` does: rasterio says this of arrays that need no georeference, and libraries that silence it
# themselves do so in a way that threads get in each other's way.
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

Box = tuple[float, float, float, float]
JPEG2000 = ImageFormat("JP2OpenJPEG", 0)
FILES = (BandFile("B04", "B04.jp2"), BandFile("B08", "B08.jp2"))
# Nothing is checked: rasterstats warns in threads, which the worker silences for the whole process.
REQUEST = StatisticsRequest("scanline", 0, (Layer("B04", "B4"), Layer("B08", "B8")))
SIDE = 640.0
"""Metres of a tile: 64 x 64 pixels; an image has 2 x 2 of them."""


def write(path: Path, value: int) -> None:
    """An image of one value."""
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", height=128, width=128, count=1, dtype="uint16", crs=CRS.from_epsg(32633),
        transform=Affine(10, 0, 0, 0, -10, 2 * SIDE), quality="100", reversible="yes", blockxsize=64, blockysize=64,
    ) as file:  # fmt: skip
        file.write(np.full((128, 128), value, np.uint16), 1)


def chunk(pid: int, row: int, column: int) -> ParcelChunk:
    """One parcel of 2 x 2 pixels within a tile."""
    parcel = shapely.box(
        column * SIDE + 100, 2 * SIDE - row * SIDE - 120, column * SIDE + 120, 2 * SIDE - row * SIDE - 100
    )
    return ParcelChunk(geopandas.GeoDataFrame({"pid": [pid]}, geometry=[parcel], crs="EPSG:32633"), {})


def means(result: ChunkResult) -> dict[tuple[int, str], float]:
    return {
        (pid, part.label): row[1]
        for part in result.signatures
        for pid, row in zip(part.pid.tolist(), part.table.tolist(), strict=True)
    }


def nowhere(epsg: int, boxes: Sequence[Box]) -> Sequence[int]:
    """No tile holds parcels."""
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, file in enumerate(FILES, 1):
        write(tmp_path / file.file_name, 100 * number)
    return tmp_path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[Any]:
    """How often each tile of each file is decoded."""
    found: Counter[Any] = Counter()
    original = ImageFile.read

    def counting(self: ImageFile, index: int, rows: slice, columns: slice, into: Array) -> Array:
        found[self.path.stem, (rows.start // 64, columns.start // 64)] += 1
        return original(self, index, rows, columns, into)

    monkeypatch.setattr(ImageFile, "read", counting)
    return found


@pytest.mark.parametrize("cores", [1, 3])
def test_each_tile_is_decoded_once_and_only_where_parcels_are(cores: int, folder: Path, decoded: Counter[Any]) -> None:
    asked: list[tuple[int, Sequence[Box]]] = []

    def occupied(epsg: int, boxes: Sequence[Box]) -> list[int]:
        asked.append((epsg, boxes))
        return [0]

    with Decoding(FILES, folder, JPEG2000, Limits(cores), occupied) as images:
        for file in FILES:
            images.arrived(folder / file.file_name)
        assert {band.srid for band in images.bands} == {32633}
        chunks = [chunk(pid, 0, pid % 2) for pid in range(40)]
        results = list(images.compute(iter(chunks), REQUEST))
    corners = [(0.0, SIDE, SIDE, 2 * SIDE), (SIDE, SIDE, 2 * SIDE, 2 * SIDE), (0.0, 0.0, SIDE, SIDE)]
    assert asked == [(32633, [*corners, (SIDE, 0.0, 2 * SIDE, SIDE)])] * 2
    assert [means(result) for result in results] == [{(pid, "B4"): 100, (pid, "B8"): 200} for pid in range(40)]
    assert decoded == {(name, tile): 1 for name in ("B04", "B08") for tile in ((0, 0), (0, 1))}


def test_an_error_in_a_tile_is_reported_to_every_chunk_that_needs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ImageFile.read

    def failing(self: ImageFile, index: int, rows: slice, columns: slice, into: Array) -> Array:
        if (self.path.stem, rows.start, columns.start) == ("B08", 0, 64):
            raise SceneError("B08.jp2 cannot be read")
        return original(self, index, rows, columns, into)

    monkeypatch.setattr(ImageFile, "read", failing)
    with Decoding(FILES, folder, JPEG2000, Limits(2), lambda epsg, boxes: range(len(boxes))) as images:
        for file in FILES:
            images.arrived(folder / file.file_name)
        for pid in range(3):
            results = images.compute([chunk(pid, 0, 0), chunk(10, 1, 1), chunk(11, 0, 1)], REQUEST)
            assert means(next(results)) == {(pid, "B4"): 100, (pid, "B8"): 200}
            assert means(next(results)) == {(10, "B4"): 100, (10, "B8"): 200}
            with pytest.raises(SceneError, match=r"^B08\.jp2 cannot be read$"):
                next(results)
        # Whoever does not need the band is not affected.
        red = StatisticsRequest("scanline", 0, (Layer("B04", "B4"),))
        assert [means(result) for result in images.compute([chunk(11, 0, 1)], red)] == [{(11, "B4"): 100}]


def test_only_bands_of_the_request_are_decoded(folder: Path, decoded: Counter[Any]) -> None:
    request = StatisticsRequest("scanline", 0, (Layer("B08", "B8"),))
    with Decoding(FILES, folder, JPEG2000, Limits(2), nowhere) as images:
        for file in FILES:
            images.arrived(folder / file.file_name)
        assert [means(result) for result in images.compute([chunk(1, 0, 0)], request)] == [{(1, "B8"): 200}]
    assert decoded == {("B08", (0, 0)): 1}


def test_all_files_must_be_there(folder: Path) -> None:
    (folder / "B08.jp2").unlink()
    with Decoding(FILES, folder, JPEG2000, Limits(1), nowhere) as images:
        images.arrived(folder / "B04.jp2")
        with pytest.raises(SceneError, match=r"^B08\.jp2 is missing$"):
            assert images.bands


def test_results_are_not_computed_far_ahead(folder: Path) -> None:
    taken: list[int] = []

    def chunks() -> Iterator[ParcelChunk]:
        for pid in range(100):
            taken.append(pid)
            yield chunk(pid, 0, 0)

    with Decoding(FILES, folder, JPEG2000, Limits(1), nowhere) as images:
        results = images.compute(chunks(), REQUEST)
        assert next(results).pid.tolist() == [0]
        assert len(taken) == 5
