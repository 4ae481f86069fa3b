"""Both engines on the same chunks of parcels: `python -m benchmarks.zonal`.

One core (the process pins itself to one). For each size of parcels and type of pixels: seconds of each engine for the
same chunk, their ratio, parcels x bands per second, peak memory of the fast engine. The numbers of both are compared
before anything is timed.
"""

import argparse
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
from affine import Affine

from benchmarks.fields import fields
from extractors.statistics.grid import Array, Geometries, Grid, Polygons
from extractors.statistics.zonal import ENGINES, agree

WEST, NORTH = 600_000.0, 5_400_000.0
HECTARES = (0.5, 4.0, 40.0)
CHUNK = 2000


def main() -> int:
    """Run the command; 1 if the engines disagree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=5, help="chunks to time, each once with both engines")
    parser.add_argument("--parcels", type=int, default=CHUNK, help="parcels of a chunk")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(
        f"{os.cpu_count()} cores, of which one is used; {options.chunks} chunks of {options.parcels} parcels, medians"
    )
    titles = f"{'ha':>5} {'bands':28} {'rasterstats s':>13} {'scanline s':>11} {'ratio':>6}"
    print(f"{titles} {'parcels x bands/s':>18} {'peak MB':>8}")
    _run("scanline", *_chunk(1, "s2", 10, 0))  # loads what the engine needs
    for hectares in HECTARES:
        for name, types in (("s2: 2 uint16 10 m, uint8 20 m", "s2"), ("2 float32 10 m", "float32")):
            if not _measure(hectares, name, types, options.chunks, options.parcels):
                return 1
    return 0


def _measure(hectares: float, name: str, types: str, chunks: int, parcels: int) -> bool:
    slow_seconds, fast_seconds, peaks = [], [], []
    bands = 0
    for seed in range(chunks):
        geometries, rasters = _chunk(hectares, types, parcels, seed)
        bands = sum(len(arrays) for _, arrays in rasters)
        fast, seconds, peak = _timed(partial(_run, "scanline", geometries, rasters))
        slow, slow_time, _ = _timed(partial(_run, "rasterstats", geometries, rasters))
        for ours, theirs, array in zip(fast, slow, [a for _, arrays in rasters for a in arrays], strict=True):
            if not agree(ours, theirs, array.dtype).all():
                print(f"the engines disagree: {name}, {hectares} ha, seed {seed}", file=sys.stderr)
                return False
        fast_seconds.append(seconds)
        slow_seconds.append(slow_time)
        peaks.append(peak)
    fast_median, slow_median = statistics.median(fast_seconds), statistics.median(slow_seconds)
    ratio = statistics.median(s / f for s, f in zip(slow_seconds, fast_seconds, strict=True))
    rate = parcels * bands / fast_median
    print(
        f"{hectares:5.1f} {name:28} {slow_median:13.3f} {fast_median:11.4f} {ratio:6.1f} {rate:18,.0f} "
        f"{max(peaks) / 1e6:8.1f}",
        flush=True,
    )
    return True


def _chunk(hectares: float, types: str, parcels: int, seed: int) -> tuple[Geometries, list[tuple[Grid, list[Array]]]]:
    """Parcels in a square, and the rasters under them."""
    random = np.random.default_rng(seed)
    columns = int(np.ceil(parcels**0.5))
    side = (hectares * 10_000) ** 0.5
    geometries = fields(parcels, hectares, WEST + 33, NORTH - 47, columns, seed)
    size = int(np.ceil((columns + 1) * side / 20)) * 2 + 10

    def grid(pixel: float) -> Grid:
        rows = int(size * 10 / pixel)
        return Grid(Affine(pixel, 0, WEST, 0, -pixel, NORTH), (rows, rows))

    ten, twenty = grid(10), grid(20)
    if types == "float32":
        return geometries, [(ten, [random.gamma(4, 0.02, ten.shape).astype("f4") for _ in range(2)])]
    return geometries, [
        (ten, [random.integers(0, 5000, ten.shape).astype("u2") for _ in range(2)]),
        (twenty, [random.integers(0, 12, twenty.shape).astype("u1")]),
    ]


def _run(engine: str, geometries: Geometries, rasters: list[tuple[Grid, list[Array]]]) -> list[Array]:
    tables = []
    polygons = Polygons(geometries)
    for grid, arrays in rasters:
        zones = ENGINES[engine](polygons.on(grid))
        tables += [zones.statistics(array, 0) for array in arrays]
    return tables


def _timed(run: Callable[[], list[Array]]) -> tuple[list[Array], float, int]:
    """Result, seconds, and peak of the memory allocated meanwhile (measured in a run of its own)."""
    started = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - started
    tracemalloc.start()
    if seconds < 1:
        run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, seconds, peak


if __name__ == "__main__":
    sys.exit(main())
