"""Bad scenes among good ones: `python -m benchmarks.poison [--pixels N] [--good N] [--workers N] [--usual]`.

Good scenes alone, and the same with one bad scene of each kind that the tests know (`tests/support/poisons.py`) in
front of them, both with the same servers and as many workers. Prints until when the good ones are extracted, the ratio
of both, processor seconds of the workers, and what each kind of bad scene takes.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.fields import fields
from benchmarks.stage import cluster
from demo.products import write_s2
from demo.servers import S3Server
from tests.faults.spoilt_store import SpoiltStore
from tests.support.ground import GRID, footprint, ground
from tests.support.poisons import OBJECTS, ROWS
from tests.support.scenes import Scene
from tests.support.workspace import Workspace

HECTARES = 4.0
LONGEST_SECONDS = 7200.0
QUICK = {"max_attempts": 2, "retry_pause_seconds": 0.1, "outage_pause_seconds": 0.1, "outages_in_a_row": 3}
ATTEMPTS = """
SELECT obsid, count(*), sum(extract(epoch FROM finished_at - started_at))::float8,
       extract(epoch FROM max(finished_at))::float8
FROM extraction_log GROUP BY obsid"""


@dataclass(frozen=True)
class Side:
    """good: wall seconds until the good scenes were extracted; all: until the workers ended; processor: seconds of the
    workers. kinds: of each kind of bad scene, its attempts and their wall seconds."""

    good: float
    all: float
    processor: float
    kinds: Mapping[str, tuple[int, float]]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=2745, help="side of a scene (10,980: a whole tile)")
    parser.add_argument("--good", type=int, default=12, help="good scenes")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--usual", action="store_true", help="usual attempts and pauses, not those of the tests")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {options.workers} workers, {options.good} good scenes of {options.pixels} pixels")
    with cluster() as (folder, postgis), S3Server() as store:
        bodies = product(folder / "product", options.pixels)
        sides = []
        for bad in (False, True):
            with SpoiltStore(store) as spoilt:
                workspace = Workspace(postgis, store, folder / f"bad {bad}")
                spoilt.serve(workspace, **({} if options.usual else {"retry_seconds": 0}))
                workspace.extraction.update({"chunk_size": 2000} if options.usual else {"chunk_size": 2000, **QUICK})
                if options.usual:
                    del workspace.extraction["max_attempts"]
                sides.append(measure(Ground(workspace, bodies, options.pixels), spoilt if bad else None, options))
                workspace.close()
    alone, among = sides
    for title, side in (("alone", alone), ("among bad ones", among)):
        print(
            f"{title}: good ones extracted after {side.good:.1f} s, workers ended after {side.all:.1f} s, "
            f"{side.processor:.1f} processor s"
        )
    print(f"ratio: {among.good / alone.good:.2f} (processor {among.processor / alone.processor:.2f})")
    for kind, (attempts, seconds) in sorted(among.kinds.items(), key=lambda item: -item[1][1]):
        print(f"{kind:50} {attempts} attempts {seconds:7.2f} s")
    return 0


def product(folder: Path, pixels: int) -> dict[str, bytes]:
    """Band -> the file of a scene of this size, with patches of the size of fields and some noise."""
    random = np.random.default_rng(1)

    def patches(highest: int, size: int, side: int) -> NDArray[np.int64]:
        few = random.integers(1, highest, (side // size + 1, side // size + 1))
        return np.repeat(np.repeat(few, size, axis=0), size, axis=1)[:side, :side]

    bands = {band: patches(3000, 20, pixels) + random.integers(0, 80, (pixels, pixels)) for band in ("B04", "B08")}
    bands["SCL"] = patches(12, 10, pixels // 2)
    keys = write_s2(folder, "S2A_MSIL2A_20200101T100031_N0214_R122_T33TVM_20200101T120000.SAFE", bands, GRID)
    return {band: (folder / key).read_bytes() for band, key in keys.items()}


class Ground:
    """A workspace with scenes that all have the same files."""

    def __init__(self, workspace: Workspace, bodies: Mapping[str, bytes], pixels: int) -> None:
        self.workspace, self._bodies = workspace, bodies
        self._area = ground(shape=(pixels, pixels))
        workspace.query("ALTER TABLE dias_catalogue ALTER footprint TYPE geometry, ALTER reference DROP NOT NULL")
        workspace.query("DELETE FROM aois")
        workspace.query("INSERT INTO aois VALUES ('my_aoi', ST_GeomFromText(%s, 4326))", footprint(self._area))
        per_row = int(pixels * GRID.pixel / (HECTARES * 10_000) ** 0.5)
        workspace.add_parcels(list(fields(per_row * per_row, HECTARES, GRID.left, GRID.top, per_row)))
        workspace.query("ANALYZE parcels")

    def add(self, day: str) -> Scene:
        """A scene of this day."""
        scene = self.workspace.add_s2(f"{day}T10:00:31", where=footprint(self._area))
        for band, body in self._bodies.items():
            self.workspace.write(scene.keys[band], body)
        return scene


def measure(place: Ground, spoilt: SpoiltStore | None, options: argparse.Namespace) -> Side:
    """Extract the good scenes; with bad ones in front of them, if there is a store to spoil."""
    workspace, kinds = place.workspace, {}
    for day, name in enumerate((*ROWS, *OBJECTS) if spoilt else (), start=1):
        scene = place.add(f"2020-03-{day:02}")
        kinds[scene.id] = name
        if spoilt and name in OBJECTS:
            OBJECTS[name](spoilt, f"202003{day:02}")
        else:
            ROWS[name][0](workspace, scene)
    good = [place.add(f"2020-04-{day:02}").id for day in range(1, options.good + 1)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    workers = [workspace.start("s2", "--all") for _ in range(options.workers)]
    for worker in workers:
        worker.wait(LONGEST_SECONDS)
    ended, after = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    attempts = {row[0]: row[1:] for row in workspace.query(ATTEMPTS)}
    if {workspace.status(scene) for scene in good} != {"extracted"}:
        raise RuntimeError(workers[0].stderr)
    return Side(
        max(attempts[scene][2] for scene in good) - started,
        ended - started,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        {name: (attempts[scene][0], attempts[scene][1]) for scene, name in kinds.items() if scene in attempts},
    )


if __name__ == "__main__":
    sys.exit(main())
