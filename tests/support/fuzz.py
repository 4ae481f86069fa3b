"""Inputs that are broken at random, and what must hold for each: `python -m tests.support.fuzz`, followed by minutes,
the first seed, and kinds, if wanted.

A check makes one input of a generator of random numbers, and fails if something other than an error of ours comes of
it, or numbers that are not what was written. The unit tests run some of each kind, always the same; this command others
for so many minutes for each kind, in processes whose end it survives.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from extractors.database.copy import parcel_chunk
from extractors.errors import SceneError
from extractors.model import BandFile, ImageFormat, Layer, Limits, ParcelChunk, StatisticsRequest
from extractors.raster.chunks import ChunkTask
from extractors.raster.plan import plan
from extractors.raster.scene_bands import scene_bands
from extractors.statistics.grid import Grid, Polygons
from extractors.statistics.zonal import ENGINES, agree

Random = np.random.Generator
Check = Callable[[Random, Path], str]

TRANSFORM = Affine(10, 0, 500_000, 0, -10, 5_100_000)
SIDE = 40
LIMITS = Limits(1, 100_000_000)
"""What a worker may take for one of these files."""
MORE_BYTES = 1_000_000_000
"""What this process may take beyond what it has."""
WHERE = shapely.box(500_000, 5_100_000 - 10 * SIDE, 500_000 + 10 * SIDE, 5_100_000)
NUMBERS = (0, 1, 2, 7, 8, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def broken(random: Random, content: bytes, most: int = 4) -> bytes:
    """A file with some bytes changed, most of them near its beginning: numbers, whole stretches, its end."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, most + 1))):
        near = min(len(data), 600) if random.random() < 0.8 else len(data)
        at = int(random.integers(0, max(1, near)))
        match random.integers(7):
            case 0:
                data[at : at + 1] = bytes([random.integers(256)])
            case 1 | 2:
                size, order = (2, 4)[random.integers(2)], ("little", "big")[random.integers(2)]
                number = NUMBERS[random.integers(len(NUMBERS))] % 256**size
                data[at : at + size] = number.to_bytes(size, order)
            case 3:
                del data[at : at + int(random.integers(1, 9))]
            case 4:
                data[at:at] = random.bytes(int(random.integers(1, 9)))
            case 5:
                other = int(random.integers(0, max(1, near)))
                data[at : at + 12] = data[other : other + 12]
            case 6:
                data[at:] = data[at : int(random.integers(at, len(data) + 1))]
    return bytes(data)


def extracted(folder: Path, driver: str, *files: BandFile) -> str:
    """What a worker makes of files: numbers, all finite, or an error of ours in one line."""
    chunk = ParcelChunk(geopandas.GeoDataFrame({"pid": [1, 2]}, geometry=[WHERE, WHERE.buffer(-50)], crs=32633), {})
    request = StatisticsRequest("scanline", 0, tuple(Layer(file.name, file.name) for file in files))
    try:
        with scene_bands(files, folder, ImageFormat(driver, 0, scaled=driver != "JP2OpenJPEG"), LIMITS) as scene:
            task = ChunkTask(chunk, plan(scene.grids(), request), request)
            for need in task.needs:
                need()
            result = task()
    except SceneError as error:
        assert "\n" not in str(error)
        return "refused"
    for part in result.signatures:
        with np.errstate(over="ignore"):
            assert np.isfinite(part.table.astype("f4")).all(), part.table
    return "extracted"


ENVI = """ENVI
description = {{made for a test}}
samples = {columns}
lines = {rows}
bands = 1
header offset = {offset}
file type = ENVI Standard
data type = {type}
interleave = {interleave}
byte order = {order}
band names = {{ VV }}
map info = {{UTM,1,1,500000,5100000,10.0,10.0,33,North,WGS-84,units=Meters}}
data gain values = {{1.0}}
"""
TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4"}
LINES = (
    "Header Offset = 8", "HEADER OFFSET=16", "header_offset = 8", "; header offset = 8", "header  offset = 8",
    "x = {", "}", "x = {}", "bands = 2", "file compression = 1", "data type = 5", "samples = 41", "lines = 39",
    "data ignore value = 7", "data gain values = {1e300}", "data offset values = {-1e300}", "byte order = 2",
    "interleave = bip", "x = " + "y" * 10_001, "=", "= 8", "header offset = -8", "samples = 4e1", "sensor type = x",
)  # fmt: skip


def check_envi(random: Random, folder: Path) -> str:
    """A header that is broken, or says odd things: if the file is accepted, the pixels are the last bytes of it."""
    kind, order = int(random.choice(list(TYPES))), int(random.integers(2))
    pixels = random.integers(0, 200, (SIDE, SIDE)).astype(TYPES[kind]).astype(f"{'<>'[order]}{TYPES[kind]}")
    if kind in (4, 5) and random.random() < 0.3:
        pixels[random.integers(SIDE), random.integers(SIDE)] = random.choice([np.inf, -np.inf, np.nan, 3e38])
    skipped = int(random.choice([0, 0, 8, 16]))
    text = ENVI.format(
        columns=SIDE, rows=SIDE, offset=int(random.choice([0, 0, skipped, 8])), type=kind, order=order,
        interleave=random.choice(["bsq", "bil", "bip"]),
    )  # fmt: skip
    lines = text.splitlines()
    for _ in range(int(random.integers(0, 3))):
        lines.insert(int(random.integers(1, len(lines))), str(random.choice(LINES)))
    header = str(random.choice(["\n", "\r\n", "\r"])).join(lines).encode()
    content = bytes(skipped) + pixels.tobytes()
    (folder / "VV.hdr").write_bytes(broken(random, header) if random.random() < 0.5 else header)
    (folder / "VV.img").write_bytes(content)
    outcome = extracted(folder, "ENVI", BandFile("VV", "VV.img"))
    if outcome == "extracted":
        with scene_bands([BandFile("VV", "VV.img")], folder, ImageFormat("ENVI", 0), LIMITS) as scene:
            (band,) = scene.bands()
            array = band.stored.file.read(1, slice(0, band.grid.shape[0]), slice(0, band.grid.shape[1]))
        assert any(content.endswith(pixels.tobytes()) for pixels in (array, array.byteswap()))
        assert len(content) - array.nbytes in (0, 8, 16) or array.dtype.itemsize != np.dtype(TYPES[kind]).itemsize
    return outcome


@cache
def geotiffs() -> tuple[bytes, ...]:
    """Small sound files of many kinds."""
    kinds: list[dict[str, Any]] = [
        {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16},
        {"compress": "lerc"}, {"compress": "lzw", "predictor": 2}, {"compress": "zstd", "interleave": "pixel"},
        {"compress": "packbits", "dtype": "uint8"}, {"compress": "lzma"}, {"BIGTIFF": "YES"}, {"nodata": -1.0},
        {"compress": "deflate", "mask": True},
    ]  # fmt: skip
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            profile = {"dtype": "float32", "crs": CRS.from_epsg(32633), "transform": TRANSFORM} | kind
            mask = profile.pop("mask", False)
            path = Path(folder) / "a.tif"
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
                rasterio.open(path, "w", driver="GTiff", width=SIDE, height=SIDE, count=2, **profile) as file,
            ):
                file.write(np.arange(2 * SIDE**2).reshape(2, SIDE, SIDE).astype(profile["dtype"]))
                if mask:
                    file.write_mask(np.eye(SIDE, dtype="u1") * 255)
            found.append(path.read_bytes())
    return tuple(found)


def check_geotiff(random: Random, folder: Path) -> str:
    """A GeoTIFF with some bytes changed."""
    files = geotiffs()
    (folder / "c.tif").write_bytes(broken(random, files[random.integers(len(files))]))
    return extracted(folder, "GTiff", BandFile("VV", "c.tif", 1, True), BandFile("VH", "c.tif", 2, True))


@cache
def jpeg2000s() -> tuple[bytes, ...]:
    """Small sound files: of one tile, of several, of bytes."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for dtype, size, tile in (("uint16", 64, 64), ("uint16", 128, 64), ("uint8", 100, 64)):
            path = Path(folder) / "a.jp2"
            with rasterio.open(
                path, "w", driver="JP2OpenJPEG", height=size, width=size, count=1, dtype=dtype, transform=TRANSFORM,
                crs=CRS.from_epsg(32633), quality="100", reversible="yes", blockxsize=tile, blockysize=tile,
            ) as file:  # fmt: skip
                file.write((np.arange(size * size) % 250).reshape(size, size).astype(dtype), 1)
            found.append(path.read_bytes())
    return tuple(found)


def check_jpeg2000(random: Random, folder: Path) -> str:
    """A JP2 file with some bytes changed, those of its codestream's header among them."""
    files = jpeg2000s()
    content = files[random.integers(len(files))]
    at = content.index(b"\xff\x4f\xff\x51") if random.random() < 0.5 else 0
    (folder / "B04.jp2").write_bytes(content[:at] + broken(random, content[at:]))
    return extracted(folder, "JP2OpenJPEG", BandFile("B04", "B04.jp2"))


def check_wkb(random: Random, folder: Path) -> str:
    """A parcel's well-known binary with some bytes changed: counted under a reason, or both engines agree."""
    points = random.uniform(-20, 140, (int(random.integers(3, 30)), 2))
    polygon = shapely.Polygon(points) if random.random() < 0.7 else shapely.box(*np.sort(points[:2], axis=0).ravel())
    hole = shapely.Polygon(polygon.exterior.coords, [(points[:3] / 2).tolist()])
    shape = [polygon, hole, shapely.MultiPolygon([polygon, hole])][random.integers(3)]
    row = bytes(PID_AND_PROBLEM) + broken(random, shapely.to_wkb(shape), 2)
    chunk = parcel_chunk([row, bytes(PID_AND_PROBLEM) + shapely.to_wkb(shape)], 32633)
    assert len(chunk) == 2
    array = random.integers(0, 9, (12, 12)).astype("u2")
    polygons = Polygons(chunk.parcels.geometry.to_numpy()).on(Grid(Affine(10, 0, 0, 0, -10, 120), (12, 12)))
    ours, theirs = (ENGINES[name](polygons).statistics(array, 0) for name in ("scanline", "rasterstats"))
    assert agree(ours, theirs, array.dtype).all()
    return "extracted" if len(chunk.parcels) == 2 else "refused"


PID_AND_PROBLEM = 2 + 4 + 8 + 4 + 2 + 4
CHECKS: dict[str, Check] = {
    "ENVI headers": check_envi, "GeoTIFF": check_geotiff, "JPEG 2000": check_jpeg2000, "WKB": check_wkb,
}  # fmt: skip


@contextmanager
def bounded(more: int = MORE_BYTES) -> Iterator[None]:
    """A block in which this process gets no more than so many bytes beyond what it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def look(name: str, seed: int, until: float, noted: Path) -> None:
    """Check inputs of a kind, from this seed on, until it is time, or one fails; `noted` says where it is."""
    warnings.simplefilter("ignore")
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, bounded():
        while time.time() < until:
            noted.write_text(str(seed))
            try:
                outcomes[CHECKS[name](np.random.default_rng(seed), Path(folder))] += 1
            except BaseException:
                print(f"FAILED {name}, seed {seed}: {traceback.format_exc()}", flush=True)
                outcomes["failed"] += 1
            seed += 1
    print(f"{name}: {sum(outcomes.values()):,} inputs, {dict(outcomes)}", flush=True)


def main() -> int:
    """Run the command."""
    minutes, first = float((sys.argv[1:] or ["30"])[0]), int((sys.argv[2:] or ["0"])[0])
    names = sys.argv[3:] or list(CHECKS)
    if not CHECKS.keys() >= set(names):
        sys.exit(f"kinds: {', '.join(CHECKS)}")
    crashes = 0
    for name in names:
        seed, until = first, time.time() + 60 * minutes
        while time.time() < until:
            with tempfile.TemporaryDirectory() as folder:
                noted = Path(folder) / "seed"
                values = f"{name!r}, {seed}, {until}, pathlib.Path({str(noted)!r})"
                program = f"import pathlib; from tests.support import fuzz; fuzz.look({values})"
                ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL, check=False)
                if ended.returncode:
                    crashes += 1
                    print(f"CRASHED {name}, seed {noted.read_text()}: {ended.returncode}", flush=True)
                    seed = int(noted.read_text()) + 1
                else:
                    break
    print(f"{crashes} crashes", flush=True)
    return min(1, crashes)


if __name__ == "__main__":
    os.nice(0)
    sys.exit(main())
