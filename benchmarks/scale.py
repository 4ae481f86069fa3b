"""Tables of a country's size: `python -m benchmarks.scale [--rows N] [--parcels N] [--reads N] [--buffers SIZE]`.

Fills a results table with made-up scenes in the bytes that workers send (four tiles in turn; numbers of parcels say
nothing of where they lie, the worst case for readers), once as `operations setup` makes it and once in partitions, and
prints a table: COPY of a scene, one parcel's series and that of a hundred, replacing a scene, bytes per row. Then
claims, from a catalogue of 100,000 scenes. The server writes to the disk as one does that has to last.
"""

import argparse
import json
import os
import statistics
import sys
import time
from array import array
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2.extensions
import shapely
from psycopg2 import sql

from benchmarks import claims
from benchmarks.page import command, document
from benchmarks.stage import cluster
from demo import tables
from demo.servers import Postgis
from extractors.config import DatabaseFile
from extractors.database.connection import Database
from extractors.database.copy import encode_signatures
from extractors.database.results import ROWS_AT_ONCE, ResultsTable
from extractors.database.spool import Spool
from extractors.database.tables import TableReader
from extractors.signatures import NAMES, Signatures

LABELS = ("B4", "B8", "SC")
TILES = 4
CHUNK = 2_000
# Of a tile's parcels that have a row: 808,000 rows of a scene with three bands and 300,000 parcels.
SHARE = 0.898
SCENES_OF_A_PARTITION = 5
# Scenes at the beginning and at the end whose COPY is timed.
TIMED = 3
MANY_PARCELS = 100
# As with the stack's database. Numbers of a server that need not last would be others.
LASTING = {"fsync": "on", "full_page_writes": "on", "max_wal_size": "4GB"}
LAYOUTS = {"plain, BRIN": (), "partitions": ("--partitioned", str(SCENES_OF_A_PARTITION))}
SCENES = """
INSERT INTO dias_catalogue (obstime, reference, sensor, card, status, footprint)
SELECT timestamp '2020-01-01' + n * interval '1 hour', 'S2A_' || n, '2A', 's2', 'extracted',
       ST_MakeEnvelope(14, 45, 16, 47, 4326)
FROM generate_series(1, %s) n"""
FILES = """
SELECT oid FROM pg_class WHERE oid = 'signatures'::regclass
UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'signatures'::regclass"""
SIZES = f"SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)) FROM ({FILES}) files"
SERIES = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM signatures WHERE pid = ANY(%s)"

Figures = dict[str, str]


@dataclass(frozen=True)
class Size:
    """How much is made: rows of the table, parcels of a tile; and how many readers are timed."""

    rows: int
    parcels: int
    reads: int

    @property
    def scenes(self) -> int:
        """How many scenes fill the table."""
        return max(2 * TIMED, round(self.rows / (self.parcels * SHARE * len(LABELS))))

    @property
    def new(self) -> range:
        """Scenes that come later, in a partition that is still open."""
        first = (self.scenes // SCENES_OF_A_PARTITION + 1) * SCENES_OF_A_PARTITION
        return range(first, first + TIMED)


class Scenes:
    """Rows of scenes, the same ones for the same number."""

    def __init__(self, parcels: int, folder: Path) -> None:
        self._tiles = np.array_split(np.random.default_rng(7).permutation(TILES * parcels) + 1, TILES)
        self._folder = folder

    def rows(self, table: ResultsTable, obsid: int) -> tuple[Spool, "array[int]"]:
        """Encoded as a worker does it, chunk by chunk; and the parcels that they are of."""
        random = np.random.default_rng(obsid)
        tile = self._tiles[obsid % TILES]
        pids = tile[random.random(len(tile)) < SHARE]
        spool = Spool(self._folder, 1 << 30, ROWS_AT_ONCE)
        for part in np.array_split(pids, max(1, len(pids) // CHUNK)):
            values = [random.normal(1000, 200, (len(part), len(NAMES))) for _ in LABELS]
            parts = [Signatures(label, part, value) for label, value in zip(LABELS, values, strict=True)]
            spool.add(encode_signatures(table, obsid, *parts), len(part) * len(LABELS))
        return spool, array("q", pids.tolist())


class Table:
    """A results table in a database of its own, and what is measured of it."""

    def __init__(self, postgis: Postgis, folder: Path, size: Size, setup: tuple[str, ...]) -> None:
        self._postgis, self._folder, self._size = postgis, folder, size
        self._name = f"scale{len(setup)}"
        self._scenes = Scenes(size.parcels, folder)
        postgis.create_database(self._name)
        content = document(postgis.connection_config(self._name))
        path = folder / "db_config.json"
        path.touch(0o600)
        path.write_text(json.dumps(content))
        with closing(postgis.connect(self._name)) as admin:
            prepare(admin, size.new[-1])
        command(folder, "setup", *setup)
        config = DatabaseFile.model_validate(content)
        self._database = Database(config, path.name)
        self._table = ResultsTable(TableReader(self._database, config, path.name, LABELS, False).all().results)

    def measure(self) -> Figures:
        """Everything, in the order of a season."""
        seconds = [self._copy(scene) for scene in range(1, self._size.scenes + 1)]
        found = {"COPY of a scene, empty table": in_seconds(seconds[:TIMED])}
        found["COPY of a scene, full table"] = in_seconds(seconds[-TIMED:])
        found["a parcel's series, no index on the parcels"] = self._series(1, min(3, self._size.reads))
        self._database.close()
        began = time.perf_counter()
        command(self._folder, "index")
        found["operations index"] = in_seconds([time.perf_counter() - began])
        self._restart()
        for number, name in ((1, "a parcel's series"), (MANY_PARCELS, f"series of {MANY_PARCELS} parcels")):
            found[f"{name}, cold"] = self._series(number, self._size.reads)
            found[f"{name}, warm"] = self._series(number, self._size.reads)
        found["COPY of a scene, after the index"] = in_seconds([self._copy(scene) for scene in self._size.new])
        replaced = [self._replace(scene) for scene in range(1, TIMED + 1)]
        found["replacing a scene: DELETE"] = in_seconds([deleting for deleting, _ in replaced])
        found["replacing a scene: COPY"] = in_seconds([copying for _, copying in replaced])
        return found | self._bytes()

    def close(self) -> None:
        """Make room for the next one."""
        self._database.close()
        self._postgis.drop_database(self._name)

    def _copy(self, scene: int) -> float:
        spool, _ = self._scenes.rows(self._table, scene)
        with spool:
            began = time.perf_counter()
            with self._database.transaction("copying") as cursor:
                self._table.copy(cursor, spool)
            return time.perf_counter() - began

    def _replace(self, scene: int) -> tuple[float, float]:
        """Seconds to delete the rows, and to write them anew and commit; as a worker does it."""
        spool, pids = self._scenes.rows(self._table, scene)
        with spool:
            began = time.perf_counter()
            with self._database.transaction("replacing") as cursor:
                self._table.clear(cursor, scene, True, pids)
                between = time.perf_counter()
                self._table.copy(cursor, spool)
            return between - began, time.perf_counter() - between

    def _series(self, number: int, times: int) -> str:
        """Milliseconds and pages of a query for so many parcels, medians; the same parcels every time."""
        random = np.random.default_rng(number)
        found = []
        with self._database.transaction("reading") as cursor:
            for _ in range(times):
                cursor.execute(SERIES, (random.integers(1, TILES * self._size.parcels, number).tolist(),))
                ((plans,),) = cursor.fetchall()
                plan: dict[str, Any] = plans[0]
                pages = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
                found.append((plan["Execution Time"], pages))
        milliseconds, read = (statistics.median(values) for values in zip(*found, strict=True))
        return f"{milliseconds:.1f} ms [{read:.0f}]"

    def _restart(self) -> None:
        """Have neither the server nor the system remember what it has read."""
        self._postgis.stop()
        for path in self._postgis.room.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._postgis.start()
        self._database.reopen()

    def _bytes(self) -> Figures:
        with self._database.transaction("looking at sizes") as cursor:
            cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(self._table.table.identifier))
            ((rows,),) = cursor.fetchall()
            cursor.execute(SIZES)
            ((heap, indexes),) = cursor.fetchall()
        return {
            "rows": f"{rows:,}",
            "bytes per row, and of indexes": f"{float(heap) / rows:.1f}, {float(indexes) / rows:.1f}",
        }


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--parcels", type=int, default=300_000, help="of a tile")
    parser.add_argument("--reads", type=int, default=20, help="queries that a median is of")
    parser.add_argument("--buffers", default="1GB", help="shared_buffers of the server")
    parser.add_argument("--scenes", type=int, default=100_000, help="of the catalogue from which is claimed")
    options = parser.parse_args()
    size = Size(options.rows, options.parcels, options.reads)
    with cluster(LASTING | {"shared_buffers": options.buffers}) as (folder, postgis):
        print_table({layout: measured(postgis, folder, size, setup) for layout, setup in LAYOUTS.items()})
        for line in claims.measure(postgis, claims.Size(scenes=options.scenes)):
            print(line, flush=True)
    return 0


def measured(postgis: Postgis, folder: Path, size: Size, setup: tuple[str, ...]) -> Figures:
    """All figures of a layout."""
    table = Table(postgis, folder, size, setup)
    try:
        return table.measure()
    finally:
        table.close()


def prepare(admin: psycopg2.extensions.connection, scenes: int) -> None:
    """The tables of others: all scenes are done."""
    tables.create_catalogue(admin)
    tables.create_aois(admin)
    tables.create_parcels(admin, "parcels", 4326)
    area = shapely.box(15, 46, 15.01, 46.01)
    tables.add_aoi(admin, "benchmark", area.wkt)
    tables.add_parcels(admin, "parcels", [area], 4326)
    with admin, admin.cursor() as cursor:
        cursor.execute(SCENES, (scenes,))


def in_seconds(values: list[float]) -> str:
    """Their median."""
    return f"{statistics.median(values):.2f} s"


def print_table(figures: dict[str, Figures]) -> None:
    """What was measured, a column for each layout; in the form in which README.md has its tables."""
    lines = [["", *figures], ["---"] * (len(figures) + 1)]
    lines += [[name, *(found[name] for found in figures.values())] for name in next(iter(figures.values()))]
    for cells in lines:
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
