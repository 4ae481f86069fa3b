"""Peak memory on the worst inputs that we know: `python -m benchmarks.worst [--against CHECKOUT]`.

The work on a scene, from parcels as the database sends them to their statistics, on two cores with default settings: on
a full Sentinel-2 tile, or on a GeoTIFF. Each input in a process of its own, which is ended when it passes 4 GB: that is
the limit of the stacks.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from benchmarks.fields import fields
from benchmarks.stage import GRID, ROOT, SHAPES, command_environment, make_product
from extractors import resources
from extractors.config import Extraction
from extractors.database.copy import parcel_chunk
from extractors.database.spool import Spool
from extractors.errors import ExtractionError
from extractors.model import BandFile, ImageFormat, Layer, StatisticsRequest
from extractors.raster.decoding import Decoding
from extractors.runtime.cores import keep_libraries_single_threaded

MOST_BYTES = 4_000_000_000
LONGEST_SECONDS = 600.0
CORES = 2
SIDE = 22_000
MIDDLE = (GRID.left + 50_000, GRID.top - 50_000)
# A parcel's row as the database sends it.
BEFORE_WKB = bytes(2 + 4 + 8 + 4 + 2 + 4)

Shapes = Callable[[], Sequence[shapely.Geometry]]


def star(vertices: int, radius: float) -> shapely.Polygon:
    """Every second vertex is near the middle."""
    angle = np.arange(vertices) * 2 * np.pi / vertices
    return ring(angle, np.where(np.arange(vertices) % 2, radius, 10))


def ring(angle: NDArray[np.float64], radius: NDArray[np.float64]) -> shapely.Polygon:
    """A polygon around the middle."""
    return shapely.Polygon(MIDDLE + np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]))


def noise(vertices: int) -> shapely.Polygon:
    """Each vertex anywhere within 20 km."""
    return shapely.Polygon(MIDDLE + np.random.default_rng(1).uniform(-10_000, 10_000, (vertices, 2)))


def zigzag(
    vertices: int, step: float = 2.5, height: float = 80_000, left: float = MIDDLE[0] - 10_000
) -> shapely.Polygon:
    """Up and down, from west to east."""
    x = left + step * np.arange(vertices)
    y = MIDDLE[1] + np.where(np.arange(vertices) % 2, height / 2, -height / 2)
    return shapely.Polygon(np.column_stack([x, y]))


def many_vertices() -> Sequence[shapely.Geometry]:
    """2,000 neighbours of 3,000 vertices each."""
    angle = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    circle = 100 * np.column_stack([np.cos(angle), np.sin(angle)]) * (1 + 0.1 * np.sin(500 * angle))[:, None]
    corner = np.array(MIDDLE)
    return [shapely.Polygon(corner + circle + [200 * (n % 45), 200 * (n // 45)]) for n in range(2000)]


def square(side: float, west: float = MIDDLE[0], north: float = MIDDLE[1]) -> shapely.Polygon:
    """A square."""
    return shapely.box(west, north - side, west + side, north)


def parcels() -> Sequence[shapely.Geometry]:
    """Sound ones, all over the tile."""
    rows, columns = SHAPES["s2"]
    per_row = int(columns * GRID.pixel / 200)
    return list(fields(per_row * int(rows * GRID.pixel / 200), 4.0, GRID.left, GRID.top, per_row))


PARCELS: dict[str, Shapes] = {
    "300,000 sound parcels": parcels,
    "star, 1,000,000 vertices, r = 10 km": lambda: [star(1_000_000, 10_000)],
    "noise, 20,000 vertices in 20 km": lambda: [noise(20_000)],
    "zigzag, 8,000 vertices, 20 x 80 km": lambda: [zigzag(8_000)],
    "2,000 parcels of 3,000 vertices": many_vertices,
    "four squares of 62 km": lambda: [
        square(62_000, GRID.left + 1_000 + 100 * n, GRID.top - 1_000 - 100 * n) for n in range(4)
    ],
    "four squares of 62 km, edges on centre lines": lambda: [
        square(62_000, GRID.left + 1_000 + 100 * n, GRID.top - 1_005 - 100 * n) for n in range(4)
    ],
    "100 zigzags with runs in every second pixel": lambda: [
        zigzag(2_000, 10, 19_900, MIDDLE[0] - 10_000 + 10 * n) for n in range(100)
    ],
    "1,000 equal squares of 19 km as one parcel": lambda: [shapely.MultiPolygon([square(19_000)] * 1000)],
}
COMPRESSIONS = ("lerc", "deflate", "lzw", "zstd", "lzma")
BLOCK = "GeoTIFF, one block of 22,000 x 22,000: "
INPUTS = (*PARCELS, *(BLOCK + compress for compress in COMPRESSIONS))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=Path, help="folder for the synthetic product, kept (default: temporary)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="the code of another checkout as well")
    parser.add_argument("--only", nargs="*", help="inputs whose names hold one of these words")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    checkouts = [path.resolve() for path in (ROOT, options.against) if path]
    with tempfile.TemporaryDirectory(prefix="worst-") as temporary:
        folder = options.products or Path(temporary)
        if options.one:
            return extract(options.one, folder)
        make_product("s2", folder)
        for name in INPUTS:
            if options.only and not any(word in name for word in options.only):
                continue
            if name.startswith(BLOCK):
                write_block(folder / "block.tif", name.removeprefix(BLOCK))
            results = [measured(name, folder, checkout) for checkout in checkouts]
            print(f"| {name} | {' | '.join(results)} |", flush=True)
        (folder / "block.tif").unlink(missing_ok=True)
    return 0


def write_block(path: Path, compress: str) -> None:
    """A GeoTIFF of two bands, each of them one block of a gigabyte."""
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=2, dtype="uint16", crs=f"EPSG:{GRID.epsg}",
        transform=GRID.transform, blockysize=SIDE, compress=compress, interleave="band", BIGTIFF="YES",
    ) as file:  # fmt: skip
        pixels = np.full((SIDE, SIDE), 500, "u2")
        for band in (1, 2):
            file.write(pixels, band)


def measured(name: str, folder: Path, checkout: Path) -> str:
    """One input in a process of its own, with the code of a checkout: peak memory, seconds, and what came of it."""
    command = [sys.executable, str(Path(__file__).resolve()), "--products", str(folder.resolve()), "--one", name]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=command_environment(checkout))
        peak, began = 0, time.monotonic()
        while process.poll() is None and peak < MOST_BYTES and time.monotonic() < began + LONGEST_SECONDS:
            with suppress(OSError, ValueError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max([peak, *(1024 * int(kilobytes) for kilobytes in re.findall(r"VmHWM:\s+(\d+)", status))])
            time.sleep(0.02)
        seconds = time.monotonic() - began
        killed = process.poll() is None
        process.kill()
        process.wait()
        output.seek(0)
        said = output.read().decode().strip().splitlines()
    if killed:
        return "over 4,000 MB" if peak >= MOST_BYTES else f"{peak / 1e6:,.0f} MB, not in {seconds:.0f} s"
    return f"{peak / 1e6:,.0f} MB, {seconds:.0f} s, {said[-1] if said else process.returncode}"


def extract(name: str, folder: Path) -> int:
    """Compute the statistics of one input's parcels, and say how many there are."""
    if name.startswith(BLOCK):
        shapes, driver, root = parcels()[:10_000], "GTiff", folder
        files = [BandFile("VV", "block.tif", 1), BandFile("VH", "block.tif", 2)]
    else:
        shapes, driver, root = PARCELS[name](), "JP2OpenJPEG", folder / "s2"
        paths = {re.findall("B04|B08|SCL", path.name)[0]: path for path in sorted(root.rglob("*.jp2"))}
        files = [BandFile(band, str(path.relative_to(root))) for band, path in paths.items()]
    request = StatisticsRequest("scanline", 5, tuple(Layer(file.name, file.name) for file in files))
    with tempfile.TemporaryDirectory() as scratch, Spool(Path(scratch), 0, 2000) as spool:
        for number, shape in enumerate(shapes):
            spool.add(number.to_bytes(8).join([BEFORE_WKB[:6], BEFORE_WKB[14:]]) + shapely.to_wkb(shape))
        del shapes
        try:
            with Decoding(files, root, ImageFormat(driver, 0), limits(), lambda _, boxes: range(len(boxes))) as images:
                for file in files:
                    images.arrived(root / file.file_name)
                chunks = (parcel_chunk(block, GRID.epsg) for block in spool.blocks())
                results = list(images.compute(chunks, request))
            rows = sum(len(part.pid) for result in results for part in result.signatures)
            print(f"{rows:,} rows of {len(files) * spool.total:,}")
        except ExtractionError as error:
            print(type(error).__name__)
    return 0


def limits() -> Any:
    """As a worker has them by default; checkouts from before there were any know cores only."""
    return resources.limits(Extraction(), CORES, None) if hasattr(resources, "limits") else CORES


if __name__ == "__main__":
    keep_libraries_single_threaded()
    sys.exit(main())
