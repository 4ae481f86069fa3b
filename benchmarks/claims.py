"""Many workers that claim: `python -m benchmarks.claims [--scenes N] [--sessions N] [--seconds N] [--corners N]`.

Sessions in threads claim scenes and set them `extracted`, on a catalogue as others have made it, and then with the
indexes that `--check` names. The AOI has 1,000 corners, or as many as are asked for. Prints claims per second, and how
long a claim takes.
"""

import argparse
import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg2.extensions
import shapely

from benchmarks.stage import cluster
from demo import tables
from demo.servers import Postgis
from extractors.config import DatabaseFile
from extractors.database.connection import Database
from extractors.database.making import make_tables
from extractors.database.queue import Queue
from extractors.database.tables import TableReader
from extractors.labels import layers
from extractors.model import Outcome, ParcelCounts
from extractors.s2 import CARD

DATABASE = "claims"
SCENES = """
INSERT INTO dias_catalogue (obstime, reference, sensor, card, footprint)
SELECT timestamp '2020-01-01' + n * interval '5 minutes', 'S2A_' || n, '2A', 's2',
       ST_MakeEnvelope(14.2 + n %% 7 * 0.1, 45.2 + n %% 5 * 0.1, 15.2 + n %% 7 * 0.1, 46.2 + n %% 5 * 0.1, 4326)
FROM generate_series(1, %s) n"""
KINDS = {
    "keys only": "ANALYZE",
    "the indexes that --check names": "CREATE INDEX ON dias_catalogue (card, obstime, id) WHERE status = 'ingested';"
    "ANALYZE",
}


@dataclass(frozen=True)
class Size:
    """Scenes of the catalogue, corners of the AOI, sessions that claim, and seconds for which they do."""

    scenes: int = 100_000
    sessions: int = 50
    seconds: float = 20.0
    corners: int = 1_000


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in vars(Size()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    size = Size(**vars(parser.parse_args()))
    with cluster() as (_, postgis):
        for line in measure(postgis, size):
            print(line, flush=True)
    return 0


def measure(postgis: Postgis, size: Size) -> Iterator[str]:
    """What is to be said of each kind of catalogue."""
    postgis.create_database(DATABASE)
    with closing(postgis.connect(DATABASE)) as admin:
        fill(admin, size.scenes, size.corners)
        admin.autocommit = True
        for kind, statement in KINDS.items():
            with admin.cursor() as cursor:
                cursor.execute("UPDATE dias_catalogue SET status = 'ingested' WHERE status <> 'ingested'")
                cursor.execute(statement)
            taken = claims(settings(postgis), size.sessions, size.seconds)
            longest = sorted(taken)[len(taken) * 99 // 100]
            yield (
                f"{kind}: {len(taken) / size.seconds:.0f} claims/s by {size.sessions} sessions, each in "
                f"{statistics.median(taken) * 1000:.0f} ms, one of a hundred in {longest * 1000:.0f} ms"
            )


def fill(admin: psycopg2.extensions.connection, scenes: int, corners: int) -> None:
    """Catalogue, area and parcels."""
    tables.create_catalogue(admin)
    tables.create_aois(admin)
    tables.create_parcels(admin, "parcels", 4326)
    steps = [(index * math.tau / corners, 1.5 + index % 2 * 1e-4) for index in range(corners)]
    outline = [(15 + radius * math.cos(angle), 46 + radius * math.sin(angle)) for angle, radius in steps]
    tables.add_aoi(admin, "benchmark", shapely.Polygon(outline).wkt)
    tables.add_parcels(admin, "parcels", [shapely.box(15, 46, 15.01, 46.01)], 4326)
    with admin, admin.cursor() as cursor:
        cursor.execute(SCENES, (scenes,))


def settings(postgis: Postgis) -> DatabaseFile:
    """The configuration of all sessions."""
    names = {"aoi_table": "aois", "parcel_table": "parcels", "results_table": "signatures"}
    args = {"aoi_field": "name", "name": "benchmark", "startdate": "2020-01-01", "enddate": "2030-01-01"}
    document = {"connection": postgis.connection_config(DATABASE), "tables": names, "args": args}
    return DatabaseFile.model_validate({"database": document})


def claims(config: DatabaseFile, sessions: int, seconds: float) -> list[float]:
    """The seconds that each claim took, of all that ended in time."""
    labels = [label for _, label in layers(CARD.code, "classic")]
    taken: list[float] = []
    opened: list[tuple[Database, Queue]] = []
    for _ in range(sessions):
        database = Database(config, "db_config.json")
        made = make_tables(database, TableReader(database, config, "db_config.json", labels, False).all())
        opened.append((database, Queue(database, made, config, CARD.code, labels)))
    end = time.monotonic() + seconds

    def work(queue: Queue) -> None:
        while True:
            started = time.monotonic()
            scene = queue.claim()
            now = time.monotonic()
            if scene is None:
                return
            queue.give_back(scene, Outcome("extracted", "extracted", ""), ParcelCounts())
            queue.unlock()
            if now > end:
                return
            taken.append(now - started)

    threads = [threading.Thread(target=work, args=(queue,)) for _, queue in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database, _ in opened:
        database.close()
    return taken


if __name__ == "__main__":
    sys.exit(main())
