"""Peak memory of a worker on the worst inputs that we know: `python -m benchmarks.worst [--against CHECKOUT]`.

Each input is put before a real worker with default settings, on a full Sentinel-2 tile, or with a GeoTIFF of coherence.
A worker that passes 4 GB is ended: that is the limit of the stacks.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from benchmarks.stage import BUCKET, GRID, OBSTIME, ROOT, SHAPES, Stage, command_environment, make_product, stage
from demo import tables

MOST_BYTES = 4_000_000_000
LONGEST_SECONDS = 900.0
C6 = "S1A_20240601T052345_20240601T052410__1A__20240526T052345_CARD-COH6"
C6_KEY = f"Sentinel-1/SAR/CARD-COH6/{OBSTIME:%Y/%m/%d}/{C6}/{C6}.tif"
SIDE = 22_000
MIDDLE = (GRID.left + 50_000, GRID.top - 50_000)

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


PARCELS: dict[str, Shapes] = {
    "300,000 sound parcels": list,
    "star, 1,000,000 vertices, r = 10 km": lambda: [star(1_000_000, 10_000)],
    "noise, 20,000 vertices in 20 km": lambda: [noise(20_000)],
    "zigzag, 8,000 vertices, 20 x 80 km": lambda: [zigzag(8_000)],
    "2,000 parcels of 3,000 vertices": many_vertices,
    "four squares of 62 km": lambda: [
        square(62_000, GRID.left + 1_000 + 100 * n, GRID.top - 1_000 - 100 * n) for n in range(4)
    ],
    "100 zigzags with runs in every second pixel": lambda: [
        zigzag(2_000, 10, 19_900, MIDDLE[0] - 10_000 + 10 * n) for n in range(100)
    ],
    "1,000 equal squares of 19 km as one parcel": lambda: [shapely.MultiPolygon([square(19_000)] * 1000)],
}


COMPRESSIONS = ("lerc", "deflate", "zstd")


def one_block(path: Path, compress: str) -> None:
    """A GeoTIFF of two bands, each of them one block of a gigabyte."""
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=2, dtype="uint16", crs=f"EPSG:{GRID.epsg}",
        transform=GRID.transform, blockysize=SIDE, compress=compress, interleave="band", BIGTIFF="YES",
    ) as file:  # fmt: skip
        pixels = np.full((SIDE, SIDE), 500, "u2")
        for band in (1, 2):
            file.write(pixels, band)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=Path, help="folder for the synthetic product, kept (default: temporary)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="the worker of another checkout as well")
    parser.add_argument("--only", nargs="*", help="inputs whose names hold one of these words")
    options = parser.parse_args()
    checkouts = [ROOT, *filter(None, [options.against])]
    with tempfile.TemporaryDirectory(prefix="products-") as temporary:
        product = make_product("s2", options.products or Path(temporary))
        with stage("s2", product) as scene:
            for name, put in inputs(scene, Path(temporary)):
                if options.only and not any(word in name for word in options.only):
                    continue
                put()
                results = [measured(scene, checkout.resolve()) for checkout in checkouts]
                print(f"| {name} | {' | '.join(results)} |", flush=True)
    return 0


def inputs(scene: Stage, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each input's name, and what puts it before the workers."""
    scene.put_aoi()
    for name, shapes in PARCELS.items():
        yield name, lambda shapes=shapes: put_parcels(scene, shapes())  # type: ignore[misc]
    for compress in COMPRESSIONS:
        yield f"GeoTIFF, one {compress} block of 22,000 x 22,000", lambda c=compress: put_geotiff(scene, folder, c)  # type: ignore[misc]


def put_parcels(scene: Stage, shapes: Sequence[shapely.Geometry]) -> None:
    """300,000 sound parcels, or only these shapes in the CRS of the image."""
    scene.card = "s2"
    scene.put_parcels(1 if shapes else 300_000)
    with scene.connection, scene.connection.cursor() as cursor:
        if shapes:
            cursor.execute("TRUNCATE parcels")
        for shape in shapes:
            statement = "INSERT INTO parcels (wkb_geometry) SELECT ST_Multi(ST_Transform(ST_GeomFromWKB(%s, %s), 3035))"
            cursor.execute(statement, (shapely.to_wkb(shape), GRID.epsg))


def put_geotiff(scene: Stage, folder: Path, compress: str) -> None:
    """A scene of coherence under sound parcels."""
    scene.card = "c6"
    scene.put_parcels(10_000)
    with scene.connection, scene.connection.cursor() as cursor:
        cursor.execute("DELETE FROM dias_catalogue WHERE card = 'c6'")
    tables.add_scene(scene.connection, C6, OBSTIME, "c6", GRID.footprint(SHAPES["s2"]), status="extracted")
    path = folder / "block.tif"
    one_block(path, compress)
    scene.client.put_object(Bucket=BUCKET, Key=C6_KEY, Body=path.read_bytes())


def measured(scene: Stage, checkout: Path) -> str:
    """One run of a worker: its peak memory and seconds, and how it ended."""
    with scene.connection, scene.connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS signatures, extraction_log")
        cursor.execute("UPDATE dias_catalogue SET status = 'ingested'")
    scene.write_config({})
    command = [sys.executable, "-m", f"extractors.{scene.card}"]
    with (scene.folder / "worker.log").open("w+b") as log:
        worker = subprocess.Popen(command, cwd=scene.folder, stdout=log, stderr=log, env=command_environment(checkout))
        peak, began = 0, time.monotonic()
        while worker.poll() is None and peak < MOST_BYTES and time.monotonic() < began + LONGEST_SECONDS:
            with suppress(OSError, ValueError):
                text = Path(f"/proc/{worker.pid}/status").read_text()
                peak = max([peak, *(1024 * int(line.split()[1]) for line in text.splitlines() if "VmHWM" in line)])
            time.sleep(0.02)
        ended = worker.poll() is not None
        worker.kill()
        worker.wait()
        seconds = time.monotonic() - began
    with scene.connection, scene.connection.cursor() as cursor:
        cursor.execute("SELECT outcome, detail FROM extraction_log WHERE outcome IS NOT NULL")
        outcome, detail = cursor.fetchone() or ("", "")
    if not ended:
        return (
            f"over 4,000 MB, {seconds:.0f} s" if peak >= MOST_BYTES else f"{peak / 1e6:,.0f} MB, not in {seconds:.0f} s"
        )
    print(detail, file=sys.stderr)
    return f"{peak / 1e6:,.0f} MB, {seconds:.0f} s, {outcome or worker.returncode}"


if __name__ == "__main__":
    sys.exit(main())
